"""Runs the demo on a terminal of its own and draws what it shows as docs/images/demo.svg.

``python docs/images/render.py`` from the repository's folder. A frame of the live display, which
erases itself, is kept from the middle of each replay.
"""

from __future__ import annotations

import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from fcntl import ioctl
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parent.parent.parent
COLUMNS, ROWS = 104, 60
_TOKEN = re.compile(r"\x1b\[(?P<number>\d*)(?P<code>[AK])|(?P<newline>\r?\n)|(?P<return>\r)|\x1b\[\?25[lh]")


class Screen:
    """Lines with their colours; knows the few movements that rich's live display makes."""

    def __init__(self) -> None:
        self.lines, self.at = [""], 0

    def feed(self, text: str) -> None:
        place = 0
        for token in _TOKEN.finditer(text):
            self.lines[self.at] += text[place : token.start()]
            place = token.end()
            self._move(token)
        self.lines[self.at] += text[place:]

    def _move(self, token: re.Match[str]) -> None:
        if token["code"] == "A":
            self.at = max(0, self.at - int(token["number"] or 1))
        elif token["code"] == "K" or token["return"]:
            self.lines[self.at] = ""
        elif token["newline"]:
            self.at += 1
            if self.at == len(self.lines):
                self.lines.append("")


def transcript() -> list[str]:
    """The lines of the demo, with the last live frame above each summary."""
    terminal, inner = pty.openpty()
    ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    command = [sys.executable, "-m", "topologies.demo"]
    demo = subprocess.Popen(command, cwd=ROOT, stdin=inner, stdout=inner, stderr=inner)
    os.close(inner)
    screen, frame, begin = Screen(), list[str](), 0
    while data := _read(terminal):
        screen.feed(data.decode(errors="replace"))
        new = screen.lines[begin:]
        live = [i for i, line in enumerate(new) if "replaying" in line]
        ended = [begin + i for i, line in enumerate(new) if "finished" in line]
        if live and "rows/s" in "".join(new) and "  0 rows" not in "".join(new):
            frame = new[live[0] : live[0] + 3]
        elif ended:
            screen.lines[ended[0] : ended[0]] = frame
            screen.at += len(frame)
            begin, frame = ended[0] + len(frame) + 1, []
    demo.wait()
    return screen.lines


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # the other side has ended
        return b""


def main() -> None:
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    for line in transcript():
        console.print(Text.from_ansi(line))
    drawn = console.export_svg(title="make demo")
    drawn = re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.S)  # a picture loads nothing
    (ROOT / "docs" / "images" / "demo.svg").write_text(drawn, encoding="utf-8")


if __name__ == "__main__":
    main()
