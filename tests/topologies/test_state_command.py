"""``streamcore state`` shows what windows, tables and joins hold, as their sinks have it."""

from __future__ import annotations

import polars as pl
import pytest

from tests.topologies.conftest import Project

EVENTS = "events=data/nexmark/events-edge.jsonl"


def replayed(project: Project, query: str) -> str:
    module = f"topologies.nexmark.{query}"
    project.run("replay", module, "--from", EVENTS)
    return module


def written(project: Project, query: str, key: list[str]) -> pl.DataFrame:
    """The table that the changes in *query*'s files lead to."""
    changes = pl.read_parquet(project.folder / f"out/nexmark/{query}/**/*.parquet")
    last = changes.sort("number").unique(key, keep="last")
    return last.filter(pl.col("op") == "upsert").drop("op", "number").sort(key)


def test_list_names_each_state_and_its_log(project: Project) -> None:
    module = replayed(project, "q4")
    rows = project.document("state", "list", module)["state"]
    assert [(row["node"], row["what"].split()[0]) for row in rows] == [  # type: ignore[attr-defined]
        ("events/join", "join"),
        ("events/table", "aggregates"),
        ("events/table-2", "aggregates"),
    ]
    assert all(row["log"].startswith("nexmark-q4.events-") for row in rows)  # type: ignore[attr-defined]
    told = project.run("state", "list", module).stdout
    assert "join on id = auction" in told
    assert f"streamcore state scan {module} events/join" in told


@pytest.mark.parametrize(
    ("query", "node", "key"),
    [
        ("q4", "events/table-2", ["category"]),
        ("q18", "events/top", ["bidder", "auction"]),
        ("q19", "events/top", ["auction", "rn"]),
    ],
)
def test_export_writes_the_table_that_the_sink_has(
    project: Project, query: str, node: str, key: list[str]
) -> None:
    module = replayed(project, query)
    project.run("state", "export", module, node, "table.parquet")
    found = pl.read_parquet(project.folder / "table.parquet").sort(key)
    expected = written(project, query, key)
    assert expected.height > 1
    assert found.select(expected.columns).equals(expected)
    refused = project.run("state", "export", module, node, "table.parquet", code=2).stderr
    assert "is there already" in refused


def test_size_tells_rows_and_bytes_of_each_partition(project: Project) -> None:
    module = replayed(project, "q4")
    rows = written(project, "q4", ["category"]).height
    (one,) = project.document("state", "size", module, "events/table-2")["partitions"]  # type: ignore[misc]
    assert (one["partition"], one["rows"]) == (0, rows)
    assert 0 < one["bytes"] < 100_000
    assert one["log_records"] > 0
    told = project.run("state", "size", module, "events/table-2").stdout
    assert f"partition 0: {rows} rows, " in told
    assert f"together {rows} rows, " in told


def test_get_finds_a_key_and_scan_some_rows(project: Project) -> None:
    module = replayed(project, "q4")
    first = written(project, "q4", ["category"]).row(0, named=True)
    key = f"category={first['category']}"
    assert project.document("state", "get", module, "events/table-2", key) == {"rows": [first], "total": 1}
    assert project.document("state", "get", module, "events/table-2", "category=-1", code=1)["total"] == 0
    some = project.document(
        "state", "scan", module, "events/join", "--where", "side = 'left'", "--limit", "2"
    )
    assert len(some["rows"]) == 2  # type: ignore[arg-type]
    assert some["total"] > 2  # type: ignore[operator]
    assert "of" in project.run("state", "scan", module, "events/join").stdout


def test_what_is_wrong_is_said(project: Project) -> None:
    module = "topologies.nexmark.q4"
    assert "never ran here" in project.run("state", "scan", module, "events/join", code=2).stderr
    replayed(project, "q4")
    assert "did you mean 'events/join'" in project.run("state", "scan", module, "events/jion", code=2).stderr
    assert "COLUMN=VALUE" in project.run("state", "get", module, "events/join", "id", code=2).stderr
    assert "did you mean 'id'" in project.run("state", "get", module, "events/join", "idd=1", code=2).stderr
    wrong = project.run("state", "export", module, "events/join", "table.xls", code=2).stderr
    assert ".parquet" in wrong
