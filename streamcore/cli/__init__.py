"""The command ``streamcore``. One module a command or group; nothing heavy is imported before its time."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point of the console script and of ``python -m streamcore.cli``."""
    from streamcore.cli.app import run

    sys.exit(run(sys.argv[1:]))
