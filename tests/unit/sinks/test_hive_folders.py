"""Rows whose values make no folder name, or too long a path, are refused; their neighbours pass."""

from __future__ import annotations

import polars as pl

from streamcore.sinks.hive_folders import folder_name, unnamed


def rows(**columns: list[str | None]) -> pl.DataFrame:
    frame = pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String))
    return frame.with_columns(pl.int_range(pl.len()).alias("_offset"), pl.lit(0).alias("_sub"))


def test_names_are_percent_encoded() -> None:
    assert folder_name("a b", "../x=1") == "a%20b=..%2Fx%3D1"
    assert folder_name("a", None) == "a=__HIVE_DEFAULT_PARTITION__"
    assert folder_name("a", True) == "a=true"


def test_a_name_that_is_too_long_or_means_null_is_refused() -> None:
    frame = rows(a=["x" * 253, "x" * 254, None, "__HIVE_DEFAULT_PARTITION__", "\u2603" * 29])
    good, bad = unnamed(["a"], 1000, frame, "out")
    assert good["_offset"].to_list() == [0, 2]
    assert bad.frame["_offset"].to_list() == [1, 3, 4]


def test_a_path_that_is_too_long_is_refused() -> None:
    frame = rows(a=["x" * 200, "x" * 200, "y", None], b=["x" * 200, "x" * 199, "x" * 253, None])
    folders = ["a", "b"]
    longest = sum(len(folder_name(c, "x" * n)) + 1 for c, n in zip(folders, (200, 199), strict=True))
    good, bad = unnamed(folders, longest, frame, "out")
    assert good["_offset"].to_list() == [1, 2, 3]
    assert bad.frame.select("_offset", "code").rows() == [(0, "folder_name")]
    everything, none = unnamed(folders, longest + 1, frame, "out")
    assert everything.height == 4
    assert not len(none)
