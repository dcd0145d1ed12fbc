"""Named places where the fault tests end or stop the process; free when not asked for."""

from __future__ import annotations

import os
import signal

VARIABLE = "STREAMCORE_CRASH_POINT"
_NAME, _PASS, _SIGNAL = [*os.environ.get(VARIABLE, "").split(":"), "", ""][:3]
_left = int(_PASS or 1)


def crash_point(name: str) -> None:
    """Send this process SIGKILL at the n-th pass when ``STREAMCORE_CRASH_POINT=name[:n[:signal]]`` is set.

    With ``SIGSTOP`` as the signal it stands still there until SIGCONT, as a zombie does.
    """
    global _left
    if name == _NAME:
        _left -= 1
        if _left == 0:
            os.kill(os.getpid(), signal.Signals[_SIGNAL or "SIGKILL"])
