"""Runs one command in a process group of its own and never lets it outlive the right to run it.

``python -I -S guard.py DEADLINE -- COMMAND ARGUMENT…``, started by :mod:`streamcore.pipelines.guarded`. It
imports nothing but a few modules of Python's own, so that it starts in some hundredths of a second.

Standard input is the lifeline. A line with a number is a new deadline on the monotonic clock: until then the
orchestrator owns the run. ``stop``: the group gets SIGTERM, and SIGKILL GRACE seconds later. The deadline
passed (the orchestrator stands still, and somebody else may have taken the run over), or the lifeline ended
(it died): SIGKILL at once. When the command ends by itself, what it left in its group is killed as well.

The exit code is the command's; 128 + the signal that ended it; 127 when it can't be started.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from contextlib import suppress

GRACE = 3.0


def main() -> None:
    """Guard the command of ``sys.argv`` and exit as it does."""
    deadline, command = float(sys.argv[1]), sys.argv[3:]
    pid = os.fork()
    if pid == 0:
        _become(command)
    os.closerange(3, 256)
    with suppress(OSError):  # it has done so itself, or has ended already
        os.setpgid(pid, pid)
    ended = os.pidfd_open(pid)
    _wait(pid, ended, deadline)
    _, status = os.waitpid(pid, 0)
    _kill(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 128 - code)


def _become(command: list[str]) -> None:
    os.setpgid(0, 0)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    try:
        os.execvp(command[0], command)  # noqa: S606 - that is its purpose
    except OSError as error:
        os.write(2, f"{command[0]} can't be started: {error.strerror}\n".encode())
        os._exit(127)


def _wait(pid: int, ended: int, deadline: float) -> None:
    """Until the command has ended, or was made to."""
    rest = b""
    while True:
        left = deadline - time.monotonic()
        ready, _, _ = select.select([0, ended], [], [], max(left, 0.0))
        if ended in ready:
            return
        data = os.read(0, 4096) if ready else b""
        if not data:
            _kill(pid, signal.SIGKILL)
            return
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if line == b"stop":
                _stop(pid, ended)
                return
            deadline = float(line)


def _stop(pid: int, ended: int) -> None:
    _kill(pid, signal.SIGTERM)
    if not select.select([ended], [], [], GRACE)[0]:
        _kill(pid, signal.SIGKILL)


def _kill(pid: int, number: int) -> None:
    with suppress(OSError):  # nobody is left
        os.killpg(pid, number)


if __name__ == "__main__":
    main()
