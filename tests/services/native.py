"""Native server processes: install once, spawn, wait until ready, stop by pid, leave nothing behind.

Installed files live in ``${XDG_CACHE_HOME:-~/.cache}/streamcore/services``, outside of the work tree, so
that a fresh clone is quick. Data lives in a temporary folder per server and goes with it. Every process has a
guard (see :class:`Process`) that ends it when pytest itself is killed.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil

# Below Linux's ephemeral range (32768 and up): a client that keeps dialling the port of a stopped server in
# that range can be connected to itself by the kernel, and then the server can't have its port back.
_PORTS = range(20_000, 32_000)
_LOG_TAIL = 2_000


class Unavailable(Exception):
    """This server can't be had on this machine; the text says why and what would help."""


def cache_folder() -> Path:
    """Where installed servers are kept between runs and clones."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = Path(base) / "streamcore" / "services"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def install_lock(name: str) -> Iterator[None]:
    """Hold the machine-wide lock *name*, so that two pytest processes do not install the same thing."""
    with open(cache_folder() / f"{name}.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def apt_install(*packages: str) -> None:
    """Install Debian *packages* without letting Debian start its own copy of a server.

    Raises :class:`Unavailable` where apt-get is missing, refused or fails.
    """
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise Unavailable(f"missing {' '.join(packages)}; run: sudo apt-get install {' '.join(packages)}")
    policy = Path("/usr/sbin/policy-rc.d")
    with install_lock("apt"):
        ours = not policy.exists()
        if ours:
            policy.write_text("#!/bin/sh\nexit 101\n")
            policy.chmod(0o755)
        try:
            env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
            run("apt-get", "update", "-qq", env=env, seconds=300)
            run("apt-get", "install", "-y", "-q", "--no-install-recommends", *packages, env=env, seconds=600)
        finally:
            if ours:
                policy.unlink(missing_ok=True)


def run(
    *command: str | Path,
    cwd: Path | None = None,
    user: str | None = None,
    env: dict[str, str] | None = None,
    seconds: float = 120,
) -> str:
    """Run *command* to its end and give what it printed; raises :class:`Unavailable` with its last lines."""
    account = _account(user)
    words = [str(word) for word in command]
    name = " ".join(words[:3])
    try:
        done = subprocess.run(
            words,
            cwd=cwd,
            env=env,
            timeout=seconds,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
            user=account,
            group=account,
            extra_groups=None if account is None else [],
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{name}: {error}") from error
    if done.returncode:
        raise Unavailable(f"{name} ended with {done.returncode}: {done.stdout[-_LOG_TAIL:].strip()}")
    return done.stdout


def _account(user: str | None) -> str | None:
    """The user to become: only root can, and anybody else stays who they are."""
    return user if os.geteuid() == 0 else None


def free_ports(count: int) -> list[int]:
    """*count* different ports of 127.0.0.1 that nothing listens on now."""
    found: dict[int, socket.socket] = {}
    try:
        while len(found) < count:
            port = random.choice(_PORTS)
            listener = socket.socket()
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                listener.close()
            else:
                found[port] = listener
        return list(found)
    finally:
        for listener in found.values():
            listener.close()


class Folder:
    """A temporary folder, removed by :meth:`remove` or when the interpreter ends.

    Mode 711: a server that runs as another user must be able to walk through it.
    """

    def __init__(self, name: str) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=f"streamcore-{name}-"))
        self.path.chmod(0o711)
        atexit.register(self.remove)

    def remove(self) -> None:
        """Delete the folder; harmless when it is gone."""
        shutil.rmtree(self.path, ignore_errors=True)
        atexit.unregister(self.remove)


class Process:
    """One server process: a session of its own, its output in a file, and a guard.

    The guard is a shell that waits at a pipe held by us. We send a line when the server has ended; the end of
    the file without a line means that pytest was killed, and then the guard kills the server's group.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        log: Path,
        user: str | None = None,
        cwd: Path | None = None,
        env: dict[str, str] | None = None,
    ) -> None:
        self.name = name
        self.log = log
        account = _account(user)
        with open(log, "ab") as output:
            self._popen = subprocess.Popen(
                [str(word) for word in command],
                cwd=cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=account,
                group=account,
                extra_groups=None if account is None else [],
            )
        self.pid: int = self._popen.pid
        self._guard = subprocess.Popen(
            ["sh", "-c", f"read line || kill -9 -- -{self.pid}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        atexit.register(self.stop)

    def alive(self) -> bool:
        """Whether the process runs (or is stopped by a signal)."""
        return self._popen.poll() is None

    def tail(self) -> str:
        """The last lines of its output."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return text[-_LOG_TAIL:].strip()

    def wait_ready(self, check: Callable[[], bool], seconds: float) -> None:
        """Ask *check* until it says yes; raises :class:`Unavailable` when the process ends or time is up."""
        deadline = time.monotonic() + seconds
        while not check():
            if not self.alive():
                raise Unavailable(f"{self.name} ended with {self._popen.returncode}: {self.tail()}")
            if time.monotonic() > deadline:
                raise Unavailable(f"{self.name} was not ready in {seconds:.0f} s: {self.tail()}")
            time.sleep(0.1)

    def stop(self, sig: int = signal.SIGTERM, seconds: float = 20) -> None:
        """Ask the process to end by *sig*, kill it after *seconds*; harmless when it is gone."""
        atexit.unregister(self.stop)
        if self.alive():
            self._popen.send_signal(signal.SIGCONT)
            self._popen.send_signal(sig)
            try:
                self._popen.wait(seconds)
            except subprocess.TimeoutExpired:
                self._popen.kill()
        self._end()

    def kill(self) -> None:
        """SIGKILL the process and its children, and wait until they are gone.

        PostgreSQL's sessions outlive their postmaster for a moment and would hinder the next start.
        """
        atexit.unregister(self.stop)
        children: list[psutil.Process] = []
        with contextlib.suppress(psutil.NoSuchProcess):
            children = psutil.Process(self.pid).children(recursive=True)
        self._popen.kill()
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        psutil.wait_procs(children, timeout=10)
        self._end()

    def _end(self) -> None:
        self._popen.wait()
        with contextlib.suppress(OSError, ValueError):
            self._guard.communicate(b"done\n")


def port_open(host: str, port: int) -> bool:
    """Whether something accepts connections at *host*:*port*."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), 1):
        return True
    return False
