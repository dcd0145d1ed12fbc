"""Every step of the catalogue against the suite that users' own steps run."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl
import pytest

from streamcore.contracts import Step
from streamcore.schema import type_named
from streamcore.tables.lookup import Lookup
from streamcore.testing.steps import StepConformance
from streamcore.transforms.columns import AddColumn, Cast, Drop, Filter, Rename, Select
from streamcore.transforms.functions import FlatMapRows, MapBatches, MapRows
from streamcore.transforms.masks import Hash, MaskColumns, Partial, Redact
from streamcore.validation import Validate, rules

COLUMNS = pl.Schema({"id": pl.Int64, "age": pl.Int64, "name": pl.String})


def shouted(row: dict[str, object]) -> dict[str, object]:
    if row["name"] == "x13":
        raise LookupError(row["name"])
    return {**row, "name": str(row["name"]).upper()}


def repeated(row: dict[str, object]) -> list[dict[str, object]]:
    return [row] * (int(str(row["id"])) % 3)


def doubled(frame: pl.DataFrame) -> pl.DataFrame:
    if (frame["id"] == 17).any():
        raise RuntimeError("17")
    return frame.with_columns(pl.col("id") * 2)


REFERENCE = pl.DataFrame({"of": [1, 5, 7, None], "word": ["a", None, "b", "c"]})

CATALOGUE: dict[str, Callable[[], Step]] = {
    "filter": lambda: Filter("age >= 18", COLUMNS),
    "filter that fails on some rows": lambda: Filter("cast(name as int) > 3", COLUMNS),
    "add_column": lambda: AddColumn("group", "case when age < 30 then 'a' else name end", COLUMNS),
    "lookup": lambda: Lookup(REFERENCE, {"id": "of"}, True, COLUMNS),
    "lookup that leaves rows out": lambda: Lookup(REFERENCE, {"id": "of"}, False, COLUMNS),
    "rename": lambda: Rename({"name": "label"}),
    "select": lambda: Select(("name", "id")),
    "drop": lambda: Drop(("age",)),
    "mask": lambda: MaskColumns({"age": Redact(), "name": Partial(1, 1)}),
    "mask by hashes": lambda: MaskColumns({"age": Hash("sixteen characters"), "name": Hash("0" * 16)}),
    "cast_type": lambda: Cast({"name": type_named("int64"), "age": type_named("string")}),
    "map_batches": lambda: MapBatches(doubled, None),
    "map": lambda: MapRows(shouted, None),
    "flat_map": lambda: FlatMapRows(repeated, None),
    "validate": lambda: Validate.of(
        (rules.range("age", min=1, max=90), rules.not_null("name", severity="warning")), COLUMNS, None, None
    ),
    "validate with flags": lambda: Validate.of(
        (rules.regex("name", "^x", on_fail="flag"), rules.in_set("age", [1, 2], on_fail="drop")),
        COLUMNS,
        None,
        "flags",
    ),
}


@pytest.mark.parametrize("name", CATALOGUE)
class TestSteps(StepConformance):
    columns = COLUMNS

    @pytest.fixture(autouse=True)
    def _chosen(self, name: str) -> None:
        self.chosen = CATALOGUE[name]

    def step(self) -> Step:
        return self.chosen()

    def frame(self, count: int) -> pl.DataFrame:
        names = [None if i % 7 == 0 else str(i) if i % 3 == 0 else f"x{i}" for i in range(count)]
        ages = [None if i % 11 == 0 else i * 2 for i in range(count)]
        return pl.DataFrame({"id": range(count), "age": ages, "name": names}, schema=COLUMNS)
