"""Fault runs with windows: what was fed is read from its log, and each window must be there once, exact."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping

from tests.faults.embedded_run import FILES, EmbeddedRun
from tests.faults.journal import Produced, dead_differ, digest_of, read
from tests.faults.run import AWAY, Invalid, Run
from tests.faults.window_oracle import Expected, Fed, expected
from tests.faults.window_rows import WindowMaker
from tests.faults.window_targets import WindowFiles, WindowsSeen, WindowTables
from tests.faults.window_topics import WindowTopics
from tests.services.kafka_topics import records

TOPOLOGY = "tests/faults/window_topology.py"
_TRIES = 3
_FATES = ("effect", "late")


class WindowRun(Run):
    """From a topic by windows to tables, the keys of the windows in any of its partitions."""

    topology = TOPOLOGY
    maker: WindowMaker
    target: WindowTables | WindowTopics
    _looks: list[WindowsSeen]

    def _target(self) -> WindowTables | WindowTopics:
        if self._sink == "topic-exact":
            return WindowTopics(self.servers.kafka.bootstrap, f"{self.name}.out", self.name, self.topic)
        assert self.servers.postgres is not None
        return WindowTables(self.servers.postgres.fresh_database(), self.topic)

    def _maker(self) -> WindowMaker:
        return WindowMaker(self.dice, future=True)

    async def progress(self) -> int:
        return len(await self._windows())

    async def _windows(self) -> set[tuple[str | None, int]]:
        try:
            return await self.target.windows()
        except AWAY:
            return set()

    def _caught_up(self) -> Callable[[], Awaitable[bool]]:
        """All windows that are closed by the rows that were acknowledged; late rows do not matter to them."""
        places, rows = dict(self.feed.places), self.maker.punctual
        fed: dict[int, list[Fed]] = {number: [] for number in self.feed.ends}
        for name in places.keys() & rows.keys():
            fed[places[name][0]].append(rows[name])
        wanted = expected(sorted(part, key=lambda row: row.at) for part in fed.values()).shops.keys()
        passed = super()._caught_up()

        async def caught_up() -> bool:
            return wanted <= await self._windows() and await passed()

        return caught_up

    async def _last_rows(self) -> None:
        for _ in range(_TRIES):
            if await self.feed.last(self.maker.last()):
                return
        raise Invalid("the last rows could not be sent")

    async def _judge(self) -> None:
        produced, values = self.feed.produced(), dict[int, list[bytes]]()
        for record in await records(self.servers.kafka.bootstrap, self.topic):
            values.setdefault(record.partition, []).append(record.value)
        wanted, doomed = _fed(produced, values)
        self.outcome.rows = len(produced.confirmed)
        dead, seen = await self._dead(produced), await self.look()
        self.outcome.wrong += wanted.broken(seen.there) + dead_differ(doomed, dead)
        self._judge_positions(seen.positions)
        for look in self._looks:
            self._judge_look(look, wanted)
        self.outcome.note(self.supervisor)

    def _judge_look(self, look: WindowsSeen, wanted: Expected) -> None:
        """At any time: whole windows, as many as the stored numbers say; late rows up to the position."""
        for failure in wanted.broken(look.there, whole=False):
            self.fail(f"in a look: {failure}")
        there = {"shops": len(look.there.shops), "spans": len(look.there.spans)}
        stored = {sink: look.numbers.get(sink, 0) for sink in there}
        if there != stored:
            self.fail(f"the stored numbers are {stored}, there are {there}")
        passed = {name for name, (p, at) in self.feed.places.items() if at < look.positions.get(p, 0)}
        late = set(look.there.late) & self.feed.places.keys()
        if late != (wanted.late & passed):
            self.fail(f"{len(late ^ (wanted.late & passed))} late rows are not on their side of the position")


class WindowReplay(EmbeddedRun):
    """From files by windows to files, without a broker."""

    topology = TOPOLOGY

    def _target(self) -> WindowFiles:
        return WindowFiles(self._folder / "out", "rows")

    def _maker(self) -> WindowMaker:
        return WindowMaker(self.dice, future=False)

    async def _judge(self) -> None:
        produced = read(self._folder / "journal.jsonl")
        values = {number: self._file(number).read_bytes().splitlines() for number in range(FILES)}
        wanted, doomed = _fed(produced, values, ended=True)
        dead, seen = await self._dead(produced), await self.target.look()
        self.outcome.rows = len(produced.confirmed)
        self.outcome.wrong += wanted.broken(seen.there) + dead_differ(doomed, dead)


def _fed(
    produced: Produced, values: Mapping[int, Iterable[bytes]], *, ended: bool = False
) -> tuple[Expected, set[str]]:
    """What must come of *values*, the rows of each partition in order: the windows, and the dead letters.

    Invalid when they are not the rows that were made, or late otherwise than they were made to be.
    """
    known, fed, doomed = {row.digest: row for row in produced.rows.values()}, [], set[str]()
    times = Counter[str]()
    for partition in values.values():
        rows = []
        for value in partition:
            row = known[digest_of(value)]
            times[row.id] += 1
            if row.fate == "dead":
                doomed.add(row.id)
            else:
                rows.append(Fed.of(value))
        fed.append(rows)
    wanted = expected(fed, ended=ended)
    fates = {fate: {row.id for row in known.values() if row.fate == fate} & times.keys() for fate in _FATES}
    if produced.confirmed - times.keys() or max(times.values(), default=0) > 1:
        raise Invalid("the source does not hold each acknowledged row once")
    if wanted.late & fates["effect"] or fates["late"] - wanted.late or not wanted.shops:
        raise Invalid("the rows are not late as they were made to be, or close no window")
    return wanted, doomed
