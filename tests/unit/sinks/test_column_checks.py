"""Rows that a table can't hold, of the checks that its kinds of columns have in common."""

from __future__ import annotations

import polars as pl
import pytest

from streamcore.batch import HIDDEN_TYPES, OP_DELETE, OP_INSERT, OP_UPDATE_BEFORE
from streamcore.sinks import mysql_columns, postgres_columns, sqlite_columns
from streamcore.sinks.column_checks import Checked, ColumnChecks

TEXT = pl.String()
PAIRS: dict[str, Checked] = {
    "postgres": postgres_columns.ColumnPair(
        postgres_columns.TableColumn("name", "text", "text", required=True), TEXT
    ),
    "mysql": mysql_columns.ColumnPair(
        mysql_columns.TableColumn("name", "varchar", "varchar(9)", 9, required=True), TEXT
    ),
    "sqlite": sqlite_columns.ColumnPair(sqlite_columns.TableColumn("name", "text", required=True), TEXT),
}


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_a_delete_needs_only_the_key(pair: Checked) -> None:
    """Who tells that a row is gone may know only its key; the columns that the table requires are null."""
    operations = [OP_INSERT, OP_INSERT, OP_DELETE, OP_UPDATE_BEFORE, OP_DELETE]
    frame = pl.DataFrame(
        {
            "id": [1, 2, 1, 3, None],
            "name": ["ann", None, None, None, None],
            "_offset": range(5),
            "_sub": [0] * 5,
            "_op": operations,
        },
        schema_overrides=HIDDEN_TYPES,
    )
    good, rejects = ColumnChecks([pair], ["id"]).refused(frame, "sink")
    assert good["_offset"].to_list() == [0, 2, 3]
    assert rejects.frame["_offset"].to_list() == [1, 4]
    assert rejects.frame["code"].to_list()[1] == "null_key"
