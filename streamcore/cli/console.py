"""The two rich consoles and how numbers are written."""

from __future__ import annotations

from rich.console import Console

WIDTH = 160
"""Columns where the output is no terminal: rich's own 80 would cut paths and messages."""


def out() -> Console:
    """Standard output: results only."""
    return _console(stderr=False)


def err() -> Console:
    """Standard error: progress and notes."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False, markup=False)
    if not console.is_terminal:
        console.width = WIDTH
    return console


def count(number: float) -> str:
    """``1234567`` -> ``1,234,567``"""
    return f"{number:,.0f}"


def short(number: float) -> str:
    """``431250`` -> ``431 k``; three digits."""
    for limit, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= limit * 0.9995:
            scaled = number / limit
            return f"{scaled:.{2 if scaled < 9.995 else 1 if scaled < 99.95 else 0}f}{unit}"
    return f"{number:.0f}"


def size(number: float) -> str:
    """Bytes: ``4_350_000`` -> ``4.35 MB``"""
    text = short(number)
    return (
        f"{text.replace(' k', ' kB').replace(' M', ' MB').replace(' G', ' GB')}"
        if " " in text
        else f"{text} B"
    )


def duration(seconds: float) -> str:
    """``3725`` -> ``1:02:05``, ``75`` -> ``1:15``"""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
