"""Native server processes: spawned, waited for, ended by pid; nothing is left behind, also after failures."""

from __future__ import annotations

import atexit
import contextlib
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path

import psutil

from tests.services.install import LOG_TAIL, account
from tests.services.server import Unavailable

# Below Linux's ephemeral range (32768 and up): a client that keeps dialling the port of a stopped server in
# that range can be connected to itself by the kernel, and then the server can't have its port back.
_PORTS = range(20_000, 32_000)
_STOP_SECONDS = 20


def free_ports(count: int) -> list[int]:
    """*count* different ports of 127.0.0.1 that nothing listens on now."""
    with contextlib.ExitStack() as held:
        found: list[int] = []
        while len(found) < count:
            port = random.choice(_PORTS)
            listener = held.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                listener.bind(("127.0.0.1", port))
                found.append(port)
        return found


def port_open(host: str, port: int) -> bool:
    """Whether something accepts connections at *host*:*port*."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), 1):
        return True
    return False


_base: ContextVar[Path | None] = ContextVar("base", default=None)


@contextlib.contextmanager
def data_below(folder: Path) -> Iterator[None]:
    """Servers that are started in this block have their data below *folder*."""
    token = _base.set(folder)
    try:
        yield
    finally:
        _base.reset(token)


def data_folder(name: str) -> Path:
    """A temporary folder; mode 711, since a server that runs as another user must walk through it."""
    folder = Path(tempfile.mkdtemp(prefix=f"streamcore-{name}-", dir=_base.get()))
    folder.chmod(0o711)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


class Guard:
    """Kills a process group when we are killed: a shell that waits at a pipe whose other end we hold.

    We send it a line when the process has ended; the end of the file without a line means that we are gone.
    """

    def __init__(self, group: int) -> None:
        self._shell = subprocess.Popen(
            ["sh", "-c", f"read line || kill -9 -{group}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def release(self) -> None:
        """The process has ended: the guard ends too. Harmless when it is gone."""
        with contextlib.suppress(OSError, ValueError):
            self._shell.communicate(b"done\n")


def kill_tree(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL *process* and its children, and wait until they are gone; harmless when they are."""
    children: list[psutil.Process] = []
    if process.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess):
            children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    psutil.wait_procs(children, timeout=10)
    process.wait()


class Process:
    """The life of a native server: a guarded process in a session of its own, with its output in *folder*."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        folder: Path,
        ready: Callable[[], bool],
        ready_seconds: float,
        stop_signal: signal.Signals = signal.SIGTERM,
        user: str | None = None,
    ) -> None:
        self._command = list(command)
        self._folder = folder
        self._ready = ready
        self._ready_seconds = ready_seconds
        self._stop_signal = stop_signal
        self._user = account(user)
        self._log = folder / "server.log"
        self.start()

    @property
    def pid(self) -> int:
        """The process's id, also after its end."""
        return self._popen.pid

    def start(self) -> None:
        """Start the server and wait until it is ready; raises :class:`Unavailable` with its last lines."""
        with open(self._log, "ab") as output:
            self._popen = subprocess.Popen(
                self._command,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=self._user,
                group=self._user,
                extra_groups=None if self._user is None else [],
            )
        self._guard = Guard(self.pid)
        atexit.register(self.kill)
        try:
            self._wait_ready()
        except BaseException:
            self.kill()
            raise

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + self._ready_seconds
        name = Path(self._command[0]).name
        while not self._ready():
            if self._popen.poll() is not None:
                raise Unavailable(f"{name} ended with {self._popen.returncode}: {self._tail()}")
            if time.monotonic() > deadline:
                raise Unavailable(f"{name} was not ready in {self._ready_seconds:.0f} s: {self._tail()}")
            time.sleep(0.1)

    def _tail(self) -> str:
        return self._log.read_text(errors="replace")[-LOG_TAIL:].strip()

    def stop(self) -> None:
        """Ask the server to end, and kill it when it does not in 20 s; harmless when it is gone."""
        if self._popen.poll() is None:
            self._popen.send_signal(signal.SIGCONT)
            self._popen.send_signal(self._stop_signal)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(_STOP_SECONDS)
        self.kill()

    def kill(self) -> None:
        """SIGKILL the server and its children and wait until they are gone; harmless when they are.

        PostgreSQL's sessions outlive their postmaster for a moment and would hinder the next start.
        """
        atexit.unregister(self.kill)
        kill_tree(self._popen)
        self._guard.release()

    def remove(self) -> None:
        """Kill the server, since what is thrown away needs no orderly end, and delete its folder."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)
