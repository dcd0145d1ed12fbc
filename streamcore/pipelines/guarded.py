"""Processes of attempts: each under a guard, which ends it with its group when it may not go on.

See :mod:`streamcore.pipelines.guard` for when that is.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from streamcore.errors import Permanent

GUARD = Path(__file__).with_name("guard.py")
MOST_LINE = 65_536
"""Longer lines of output are cut."""
_STOP_SECONDS = 10.0


class Lifeline:
    """The deadline of all processes of an orchestrator, on the monotonic clock. They hear when it moves."""

    def __init__(self, seconds: float) -> None:
        self.deadline = time.monotonic() + seconds
        self._held: set[Guarded] = set()

    def extend(self, deadline: float) -> None:
        """The runs of this orchestrator are its own until *deadline*."""
        self.deadline = deadline
        for process in self._held:
            process.tell(f"{deadline}\n")

    def hold(self, process: Guarded) -> None:
        """Tell *process* from now on."""
        self._held.add(process)

    def let_go(self, process: Guarded) -> None:
        """It has ended."""
        self._held.discard(process)


class Guarded:
    """A process under its guard, with standard output and error in one stream of lines."""

    def __init__(self, process: asyncio.subprocess.Process, lifeline: Lifeline) -> None:
        self._process, self._lifeline = process, lifeline
        lifeline.hold(self)

    @staticmethod
    async def start(
        command: Sequence[str],
        lifeline: Lifeline,
        *,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
        keep: Sequence[int] = (),
    ) -> Guarded:
        """Start *command*, without a shell; it inherits the descriptors *keep*. Permanent: it can't be."""
        argv = [sys.executable, "-I", "-S", str(GUARD), str(lifeline.deadline), "--", *command]
        spawning = asyncio.ensure_future(
            asyncio.create_subprocess_exec(
                *argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                cwd=folder,
                pass_fds=keep,
                start_new_session=True,  # Ctrl-C is the orchestrator's business
                limit=MOST_LINE,
            )
        )
        try:
            process = await asyncio.shield(spawning)
        except asyncio.CancelledError:
            spawning.add_done_callback(_cut)
            raise
        except (OSError, ValueError) as error:
            what = f"{command[0]} can't be started: {getattr(error, 'strerror', None) or error}"
            raise Permanent(what, where=str(folder or Path.cwd()), fix="check command and folder") from None
        guarded = Guarded(process, lifeline)
        if lifeline.deadline != float(argv[4]):
            guarded.tell(f"{lifeline.deadline}\n")  # it moved while the process was made
        return guarded

    @property
    def gone(self) -> bool:
        """Whether the guard has ended, and with it the process."""
        return self._process.returncode is not None

    def tell(self, line: str) -> None:
        """Write a line to the guard, if it still listens."""
        pipe = self._process.stdin
        if pipe is not None and not pipe.is_closing():
            with suppress(ConnectionError):
                pipe.write(line.encode())

    async def wait(self, on_line: Callable[[str], None]) -> int:
        """The exit code; each line of output is handed to *on_line*. Cancelled, it stops the process."""
        try:
            await self._lines(on_line)
            return await self._process.wait()
        except asyncio.CancelledError:
            await asyncio.shield(self.stop(on_line))
            raise
        finally:
            self._lifeline.let_go(self)

    async def stop(self, on_line: Callable[[str], None] = lambda line: None) -> None:
        """End it, politely and then not; returns when no process of its group is left."""
        self.tell("stop\n")
        try:
            await asyncio.wait_for(self._ended(on_line), _STOP_SECONDS)
        except asyncio.TimeoutError:
            self.cut()
            await self._process.wait()
        finally:
            self._lifeline.let_go(self)

    def cut(self) -> None:
        """End the lifeline: its guard kills the group at once."""
        self._lifeline.let_go(self)
        if self._process.stdin is not None:
            self._process.stdin.close()

    async def _ended(self, on_line: Callable[[str], None]) -> None:
        await self._lines(on_line)
        await self._process.wait()

    async def _lines(self, on_line: Callable[[str], None]) -> None:
        stream = self._process.stdout
        assert stream is not None
        while True:
            try:
                line = await stream.readuntil(b"\n")
            except asyncio.IncompleteReadError as error:
                if error.partial:
                    on_line(_text(error.partial))
                return
            except asyncio.LimitOverrunError as error:
                line = await stream.readexactly(error.consumed or 1)
            on_line(_text(line))


def _cut(spawning: asyncio.Future[asyncio.subprocess.Process]) -> None:
    """Nobody wants the process any more: a guard that is killed could not end what it guards."""
    if not spawning.cancelled() and spawning.exception() is None and (pipe := spawning.result().stdin):
        pipe.close()


def _text(line: bytes) -> str:
    return line.decode(errors="replace").rstrip("\r\n").replace("\0", "\\0")
