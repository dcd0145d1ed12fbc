"""Names of hive folders, ``column=value``, and rows whose values make none."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

import polars as pl

from streamcore.batch import Rejects

NULL_FOLDER = "__HIVE_DEFAULT_PARTITION__"
FOLDER_NAME_LIMIT = 255
"""Bytes; the limit of Linux's file systems."""


def folder_name(column: str, value: object) -> str:
    """The folder of the rows that have *value*; both are percent-encoded."""
    text = str(value).lower() if isinstance(value, bool) else NULL_FOLDER if value is None else str(value)
    return f"{quote(column, safe='')}={quote(text, safe='')}"


def unnamed(folders: Sequence[str], frame: pl.DataFrame, stage: str) -> tuple[pl.DataFrame, Rejects]:
    """The rows of *frame* whose folders can be named, and the others."""
    texts = [column for column in folders if frame[column].dtype == pl.String]
    bad = [
        value
        for column in texts
        for value in frame[column].unique()
        if value == NULL_FOLDER or len(folder_name(column, value)) > FOLDER_NAME_LIMIT
    ]
    if not bad:
        return frame, Rejects()
    refused = pl.any_horizontal(pl.col(column).is_in(bad).fill_null(False) for column in texts)
    message = f"its value of {', '.join(texts)} makes no folder name"
    return frame.filter(~refused), Rejects.of(frame.filter(refused), stage, "folder_name", message)
