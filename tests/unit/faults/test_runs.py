"""The journal of runs goes on where it stopped, and its table and bound say no more than the runs prove."""

from __future__ import annotations

from pathlib import Path

from tests.faults.chaos import next_kind
from tests.faults.runs import Record, append, bound, by_pipeline, commits, markdown, plain, read, short, table


def record(kind: str = "a", **more: object) -> Record:
    return Record(kind, 1, "abc", 2.5, **more)  # type: ignore[arg-type]


def test_what_was_written_is_read_and_a_cut_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "runs.jsonl"
    assert read(path) == []
    append(path, record(recovery=[1.0]))
    append(path, record(failures=["lost 1"]))
    path.write_bytes(path.read_bytes() + b'{"kind": "a"')
    first, second = read(path)
    assert first.recovery == [1.0]
    assert second.failures == ["lost 1"]


def test_invalid_runs_are_counted_apart() -> None:
    records = [
        record(recovery=[1.0, 3.0], kills=2, rows=10),
        record(invalid="no fault"),
        record(failures=["x"]),
    ]
    lines = {line[0]: line for line in table(records, ["a", "b"])}
    assert lines["a"] == ("a", "2", "1", "1", "2", "0", "10", "2.0", "3.0")
    assert lines["b"] == ("b", "0", "0", "0", "0", "0", "0", "", "")
    assert lines["all"][1:] == lines["a"][1:]


def test_a_pipelines_line_is_that_of_all_its_kinds() -> None:
    records = [record("p:kill", rows=3, recovery=[1.0]), record("q:kill"), record("p:twin", rows=4)]
    lines = by_pipeline(records)
    assert [line[:2] for line in lines] == [("p", "2"), ("q", "1"), ("all", "3")]
    assert lines[0][6:] == ("7", "1.0", "1.0")


def test_the_bound_is_the_rule_of_three() -> None:
    assert "below 1.00%" in bound([record()] * 300 + [record(invalid="no fault")] * 5)
    assert bound([record(), record(failures=["x"])]) == "1 of 2 runs failed."
    assert bound([record(invalid="no fault")]) == "No run yet."


def test_kinds_with_few_runs_are_named_and_invalid_runs_are_none() -> None:
    records = [record("a")] * 5 + [record("b")] * 4 + [record("b", invalid="x")]
    assert short(records, ["a", "b", "c"]) == "Fewer than 5 valid runs: b (4). Kinds without a run here: 1."
    assert short(records, ["a"]) == "Fewer than 5 valid runs: none. Kinds without a run here: 0."


def test_the_commits_of_valid_runs_are_counted() -> None:
    records = [Record("a", 1, "0ld", 2.5), Record("a", 2, "new", 2.5), Record("b", 1, "new", 2.5)]
    assert commits([*records, record(invalid="x")]) == "Commits: 0ld (1), new (2)."


def test_the_table_is_shown_in_both_ways() -> None:
    lines = table([record()], ["a"])
    assert plain(lines).splitlines()[1].split()[:2] == ["a", "1"]
    assert "| a | 1 | 0 |" in markdown(lines, "A note.")


def test_the_kind_with_the_fewest_runs_is_next_and_invalid_ones_do_not_hold_it_up_for_ever() -> None:
    assert next_kind(["a", "b"], [record("a")]) == "b"
    assert next_kind(["a", "b"], [record("a", invalid="x"), record("b")]) == "a"
    assert next_kind(["a", "b"], [record("a", invalid="x")] * 3 + [record("b")] * 2) == "a"
    assert next_kind(["a", "b"], [record("a", invalid="x")] * 6 + [record("b")]) == "b"
