"""Laws of sinks with a key that refine what happens where rows meet (``streamcore.sinks.merging``).

A model takes the rows one after the other; whatever the cuts and flushes, the target must hold the same.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamcore.batch import OFFSET, OP, OP_DELETE, OP_INSERT
from streamcore.contracts import FlushReason
from streamcore.errors import BadConfig
from streamcore.testing.sink_world import COLUMNS, ORDERS, Suite, World, batches_of

Options = Mapping[str, object]
MERGES: Mapping[str, Options] = {
    "version": {"version": "value"},
    "ignore": {"on_conflict": "ignore"},
    "update": {"update": ["name"]},
    "update and version": {"update": ["name"], "version": "value"},
    "update of the version alone": {"update": "value", "version": "value"},
}


class Change(NamedTuple):
    """A row, or that the one of its key is gone. ``value`` is the version where there is one."""

    id: int
    name: str
    value: float | None
    gone: bool


Rows = dict[int, tuple[str, float | None]]


def merged(changes: Sequence[Change], options: Options) -> Rows:
    """The name and value of each key, by taking *changes* one after the other."""
    rows: Rows = {}
    updated = {"name", "value"} if "update" not in options else {*options["update"], options.get("version")}  # type: ignore[misc]
    if options.get("update") == "value":
        updated = {"value"}
    for id, name, value, gone in changes:
        there = rows.get(id)
        if there is None:
            if not gone:
                rows[id] = (name, value)
            continue
        if "version" in options and _older(value, there[1], gone):
            continue
        if gone:
            del rows[id]
        elif options.get("on_conflict") != "ignore":
            rows[id] = (
                name if "name" in updated else there[0],
                value if "value" in updated else there[1],
            )
    return rows


def _older(value: float | None, there: float | None, gone: bool) -> bool:
    if there is None or (value is None and gone):
        return False
    return value is None or value < there


class MergeSinkConformance(Suite):
    """Laws of sinks with a key and the options ``on_conflict``, ``update`` and ``version``."""

    key: tuple[str, ...] = ("id",)

    @pytest.mark.parametrize("merge", MERGES)
    def test_rows_are_merged_as_if_they_came_one_by_one(self, merge: str) -> None:
        changes = st.builds(
            Change,
            st.integers(0, 2),
            st.text("abc", min_size=1, max_size=2),
            st.none() | st.integers(0, 4).map(float),
            st.sampled_from([False, False, False, True]),
        )

        @settings(max_examples=12, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(
            changes=st.lists(changes, min_size=4, max_size=24),
            cuts=st.lists(st.integers(0, 24), max_size=4),
            flushes=st.lists(st.booleans(), min_size=1, max_size=4),
        )
        def holds(changes: list[Change], cuts: list[int], flushes: list[bool]) -> None:
            assert self.write(changes, cuts, flushes, MERGES[merge]) == merged(changes, MERGES[merge])

        holds()

    @pytest.mark.parametrize("seed", [1, 2])
    def test_with_a_version_the_order_of_rows_does_not_matter(self, seed: int) -> None:
        rng = random.Random(seed)  # noqa: S311 - no secret
        changes = [Change(n % 5, f"v{n}", float(n), False) for n in range(40)]
        newest = {n % 5: (f"v{n}", float(n)) for n in range(35, 40)}
        rng.shuffle(changes)
        cuts = sorted(rng.sample(range(40), 3))
        assert self.write(changes, cuts, [True, False], {"version": "value"}) == newest

    def test_a_version_that_is_not_a_number_is_refused(self) -> None:
        async def test(world: World) -> None:
            frame = pl.DataFrame([(1, "a", 1.0), (1, "b", float("nan"))], schema=COLUMNS, orient="row")
            writer = await world.writer()
            await writer.open({ORDERS: 0})
            await writer.write(batches_of(frame, [], ORDERS)[0])
            await writer.flush(FlushReason.END)
            assert list(world.refused) == [(ORDERS, 1, 0)]
            assert (await world.target.rows())["name"].to_list() == ["a"]

        self.run(test, version="value")

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({"version": "vaule"}, "did you mean 'value'"),
            ({"version": "name"}, "a number or a time"),
            ({"update": ["nmae"]}, "did you mean 'name'"),
            ({"update": ["id"]}, "never updated"),
            ({"on_conflict": "ignroe"}, "on_conflict"),
            ({"on_conflict": "ignore", "version": "value"}, "nothing is updated"),
            ({"key": None, "version": "value"}, "give key="),
        ],
    )
    def test_options_that_mean_nothing_are_refused_at_load(self, options: Options, says: str) -> None:
        async def test(world: World) -> None:
            with pytest.raises(BadConfig, match=says):
                world.target.sink.check(COLUMNS)

        self.run(test, **options)

    def test_a_sink_that_ignores_cannot_keep_a_table_up_to_date(self) -> None:
        async def test(world: World) -> None:
            assert not world.target.sink.abilities.upsert

        self.run(test, on_conflict="ignore")

    def write(
        self, changes: Sequence[Change], cuts: Sequence[int], flushes: Sequence[bool], options: Options
    ) -> Rows:
        """What the target holds behind *changes*, cut and flushed so."""
        frame = pl.DataFrame([change[:3] for change in changes], schema=COLUMNS, orient="row")
        ops = pl.Series(OP, [OP_DELETE if change.gone else OP_INSERT for change in changes], pl.UInt8)

        async def test(world: World) -> Rows:
            writer = await world.writer()
            await writer.open({ORDERS: 0})
            turns = itertools.cycle(flushes)
            for batch in batches_of(frame, [min(cut, len(changes)) for cut in cuts], ORDERS):
                part = ops.gather(batch.frame[OFFSET].to_list())
                await writer.write(batch.with_frame(batch.frame.with_columns(part)))
                if next(turns):
                    await writer.flush(FlushReason.PRESSURE)
            await writer.flush(FlushReason.END)
            assert not world.refused
            rows = (await world.target.rows()).select("id", "name", "value").rows()
            assert len({row[0] for row in rows}) == len(rows)
            return {id: (name, value) for id, name, value in rows}

        return self.run(test, **options)
