"""Where in the user's module a declaration stands or an error was raised, and the names it may give."""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from streamcore.errors import BadConfig

_PACKAGE = str(Path(__file__).parent)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,150}")


def check_name(name: str, what: str) -> None:
    """BadConfig unless *name* may name a *what*: it becomes part of topics and folders."""
    if not _NAME.fullmatch(name):
        raise BadConfig(
            f"this can't be the name of a {what}",
            got=name,
            allowed=["letters, digits, '.', '_', '-', at most 150, starting with a letter or digit"],
        )


def caller() -> str:
    """file:line of the nearest frame outside of this package."""
    frame = sys._getframe(1)
    while frame.f_back and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def raised_at(error: BaseException) -> str | None:
    """file:line of the user's code that raised *error*; its text could hold a row's content."""
    if error.__traceback__ is None:
        return None
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{last.filename}:{last.lineno}"


@contextmanager
def at(where: str) -> Iterator[None]:
    """Add the user's line to a BadConfig that does not have one."""
    try:
        yield
    except BadConfig as error:
        if error.where is None:
            raise BadConfig(
                error.what, where=where, got=error.got, allowed=error.allowed, fix=error.fix
            ) from error
        raise
