"""Laws of sinks with special abilities: targets that refuse rows, connections that break, keys."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamcore.batch import OFFSET, OP, OP_DELETE, Batch, PartitionId, Rejects
from streamcore.contracts import FlushReason
from streamcore.errors import Transient
from streamcore.testing.sink_world import (
    COLUMNS,
    ORDERS,
    OTHERS,
    BreakableTarget,
    Suite,
    World,
    assert_same_rows,
    batches_of,
    deliver,
    frame_of,
    until_done,
)


class RefusingSinkConformance(Suite):
    """Laws of sinks whose target refuses single rows.

    ``by_the_row``: that is a matter of the row alone, whatever the target holds or allows at the moment.
    """

    by_the_row = False

    def bad_values(self) -> Sequence[Mapping[str, object]]:
        """Values, by column, each of which makes the target refuse a row."""
        raise NotImplementedError

    def test_who_refuses_is_said(self) -> None:
        async def test(world: World) -> None:
            assert world.target.sink.abilities.server_refuses is not self.by_the_row

        self.run(test)

    def test_refused_rows_become_dead_letters_once_and_their_neighbours_are_written(self) -> None:
        async def test(world: World) -> None:
            frame, bad = self._spoilt(range(40), every=7)
            writer = await world.writer()
            await writer.open({ORDERS: 0, OTHERS: 0})
            await deliver(writer, batches_of(frame, [3, 20, 21], ORDERS))
            await deliver(writer, batches_of(frame_of(range(100, 105)), [], OTHERS))
            await writer.flush(FlushReason.END)
            assert world.refused == Counter({(ORDERS, offset, 0): 1 for offset in bad})
            good = frame.filter(~pl.int_range(pl.len()).is_in(bad))
            assert_same_rows(await world.target.rows(), pl.concat([good, frame_of(range(100, 105))]))

        self.run(test)

    def test_a_batch_of_nothing_but_refused_rows_passes(self) -> None:
        async def test(world: World) -> None:
            frame, bad = self._spoilt(range(12), every=1)
            writer = await world.writer()
            await writer.open({ORDERS: 0})
            await deliver(writer, batches_of(frame, [6], ORDERS))
            assert await writer.flush(FlushReason.END) == {ORDERS: 12}
            assert sum(world.refused.values()) == len(bad) == 12
            assert (await world.target.rows()).is_empty()

        self.run(test)

    def test_a_row_is_refused_before_a_position_passes_it(self) -> None:
        async def test(world: World) -> None:
            frame, bad = self._spoilt(range(10), every=4)
            seen: list[Mapping[PartitionId, int]] = []
            context = world.context("worker-1")

            async def refuse(batch: Batch, rejects: Rejects) -> None:
                seen.append(await world.target.positions())
                raise Transient("the dead letters' topic is down")

            failing = world.target.sink.writer(replace(context, refuse=refuse))
            world.writers.append(failing)
            await failing.start()
            await failing.open({ORDERS: 0})
            with pytest.raises(Transient):
                await deliver(failing, batches_of(frame, [], ORDERS), FlushReason.END)
            assert seen == [{ORDERS: 0}]
            assert await world.target.positions() == {ORDERS: 0}
            assert (await world.target.rows()).is_empty()
            writer = await world.writer("worker-2")
            await writer.open({ORDERS: 0})
            await deliver(writer, batches_of(frame, [5], ORDERS))
            await writer.flush(FlushReason.END)
            assert {offset for _, offset, _ in world.refused} == set(bad)
            assert (await world.target.rows()).height == 10 - len(bad)

        self.run(test)

    def _spoilt(self, ids: Sequence[int], every: int) -> tuple[pl.DataFrame, list[int]]:
        """Rows of which each *every*-th can't be written, and the places of those."""
        values = itertools.cycle(self.bad_values())
        rows = frame_of(ids).to_dicts()
        bad = list(range(0, len(rows), every))
        for place in bad:
            rows[place] |= next(values)
        return pl.DataFrame(rows, schema=COLUMNS), bad


class BreakableSinkConformance(Suite):
    """Laws of sinks behind a connection."""

    def target(self) -> BreakableTarget:
        raise NotImplementedError

    def test_a_cut_connection_is_transient_and_the_same_calls_go_on(self) -> None:
        async def test(world: World) -> None:
            writer = await world.writer()
            await writer.open({ORDERS: 0})
            for batch in batches_of(frame_of(range(40)), [8, 16, 24, 32], ORDERS):
                await until_done(partial(writer.write, batch))
                await _breakable(world).cut_connections()
                await until_done(partial(writer.flush, FlushReason.END))
            assert await writer.flush(FlushReason.END) == {ORDERS: 40}
            assert_same_rows(await world.target.rows(), frame_of(range(40)))

        self.run(test)

    def test_nothing_is_confirmed_while_the_target_is_away_and_all_after_it_came_back(self) -> None:
        async def test(world: World) -> None:
            writer, target = await world.writer(), _breakable(world)
            await writer.open({ORDERS: 0})
            await deliver(writer, batches_of(frame_of(range(3)), [], ORDERS))
            await writer.flush(FlushReason.END)
            await target.go_down()
            with suppress(Transient):
                await deliver(writer, batches_of(frame_of(range(3, 6)), [], ORDERS, first=3))
            for _ in range(3):
                with pytest.raises(Transient):
                    await writer.flush(FlushReason.END)
            await target.come_back()
            assert await until_done(lambda: writer.flush(FlushReason.END)) == {ORDERS: 6}
            assert_same_rows(await world.target.rows(), frame_of(range(6)))

        self.run(test)


class UpsertSinkConformance(Suite):
    """Laws of sinks with a key: the last row of a key stays, deletes remove."""

    key: tuple[str, ...] = ("id",)

    @settings(
        max_examples=25,
        deadline=None,
        suppress_health_check=[HealthCheck.differing_executors, HealthCheck.function_scoped_fixture],
    )
    @given(
        rows=st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=30),
        cuts=st.lists(st.integers(0, 30), max_size=6),
        flushes=st.lists(st.booleans(), min_size=1, max_size=5),
    )
    def test_the_last_change_of_a_key_stays_however_the_stream_is_cut(
        self, rows: list[tuple[int, bool]], cuts: list[int], flushes: list[bool]
    ) -> None:
        frame = pl.DataFrame(
            {
                "id": [key for key, _ in rows],
                "name": [f"v{i}" for i in range(len(rows))],
                "value": [0.5] * len(rows),
            },
            schema=COLUMNS,
        )
        last = {key: (f"v{i}", deleted) for i, (key, deleted) in enumerate(rows)}
        wanted = {key: name for key, (name, deleted) in last.items() if not deleted}

        async def test(world: World) -> None:
            writer = await world.writer()
            await writer.open({ORDERS: 0})
            ops = pl.Series(OP, [OP_DELETE if deleted else 0 for _, deleted in rows], pl.UInt8)
            turns = itertools.cycle(flushes)
            for batch in batches_of(frame, [min(cut, len(rows)) for cut in cuts], ORDERS):
                part = ops.gather(batch.frame[OFFSET].to_list())
                await writer.write(batch.with_frame(batch.frame.with_columns(part)))
                if next(turns):
                    await writer.flush(FlushReason.IDLE)
            await writer.flush(FlushReason.END)
            got = await world.target.rows()
            assert dict(got.select("id", "name").iter_rows()) == wanted
            assert got.height == len(wanted)

        self.run(test)


def _breakable(world: World) -> BreakableTarget:
    target = world.target
    assert hasattr(target, "go_down")
    return target  # type: ignore[return-value]
