"""How an error is shown: what, where, what to do; one line each. With ``--json`` as a document."""

from __future__ import annotations

import json
import re
import traceback
from pathlib import Path

import click

from streamcore.errors import StreamcoreError

_SHOWN = 12
"""So many allowed values are listed; a table may have hundreds of columns."""


def report(error: BaseException, command: str, *, as_json: bool, debug: bool) -> int:
    """Show *error* of *command* and return its exit code: 2 when the user can mend it, else 1."""
    what, where, fix, code = _parts(error, command)
    if debug and not isinstance(error, click.ClickException):
        traceback.print_exception(error)
    if as_json:
        document = {"what": what, "where": where, "fix": fix, "type": type(error).__name__, "exit_code": code}
        click.echo(json.dumps({"error": document}))
    for label, text, colour in (("error:", what, "red"), ("where:", where, None), ("do:", fix, "green")):
        click.echo(f"{click.style(f'{label:6}', fg=colour, bold=True)} {text}", err=True)
    return code


def _parts(error: BaseException, command: str) -> tuple[str, str, str, int]:
    if isinstance(error, StreamcoreError):
        return _what(error), _short(error.where or command), error.fix or _more(error), error.exit_code
    if isinstance(error, click.ClickException):
        return _usage(error, command)
    return (
        f"unexpected {type(error).__name__}, which streamcore should have explained",
        _place(error) or command,
        "run again with --debug for the traceback, and report it",
        1,
    )


def _what(error: StreamcoreError) -> str:
    text = error.what
    if error.got is not None:
        text += f", got {error.got!r}"
    if error.allowed:
        more = len(error.allowed) - _SHOWN
        listed = ", ".join(str(a) for a in error.allowed[:_SHOWN])
        text += f", allowed: {listed}" + (f" and {more} more" if more > 0 else "")
    return " ".join(text.split())


def _more(error: StreamcoreError) -> str:
    return f"see {type(error).__name__} in docs/troubleshooting.md, or run again with --debug"


def _usage(error: click.ClickException, command: str) -> tuple[str, str, str, int]:
    message = error.format_message().rstrip(".")
    what, _, hint = message.partition("\n")
    if not hint and (found := re.search(r"\s+(Did you mean .*|\(Possible options: .*)", what)):
        what, hint = what[: found.start()].rstrip("."), found[1]
    help_line = f"see {command} --help"
    hint = hint.strip("()").rstrip("?")
    fix = f"{hint[0].lower()}{hint[1:]}? Otherwise {help_line}" if hint else help_line
    return f"{what[0].lower()}{what[1:]}", command, fix, error.exit_code


def _place(error: BaseException) -> str | None:
    frames = traceback.extract_tb(error.__traceback__)
    return _short(f"{frames[-1].filename}:{frames[-1].lineno}") if frames else None


def _short(where: str) -> str:
    """Paths below the working folder without it."""
    return where.removeprefix(f"{Path.cwd()}/")
