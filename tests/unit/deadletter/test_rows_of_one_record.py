"""A record of several rows of which some are refused: resumes and redrives touch the refused rows only."""

from __future__ import annotations

import json

import pydantic

import streamcore as sc
from streamcore.batch import Chunk, PartitionId, RecordChunk
from streamcore.graph import Graph
from streamcore.passage import Outcome, RowId
from streamcore.task import PartitionTask, Redriven, RedriveTask
from tests.unit.topology.collecting import Collect

P, AGAIN = PartitionId("people", 0, "id"), PartitionId("t.redrive", 0, "again")
BAD_FIRST = [{"id": 1, "age": -1}, {"id": 2, "age": 30}, {"id": 3, "age": -3}]


class User(sc.Event):
    id: int
    age: int = pydantic.Field(ge=0)


class Lenient(sc.Event):
    id: int
    age: int


def graph(event: type[sc.Event] = User, kind: str = "json_array") -> Graph:
    topology = sc.Topology("t")
    topology.stream("people", event, format=kind).to(Collect("out"))
    return topology.freeze()


def ids(outcome: Outcome) -> list[int]:
    return outcome.writes["out"].frame["id"].to_list()


def refused(outcome: Outcome) -> list[int]:
    return outcome.rejects.frame["_sub"].to_list()


def redrive(of: Graph, value: bytes, *rows: tuple[str, int], known: tuple[RowId, ...] = ()) -> Outcome:
    def unpack(chunk: Chunk) -> list[tuple[Chunk, Redriven]]:
        return [
            (RecordChunk(AGAIN, [place], [value]), Redriven("people", stage, sub))
            for place, (stage, sub) in enumerate(rows)
        ]

    task = RedriveTask(of, AGAIN, unpack=unpack, known=known)
    return task.on_chunk(RecordChunk(AGAIN, range(len(rows)), [value] * len(rows)))


def test_a_resume_keeps_the_good_rows_of_a_record_whose_other_rows_are_dead_letters() -> None:
    chunk = RecordChunk(P, [0], [json.dumps(BAD_FIRST).encode()])
    first = PartitionTask(graph(), "people", P).on_chunk(chunk)
    known = [RowId(*row) for row in first.rejects.frame.select("stage", "_offset", "_sub").iter_rows()]
    again = PartitionTask(graph(), "people", P, known=known).on_chunk(chunk)
    assert ids(first) == ids(again) == [2]
    assert len(known) == 2
    assert len(again.rejects) == 0


def test_a_redriven_row_enters_without_the_rows_that_passed_before() -> None:
    value = json.dumps(BAD_FIRST).encode()
    assert ids(redrive(graph(Lenient), value, ("schema", 0), ("schema", 2))) == [1, 3]


def test_a_row_that_is_refused_again_is_one_dead_letter_and_brings_nobody_along() -> None:
    again = redrive(graph(), json.dumps(BAD_FIRST).encode(), ("schema", 0))
    assert ids(again) == []
    assert refused(again) == [0]


def test_a_bad_line_that_is_redriven_brings_no_other_line_along() -> None:
    again = redrive(graph(kind="ndjson"), b'{bad\n{"id": 2, "age": 3}', ("decode", 0))
    assert ids(again) == []
    assert refused(again) == [0]


def test_a_record_that_could_not_be_read_enters_whole_once_it_can_be() -> None:
    value = json.dumps([{"id": 1, "age": 1}, {"id": 2, "age": 2}]).encode()
    assert ids(redrive(graph(), value, ("decode", 0))) == [1, 2]


def test_a_redriven_row_that_the_sink_refused_again_does_not_reach_it_after_a_resume() -> None:
    value = json.dumps([{"id": 1, "age": 1}]).encode()
    assert ids(redrive(graph(), value, ("out", 0))) == [1]
    assert ids(redrive(graph(), value, ("out", 0), known=(RowId("out", 0, 0),))) == []
