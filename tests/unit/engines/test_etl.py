"""``ETLEngine``: the guide's operations over frames and datasets, and what it says of mistakes."""

from __future__ import annotations

import polars as pl
import pytest

import streamcore as sc
from streamcore.engines.operations import Operation
from streamcore.errors import BadConfig, BadRows
from streamcore.settings import Settings
from streamcore.settings.model import State
from tests.guide.blocks import run_block

GUIDE = run_block("Data Transformations")["transformation_config"]
PEOPLE = pl.DataFrame(
    {
        "age": pl.Series([17, 18, 30, 70, None], dtype=pl.Int32),
        "salary": [1, 2, 3, 4, 5],
        "old_column": ["a", "b", "c", "b", "e"],
    }
)


@pytest.fixture
def engine(tmp_path):
    return sc.ETLEngine(Settings(state=State(dir=tmp_path / "state")))


def test_the_guides_configuration(engine):
    assert engine.transform(PEOPLE, GUIDE).to_dict(as_series=False) == {
        "age": [18, 30, 70],
        "salary": [2.0, 3.0, 4.0],
        "new_column": ["b", "c", "b"],
        "age_group": ["Young", "Middle", "Senior"],
    }
    assert engine.transform(PEOPLE, GUIDE).schema["age"] == pl.Int64


def test_a_frame_without_rows_has_the_columns(engine):
    made = engine.transform(PEOPLE.clear(), GUIDE)
    assert made.schema == engine.transform(PEOPLE, GUIDE).schema
    assert made.height == 0


def test_all_other_operations(engine):
    airports = pl.DataFrame({"code": ["b", "c"], "city": ["Bonn", "Köln"]})
    config = [
        {"type": "lookup", "reference": airports, "on": {"old_column": "code"}},
        {"type": "validate", "rules": [{"rule_type": "not_null", "column": "age", "on_fail": "drop"}]},
        {"type": "deduplicate", "columns": ["old_column"]},
        {"type": "map", "function": lambda row: {**row, "salary": row["salary"] * 10}},
        {"type": "flat_map", "function": lambda row: [row, row]},
        {"type": "map_batches", "function": lambda frame: frame},
        {"type": "select", "columns": ["city", "salary", "age"]},
        {"type": "drop", "columns": ["age"]},
    ]
    made = engine.transform(PEOPLE, config)
    assert made.rows() == [(c, s) for c, s in [(None, 10), ("Bonn", 20), ("Köln", 30)] for _ in range(2)]


def test_aggregates_have_a_row_a_group(engine):
    config = [
        {"type": "aggregate", "by": ["old_column"], "aggregates": {"n": "count(*)", "most": "max(salary)"}}
    ]
    assert sorted(engine.transform(PEOPLE, config).rows()) == [
        ("a", 1, 1),
        ("b", 2, 4),
        ("c", 1, 3),
        ("e", 1, 5),
    ]


def test_windows_go_by_the_event_time(engine):
    times = pl.DataFrame({"at": ["2024-01-01T10:30", "2024-01-01T10:40", "2024-01-01T12:00"]}).with_columns(
        pl.col("at").str.to_datetime(time_zone="UTC")
    )
    operation = {"type": "aggregate", "aggregates": {"n": "count(*)"}, "window": "1h"}
    made = engine.transform(times, {"operations": [operation], "event_time": "at"})
    assert made["n"].to_list() == [2, 1]
    assert made["window_start"].dt.hour().to_list() == [10, 12]


@pytest.mark.parametrize("rows", [1, 99_999, 100_001, 250_000])
def test_large_frames_are_cut_and_joined_again(engine, rows):
    frame = pl.DataFrame({"n": pl.arange(rows, eager=True)})
    made = engine.transform(frame, [{"type": "filter", "condition": "n % 2 = 0"}])
    assert made["n"].to_list() == list(range(0, rows, 2))


def test_rows_that_do_not_fit_are_named(engine):
    frame = pl.DataFrame({"age": ["1", "x", "3"]})
    config = [{"type": "cast_type", "type_mapping": {"age": "int64"}}]
    with pytest.raises(BadRows, match=r"operation-1-cast_type, row 1: 1 of 3 rows") as raised:
        engine.transform(frame, config)
    assert raised.value.rows == (1,)
    assert engine.apply(frame, config).frame["age"].to_list() == [1, 3]


@pytest.mark.parametrize(
    ("operation", "said"),
    [
        ({"type": "filtr"}, r"operation 2: unknown type of operation, got 'filtr'.*did you mean 'filter'"),
        (
            {"type": "filter", "condition": "agee > 1"},
            r"operation 2 \(filter\): unknown column .*'agee'.*'age'",
        ),
        ({"type": "rename"}, r"operation 2 \(rename\): mapping is missing"),
        ({"type": "rename", "maping": {}}, r"operation 2 \(rename\): unknown key, got 'maping'.*'mapping'"),
        (
            {"type": "cast_type", "type_mapping": {"age": "int46"}},
            r"operation 2 .*int46.*did you mean 'int64'",
        ),
        ({"type": "select", "columns": ["x"]}, r"operation 2 \(select\): .*'x', allowed: age, salary"),
        ({"type": "filter", "condition": 3}, r"operation 2 \(filter\): condition: .*got 3"),
        (
            {"type": "lookup", "reference": "x.csv", "on": "age", "how": "outer"},
            r"operation 2 \(lookup\): how: .*'inner' or 'left', got 'outer'",
        ),
        (
            {"type": "mask", "columns": {"age": {"how": "hsh"}}},
            r"operation 2 \(mask\): unknown way to mask, got 'hsh'.*did you mean 'hash'",
        ),
        (
            {"type": "mask", "columns": {"age": {"how": "hash"}}},
            r"operation 2 \(mask\): hash: key is missing",
        ),
        (
            {"type": "mask", "columns": {"age": {"how": "partial", "lst": 2}}},
            r"operation 2 \(mask\): unknown key of partial, got 'lst'.*did you mean 'last'",
        ),
        ("filter", r"operation 2: an operation is a mapping"),
    ],
)
def test_mistakes_name_the_operation_and_what_exists(engine, operation, said):
    with pytest.raises(BadConfig, match=said):
        engine.transform(PEOPLE, [{"type": "filter", "condition": "age > 0"}, operation])


@pytest.mark.parametrize("config", [{}, {"operations": []}, {"operation": []}, {"operations": "filter"}])
def test_a_configuration_needs_operations(engine, config):
    with pytest.raises(BadConfig):
        engine.transform(PEOPLE, config)


async def test_a_dataset_is_replayed_into_a_sink(engine, tmp_path):
    PEOPLE.write_csv(tmp_path / "people.csv")
    sink = sc.sinks.Parquet(str(tmp_path / "out"))
    metrics = await engine.run(str(tmp_path / "people.csv"), sink, GUIDE)
    assert (metrics.status, metrics.processed_records) == ("finished", 3)
    made = pl.read_parquet(tmp_path / "out" / "**" / "*.parquet").sort("salary")
    assert made.select("age", "salary", "new_column", "age_group").equals(engine.transform(PEOPLE, GUIDE))


async def test_a_file_by_a_dictionary_has_the_columns_that_come_out(engine, tmp_path):
    PEOPLE.write_csv(tmp_path / "people.csv")
    source = {"type": "file", "file_path": str(tmp_path / "people.csv"), "file_format": "csv"}
    target = {"type": "file", "file_path": str(tmp_path / "out.csv"), "file_format": "csv"}
    for config in (GUIDE, [{"type": "select", "columns": ["age"]}]):
        await engine.run(source, target, config)
        made = pl.read_csv(tmp_path / "out.csv")
        assert made.equals(engine.transform(pl.read_csv(tmp_path / "people.csv"), config))


async def test_a_named_run_happens_once_and_other_operations_are_another_one(engine, tmp_path):
    PEOPLE.write_csv(tmp_path / "people.csv")
    sink = sc.sinks.Parquet(str(tmp_path / "out"))
    keep = [{"type": "filter", "condition": "age > 0"}]
    assert (await engine.run(tmp_path / "people.csv", sink, keep, run_id="1")).processed_records == 4
    again = await engine.run(tmp_path / "people.csv", sink, keep, run_id="1")
    assert (again.status, again.processed_records) == ("already finished", 0)
    other = [{"type": "filter", "condition": "age > 20"}]
    assert (await engine.run(tmp_path / "people.csv", sink, other, run_id="1")).processed_records == 2


async def test_refused_rows_are_failed_records(engine, tmp_path):
    pl.DataFrame({"n": ["1", "x", "y"]}).write_csv(tmp_path / "n.csv")
    cast = [{"type": "cast_type", "type_mapping": {"n": "int64"}}]
    metrics = await engine.run(tmp_path / "n.csv", tmp_path / "out.parquet", cast)
    assert (metrics.processed_records, metrics.failed_records) == (1, 2)
    assert pl.read_parquet(tmp_path / "out.parquet")["n"].to_list() == [1]


async def test_mistakes_are_found_before_a_row_is_read(engine, tmp_path):
    PEOPLE.write_csv(tmp_path / "people.csv")
    sink = sc.sinks.Parquet(str(tmp_path / "out"))
    with pytest.raises(BadConfig, match=r"operation 1 \(drop\)"):
        await engine.run(tmp_path / "people.csv", sink, [{"type": "drop", "columns": ["x"]}])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("on", ["age", ["age"], ("age",), {"age": "age"}])
def test_columns_of_a_lookup_are_given_in_any_form(on: object) -> None:
    names = pl.DataFrame({"age": [30], "word": ["thirty"]})
    made = sc.ETLEngine().transform(
        pl.DataFrame({"age": [30, 31]}), [{"type": "lookup", "reference": names, "on": on, "how": "inner"}]
    )
    assert made.rows() == [(30, "thirty")]


def test_an_operation_says_what_it_does() -> None:
    class Forgotten(Operation):
        column: str

    with pytest.raises(TypeError, match="abstract"):
        Forgotten.model_validate({"column": "x"})
