"""Draws docs/images/idle.svg: what closes a window while a partition is idle, and when nothing comes.

``python docs/images/idle.py`` from the repository's folder.
"""

from __future__ import annotations

from pathlib import Path

LEFT, RIGHT, SECONDS = 170, 740, 180
BLUE, GREEN, GREY, ORANGE = "#1f77b4", "#2ca02c", "#999", "#ff7f0e"
ROWS = {"partition 0": (4, 12, 21, 30, 38, 47, 55, 63, 71, 80, 88), "partition 1": (7, 16, 26)}
TOPS = {"partition 0": 50, "partition 1": 100}


def x(second: float) -> float:
    """Where *second* of the clock stands."""
    return LEFT + (RIGHT - LEFT) * second / SECONDS


def text(at: float, y: float, words: str, anchor: str = "start", fill: str = "#333") -> str:
    return f'<text x="{at:.0f}" y="{y:.0f}" text-anchor="{anchor}" fill="{fill}">{words}</text>'


def bar(start: float, end: float, y: float, words: str, colour: str) -> str:
    box = f'<rect x="{x(start):.0f}" y="{y}" width="{x(end) - x(start):.0f}" height="24" rx="4" '
    box += f'fill="{colour}" fill-opacity="0.25" stroke="{colour}"/>'
    return box + text((x(start) + x(end)) / 2, y + 17, words, "middle", "#222")


def mark(second: float, words: str, y: float) -> str:
    line = f'<line x1="{x(second):.0f}" y1="30" x2="{x(second):.0f}" y2="{y - 14}" '
    line += f'stroke="{GREY}" stroke-dasharray="4 3"/>'
    return line + text(x(second), y, words, "middle")


def picture() -> str:
    """The picture as SVG."""
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 330" font-family="sans-serif" '
        'font-size="13" role="img" aria-label="Windows while one partition is idle, and while both are">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for name, seconds in ROWS.items():
        y = TOPS[name]
        parts.append(text(10, y + 4, name))
        parts.append(f'<line x1="{LEFT}" y1="{y}" x2="{RIGHT}" y2="{y}" stroke="#ddd"/>')
        parts += [f'<circle cx="{x(s):.0f}" cy="{y}" r="5" fill="{BLUE}"/>' for s in seconds]
    parts += [
        text(10, 152, "windows wait for"),
        bar(0, 86, 135, "both", GREEN),
        bar(86, 148, 135, "partition 0", GREEN),
        bar(148, 180, 135, "the clock", ORANGE),
        text(10, 197, "windows of 30 s"),
        bar(0, 30, 180, "0 - 30", BLUE),
        bar(30, 60, 180, "30 - 60", BLUE),
        bar(60, 90, 180, "60 - 90", BLUE),
        mark(86, "idle_after: those up to 60 close", 240),
        mark(148, "close_after: 60 - 90 closes", 265),
        f'<line x1="{LEFT}" y1="290" x2="{RIGHT}" y2="290" stroke="#666"/>',
        text(10, 294, "the clock"),
        *(text(x(s), 310, f"{s} s", "middle", "#666") for s in range(0, SECONDS + 1, 30)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    (Path(__file__).parent / "idle.svg").write_text(picture(), encoding="utf-8")
