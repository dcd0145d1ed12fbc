"""Bounded replays, embedded: the same answer as SQL over the whole, resumed, repeated, refused, redriven."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import duckdb
import orjson
import polars as pl
import pytest
from rich.console import Console

import streamcore as sc
from batch_adapters.catalogue import open_source
from streamcore.cli.preview import show
from streamcore.deadletter.reader import Filter, read
from streamcore.deadletter.record import DeadLetter
from streamcore.deadletter.redrive import plan, send
from streamcore.errors import BadConfig, Permanent, Transient
from streamcore.progress import Progress, Rejected, Summary
from streamcore.runtime.replay import ReplayOptions, preview, replay
from streamcore.settings import Settings
from streamcore.transport.embedded_broker import Broker
from streamcore.transport.embedded_log import EmbeddedLog
from tests.integration.runtime.memory_sink import MemorySink, Target


class Person(sc.Event):
    id: int
    age: int
    name: str | None = None


def people(
    target: Target, grow: Callable[[sc.Stream], sc.Stream] = lambda s: s.filter("age >= 18")
) -> sc.Topology:
    topology = sc.Topology("people")
    grow(topology.stream("people", Person)).to(MemorySink("out", target))
    return topology


def settings(tmp_path: Path, **more: object) -> Settings:
    return Settings.model_validate({"state": {"dir": tmp_path / "state"}, **more})


def run(topology: sc.Topology, file: Path, options: ReplayOptions) -> Summary:
    return asyncio.run(replay(topology, {"people": open_source(str(file))}, options, lambda progress: None))


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    path = tmp_path / "people.parquet"
    ids = pl.int_range(0, 20_000, eager=True)
    frame = pl.DataFrame({"id": ids, "age": ids % 97, "name": ids.cast(pl.String)})
    frame.write_parquet(path, row_group_size=1_500)
    return path


def test_a_replay_gives_what_sql_gives(tmp_path: Path, parquet: Path) -> None:
    target = Target()
    topology = people(target, lambda s: s.filter("age >= 18").add_column("half", "age / 2"))
    summary = run(topology, parquet, ReplayOptions(settings(tmp_path)))
    expected = duckdb.sql(f"select *, age / 2 as half from '{parquet}' where age >= 18 order by id").pl()
    assert target.frame().sort("id").equals(expected)
    assert summary.status == "finished"
    assert summary.progress.rows_in == 20_000
    assert summary.progress.rows_out == {"out": expected.height}
    assert summary.progress.fraction == 1.0


def test_a_finished_replay_says_so_and_again_starts_anew(tmp_path: Path, parquet: Path) -> None:
    target = Target()
    options = ReplayOptions(settings(tmp_path))
    first = run(people(target), parquet, options)
    rows = target.frame().height
    assert run(people(target), parquet, options).status == "already finished"
    assert target.frame().height == rows == first.progress.rows_out["out"]
    again = run(people(target), parquet, ReplayOptions(settings(tmp_path), again=True))
    assert again.status == "finished"
    assert target.frame().height == 2 * rows


def test_an_interrupted_replay_goes_on_where_its_sink_stands(tmp_path: Path, parquet: Path) -> None:
    target = Target()
    options = ReplayOptions(settings(tmp_path, limits={"fetch_max_bytes": 1_024}))

    async def interrupted() -> Summary:
        stop = asyncio.Event()

        def on_progress(progress: Progress) -> None:
            if progress.rows_in:
                stop.set()

        sources = {"people": open_source(str(parquet))}
        return await replay(people(target), sources, options, on_progress, stop)

    first = asyncio.run(interrupted())
    assert first.status == "interrupted"
    assert 0 < target.frame().height < 16_000
    target.delay = 0
    assert run(people(target), parquet, options).status == "finished"
    assert sorted(target.frame()["id"]) == [i for i in range(20_000) if i % 97 >= 18]


def test_other_content_is_another_replay(tmp_path: Path, parquet: Path) -> None:
    target = Target()
    options = ReplayOptions(settings(tmp_path))
    run(people(target), parquet, options)
    pl.DataFrame({"id": [1], "age": [50], "name": ["x"]}).write_parquet(parquet)
    assert run(people(target), parquet, options).progress.rows_in == 1


def test_limit_reads_so_many_rows(tmp_path: Path, parquet: Path) -> None:
    target = Target()
    summary = run(people(target), parquet, ReplayOptions(settings(tmp_path), limit=500))
    assert summary.progress.rows_in == 500


def test_bad_rows_become_dead_letters_and_a_redrive_brings_the_mended_ones_in(tmp_path: Path) -> None:
    file = tmp_path / "people.ndjson"
    rows = [{"id": i, "age": 20 + i, "name": "7" if i % 2 else "x"} for i in range(10)]
    lines = [orjson.dumps(row) for row in rows]
    lines[4] = b'{"id": 4, "age": "very"}'
    file.write_bytes(b"\n".join(lines))
    target = Target()
    options = ReplayOptions(settings(tmp_path))
    strict = people(target, lambda s: s.cast_type({"name": "int64"}))
    summary = run(strict, file, options)
    assert summary.progress.rejected[Rejected("people/cast_type", "cast")] == 4
    assert summary.progress.dead_letters == 5
    assert target.frame()["id"].to_list() == [1, 3, 5, 7, 9]
    _redrive(tmp_path)
    mended = people(target, lambda s: s.map_batches(lambda f: f, name="people/cast_type"))
    again = run(mended, file, options)
    assert sorted(target.frame()["id"]) == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert again.progress.dead_letters == 1  # the broken document is refused again, with one attempt more
    attempts = {x.attempts for x in _letters(tmp_path)}
    assert attempts == {1, 2}
    assert run(mended, file, options).progress.rows_in == 0  # nothing is done twice


def test_rows_of_a_text_file_are_kept_as_text_and_redriven_as_columns(tmp_path: Path) -> None:
    file = tmp_path / "people.csv"
    file.write_text('id,age,name\n1,30,ann\n2,200,"b, c"\n3,40\n')
    target = Target()
    options = ReplayOptions(settings(tmp_path))
    run(people(target, lambda s: s.validate(sc.rules.range("age", max=120))), file, options)
    assert target.frame()["id"].to_list() == [1]
    assert [x.value for x in _letters(tmp_path)] == [b"3,40", b'2,200,"b, c"']
    for _ in range(2):  # refused again, and then accepted
        _redrive(tmp_path)
        run(people(target, lambda s: s.validate(sc.rules.range("age", max=150))), file, options)
    assert target.frame()["id"].to_list() == [1]
    _redrive(tmp_path)
    mended = people(target, lambda s: s.validate(sc.rules.range("age", max=300)))
    run(mended, file, options)
    assert target.frame()["name"].to_list() == ["ann", "b, c"]


def _redrive(tmp_path: Path) -> None:
    async def go() -> None:
        broker = Broker.open(f"embedded://people{(tmp_path / 'state/people').absolute()}")
        log = EmbeddedLog(broker)
        chosen = await plan(log, "people.dead-letters", "people.redrive", Filter(), 9)
        await send(log, "people.redrive", chosen.send, 1.0)
        broker.close()

    asyncio.run(go())


def _letters(tmp_path: Path) -> list[DeadLetter]:
    async def go() -> list[DeadLetter]:
        broker = Broker.open(f"embedded://people{(tmp_path / 'state/people').absolute()}")
        found = [x async for x in read(EmbeddedLog(broker), "people.dead-letters")]
        broker.close()
        return found

    return asyncio.run(go())


def test_a_sink_that_fails_for_a_while_loses_and_doubles_nothing(tmp_path: Path, parquet: Path) -> None:
    target = Target(failures=[Transient("gone"), Transient("gone")])
    run(people(target), parquet, ReplayOptions(settings(tmp_path, retry={"initial_s": 0.01})))
    assert sorted(target.frame()["id"]) == [i for i in range(20_000) if i % 97 >= 18]


def test_a_sink_that_fails_for_good_ends_the_replay_with_its_cause(tmp_path: Path, parquet: Path) -> None:
    target = Target(failures=[Permanent("the disk is full", where="/data")])
    with pytest.raises(Permanent, match="/data: the disk is full"):
        run(people(target), parquet, ReplayOptions(settings(tmp_path)))
    target.failures.clear()
    run(people(target), parquet, ReplayOptions(settings(tmp_path)))
    assert sorted(target.frame()["id"]) == [i for i in range(20_000) if i % 97 >= 18]


def test_a_plain_agent_gets_every_batch_and_its_error_stops_the_replay(tmp_path: Path, parquet: Path) -> None:
    topology = sc.Topology("people")
    stream = topology.stream("people", Person).filter("age = 5")
    seen: list[int] = []
    broken = True

    @topology.agent(stream)
    async def watch(batches):  # type: ignore[no-untyped-def]
        async for batch in batches:
            if broken and 490 in batch.rows["id"]:
                raise KeyError("490")
            seen.extend(batch.rows["id"])

    with pytest.raises(Permanent, match="agent 'watch' ended with KeyError"):
        run(topology, parquet, ReplayOptions(settings(tmp_path)))
    broken = False
    run(topology, parquet, ReplayOptions(settings(tmp_path)))
    assert set(seen) == {i for i in range(20_000) if i % 97 == 5}


def test_unknown_streams_are_refused_before_anything_is_read(tmp_path: Path, parquet: Path) -> None:
    options = ReplayOptions(settings(tmp_path))
    with pytest.raises(BadConfig, match=r"no such stream.*did you mean 'people'"):
        asyncio.run(replay(people(Target()), {"peple": open_source(str(parquet))}, options, lambda p: None))
    assert not (tmp_path / "state").exists()


def test_a_dry_run_writes_nothing(tmp_path: Path, parquet: Path) -> None:
    target = Target()
    found = preview(people(target), {"people": open_source(str(parquet))}, ReplayOptions(settings(tmp_path)))
    assert found.rows["out"]["id"].to_list() == [i for i in range(1_000) if i % 97 >= 18]
    assert found.rows_in == 1_000
    assert not target.batches
    assert not (tmp_path / "state").exists()


def test_a_dry_run_says_what_sinks_would_make_and_only_what_is_asked_for(
    tmp_path: Path, parquet: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    topology = sc.Topology("made")
    people = topology.stream("people", {"id": "int64"})
    for create in (True, False):
        table, url = f"made_{create}", "{}://127.0.0.1:9/shop"  # nobody is there, and nobody is asked
        people.to(sc.sinks.Postgres(table, url.format("postgresql"), create=create))
        people.to(sc.sinks.MySQL(table, url.format("mysql"), create=create))
        people.to(sc.sinks.SQLite(table, tmp_path / "made.db", create=create))
        people.to(sc.sinks.MongoDB(table, url.format("mongodb"), key="id", create=create))
        people.to(sc.sinks.Topic(table, create=create, partitions=3))
    source = {"people": open_source(str(parquet))}
    found = preview(topology, source, ReplayOptions(settings(tmp_path)))
    text = "\n".join(line for statements in found.statements.values() for line in statements)
    for statement in (
        'create table if not exists "made_True"',
        "create table if not exists `made_True`",
        "db.getCollection('made_True').createIndex({'id': 1}, {unique: true})",
        "--topic made_True --partitions 3",
    ):
        assert statement in text
    assert "made_False" not in text
    assert text.count("streamcore_positions") == 8, "where positions are goes with every table"
    assert not (tmp_path / "made.db").exists()
    show(Console(width=60), topology.name, found)
    assert set(text.splitlines()) <= set(capsys.readouterr().out.splitlines()), "whole, to be copied"
