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
from io import FileIO
from pathlib import Path

from streamcore.errors import Permanent

GUARD = Path(__file__).with_name("guard.py")
MOST_LINE = 65_536
"""Longer lines of output are cut."""
_STOP_SECONDS = 10.0
_MOST_IN_PIPE = 1 << 20
"""So many bytes a pipe holds at most, if its writer has no privileges."""


class Lifeline:
    """The deadline of all processes of an orchestrator, on the monotonic clock. They hear when it moves."""

    def __init__(self, seconds: float) -> None:
        self.deadline = time.monotonic() + seconds
        self.lapses = 0
        """How many deadlines had passed before they were moved: what ran then, its guard has killed."""
        self._held: set[Guarded] = set()

    def extend(self, deadline: float) -> None:
        """The runs of this orchestrator are its own until *deadline*."""
        before, self.deadline = self.deadline, deadline
        for process in self._held:
            process.tell(f"{deadline}\n")
        # Asked last: then the guards have heard in time, or it counts.
        self.lapses += time.monotonic() >= before

    def lapsed_since(self, lapses: int) -> bool:
        """Whether a deadline has passed since :attr:`lapses` were *lapses*."""
        return self.lapses > lapses or time.monotonic() >= self.deadline

    def hold(self, process: Guarded) -> None:
        """Tell *process* from now on."""
        self._held.add(process)

    def let_go(self, process: Guarded) -> None:
        """It has ended."""
        self._held.discard(process)


class Guarded:
    """A process under its guard, with standard output and error in one stream of lines."""

    def __init__(
        self, process: asyncio.subprocess.Process, output: _Output, lifeline: Lifeline, lapses: int
    ) -> None:
        self._process, self._output, self._lifeline, self._lapses = process, output, lifeline, lapses
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
        starting = asyncio.ensure_future(_started(command, lifeline, environment or {}, folder, keep))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            await asyncio.shield(_stopped(starting))
            raise
        except (OSError, ValueError) as error:
            what = f"{command[0]} can't be started: {getattr(error, 'strerror', None) or error}"
            raise Permanent(what, where=str(folder or Path.cwd()), fix="check command and folder") from None

    @property
    def gone(self) -> bool:
        """Whether the guard has ended, and with it the process, or must have: news of that may come late."""
        return self._process.returncode is not None or self._lifeline.lapsed_since(self._lapses)

    def tell(self, line: str) -> None:
        """Write a line to the guard, if it still listens."""
        pipe = self._process.stdin
        if pipe is not None and not pipe.is_closing():
            with suppress(ConnectionError):
                pipe.write(line.encode())

    async def wait(self, on_line: Callable[[str], None]) -> int:
        """The exit code; each line of output is handed to *on_line*. Cancelled, it stops the process.

        It ends with its process, also when that has left one behind which holds the output.
        """
        try:
            return await self._ended(on_line)
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
            self._output.end()
        finally:
            self._lifeline.let_go(self)

    def cut(self) -> None:
        """End the lifeline: its guard kills the group at once."""
        self._lifeline.let_go(self)
        if self._process.stdin is not None:
            self._process.stdin.close()

    async def _ended(self, on_line: Callable[[str], None]) -> int:
        reading = asyncio.ensure_future(self._output.read(on_line))
        try:
            code = await self._process.wait()
            self._output.end()
            await reading
        finally:
            reading.cancel()
            await asyncio.wait([reading])
        return code


class _Output:
    """Lines of a process, from a pipe of our own: for asyncio's its wait() waits until all have closed it."""

    def __init__(self, pipe: asyncio.ReadTransport, file: FileIO, reader: asyncio.StreamReader) -> None:
        self._pipe, self._file, self._reader = pipe, file, reader

    @staticmethod
    async def of(descriptor: int) -> _Output:
        """What comes out of the pipe whose reading end this is, which is its own from now on."""
        file, reader = FileIO(descriptor), asyncio.StreamReader(limit=MOST_LINE)
        loop = asyncio.get_running_loop()
        pipe, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), file)
        return _Output(pipe, file, reader)

    async def read(self, on_line: Callable[[str], None]) -> None:
        """Hand each line to *on_line*, until the end."""
        while True:
            try:
                line = await self._reader.readuntil(b"\n")
            except asyncio.IncompleteReadError as error:
                if error.partial:
                    on_line(_text(error.partial))
                return
            except asyncio.LimitOverrunError as error:
                line = await self._reader.readexactly(error.consumed or 1)
            on_line(_text(line))

    def end(self) -> None:
        """Nothing that is written from now on is read; what was written until now is."""
        if self._pipe.is_closing():
            return
        with suppress(BlockingIOError):  # it is empty
            self._reader.feed_data(os.read(self._file.fileno(), _MOST_IN_PIPE))
        self._reader.feed_eof()
        self._pipe.close()


async def _started(
    command: Sequence[str],
    lifeline: Lifeline,
    environment: Mapping[str, str],
    folder: Path | None,
    keep: Sequence[int],
) -> Guarded:
    deadline, lapses = lifeline.deadline, lifeline.lapses
    reading, writing = os.pipe()
    try:
        output = await _Output.of(reading)
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", str(GUARD), str(deadline), "--", *command),
                stdin=subprocess.PIPE,
                stdout=writing,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                cwd=folder,
                pass_fds=keep,
                start_new_session=True,  # Ctrl-C is the orchestrator's business
            )
        except BaseException:
            output.end()
            raise
    finally:
        os.close(writing)
    guarded = Guarded(process, output, lifeline, lapses)
    if lifeline.deadline != deadline:
        guarded.tell(f"{lifeline.deadline}\n")  # it moved while the process was made
    return guarded


async def _stopped(starting: asyncio.Future[Guarded]) -> None:
    """Nobody wants the process any more: it must not be left, and killing its guard would do that."""
    with suppress(OSError, ValueError):  # it was not started
        guarded = await starting
        guarded.cut()
        await guarded.stop()


def _text(line: bytes) -> str:
    return line.decode(errors="replace").rstrip("\r\n").replace("\0", "\\0")
