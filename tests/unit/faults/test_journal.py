"""The oracle is right about each way to break a promise: an oracle that always says yes proves nothing."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from tests.faults.journal import Journal, Produced, Row, digest_of, judge, read

ROWS = [Row(f"r{n}", key=f"k{n % 2}", sequence=n) for n in range(6)]


@pytest.fixture
def produced(tmp_path: Path) -> Produced:
    """Six rows intended, the last one never acknowledged."""
    with Journal(tmp_path / "j.jsonl") as journal:
        journal.intend(ROWS[:3])
        journal.confirm(["r0", "r1", "r2"])
        journal.intend(ROWS[3:])
        journal.confirm(["r3", "r4"])
    return read(tmp_path / "j.jsonl")


def test_a_journal_says_what_was_written(produced: Produced) -> None:
    assert list(produced.rows.values()) == ROWS
    assert produced.confirmed == {"r0", "r1", "r2", "r3", "r4"}


@pytest.mark.parametrize("last", [[], ["r5"]])
def test_kept_with_and_without_the_row_in_doubt(produced: Produced, last: list[str]) -> None:
    verdict = judge(produced, ["r0", "r1", "r2", "r3", *last], ["r4", "r4"], ordered=True)
    assert verdict.holds
    assert str(verdict) == "5 rows: all kept"


@pytest.mark.parametrize(
    ("effects", "dead", "broken"),
    [
        (["r0", "r1", "r2", "r3"], [], {"lost": {"r4"}}),
        (["r0", "r1", "r2", "r3", "r4", "r2"], [], {"doubled": {"r2"}}),
        (["r0", "r1", "r2", "r3", "r4", "x"], [], {"invented": {"x"}}),
        (["r0", "r1", "r2", "r3", "r4"], ["y"], {"invented": {"y"}}),
        (["r0", "r1", "r2", "r3", "r4"], ["r4"], {"both": {"r4"}}),
    ],
)
def test_each_broken_promise_is_seen(
    produced: Produced, effects: list[str], dead: list[str], broken: dict[str, set[str]]
) -> None:
    verdict = judge(produced, effects, dead)
    assert not verdict.holds
    for name in ("lost", "doubled", "invented", "both", "disordered"):
        assert getattr(verdict, name) == broken.get(name, set())
    [ids] = broken.values()
    assert min(ids) in str(verdict)


def test_order_counts_within_a_key_only(produced: Produced) -> None:
    across = judge(produced, ["r1", "r0", "r3", "r2", "r4"], [], ordered=True)
    assert across.holds
    within = judge(produced, ["r2", "r0", "r1", "r4", "r3"], [], ordered=True)
    assert within.disordered == {"r0"}
    assert not judge(produced, ["r2", "r0", "r1", "r4", "r3"], []).disordered


def test_nothing_confirmed_is_no_proof() -> None:
    assert not judge(Produced(), [], []).holds


def test_a_line_cut_short_is_left_out_and_other_damage_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    with Journal(path) as journal:
        journal.intend(ROWS[:2])
    whole = path.read_bytes()
    path.write_bytes(whole[:-4])
    assert list(read(path).rows) == ["r0"]
    path.write_bytes(b"#" + whole)
    with pytest.raises(orjson.JSONDecodeError):
        read(path)


def test_a_row_that_missed_its_fate_and_altered_bytes_are_seen() -> None:
    good, bad = Row("g", "k", 1, "effect", digest_of(b"good")), Row("b", "k", 2, "dead", digest_of(b"bad"))
    produced = Produced({"g": good, "b": bad}, {"g", "b"})
    assert produced.ids_of([b"bad"]) == ["b"]
    assert judge(produced, ["g"], produced.ids_of([b"bad"])).holds
    assert judge(produced, ["g", "b"], []).misplaced == {"b"}
    assert judge(produced, [], ["g", "b"]).misplaced == {"g"}
    altered = judge(produced, ["g"], produced.ids_of([b"bad "]))
    assert altered.lost == {"b"}
    assert len(altered.invented) == 1
