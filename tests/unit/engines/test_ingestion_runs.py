"""Which run an ingestion is at, from call to call."""

from __future__ import annotations

from pathlib import Path

from streamcore.engines.ingestion_runs import Runs


def test_a_run_is_the_current_one_until_it_is_finished(tmp_path: Path) -> None:
    first = Runs(tmp_path, None)
    assert Runs(tmp_path, None).current == first.current
    first.finish()
    second = Runs(tmp_path, None)
    assert second.current != first.current
    assert not second.finished
    assert Runs(tmp_path, None).current == second.current


def test_a_run_with_a_name_stays_finished(tmp_path: Path) -> None:
    named = Runs(tmp_path, "monday")
    assert not named.finished
    named.finish()
    assert Runs(tmp_path, "monday").finished
    assert not Runs(tmp_path, "tuesday").finished
    assert not Runs(tmp_path, None).finished


def test_a_run_that_is_taken_up_reads_in_as_many_parts_as_it_began_with(tmp_path: Path) -> None:
    assert Runs(tmp_path, None).parts(2) == 2
    taken_up = Runs(tmp_path, None)
    assert taken_up.parts(3) == 2
    taken_up.finish()
    assert Runs(tmp_path, None).parts(3) == 3
