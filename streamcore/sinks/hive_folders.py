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


def unnamed(
    folders: Sequence[str], room: int, frame: pl.DataFrame, stage: str
) -> tuple[pl.DataFrame, Rejects]:
    """The rows of *frame* whose folders can be named, with *room* bytes for all of them, and the others."""
    good, rejects = _unnamed_alone(folders, frame, stage)
    if len(folders) * (FOLDER_NAME_LIMIT + 1) <= room:
        return good, rejects
    paths = good.select(folders).unique()
    long = [
        sum(len(folder_name(*pair)) + 1 for pair in zip(folders, row, strict=True)) for row in paths.rows()
    ]
    bad = paths.filter(pl.Series(long) > room)
    refused = good.join(bad, on=list(folders), how="semi", nulls_equal=True, maintain_order="left")
    message = f"its values of {', '.join(folders)} make a path that is too long"
    rest = good.join(bad, on=list(folders), how="anti", nulls_equal=True, maintain_order="left")
    return rest, Rejects.join([rejects, Rejects.of(refused, stage, "folder_name", message)])


def _unnamed_alone(folders: Sequence[str], frame: pl.DataFrame, stage: str) -> tuple[pl.DataFrame, Rejects]:
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
