"""Named places where the fault tests kill the process; free when not asked for."""

from __future__ import annotations

import os
import signal

_NAME, _, _PASS = os.environ.get("STREAMCORE_CRASH_POINT", "").partition(":")
_left = int(_PASS or 1)


def crash_point(name: str) -> None:
    """Kill this process with SIGKILL at the n-th pass when ``STREAMCORE_CRASH_POINT=name[:n]`` is set."""
    global _left
    if name == _NAME:
        _left -= 1
        if _left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
