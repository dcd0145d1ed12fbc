"""Worlds in which Faust runs the topology: real apps of one process, its log on disk, a clock that jumps.

What is tried here and nowhere else in the simulation: the embedded transport, its group with Faust's
assignor, the conductor, recovery and commits of Faust. Apps join and leave; the process dies as in
:mod:`.power_world`.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import FunctionType
from unittest import mock

from mode.utils import loops

from streamcore.contracts import Log
from streamcore.event_time import END
from streamcore.observability.metrics import Metrics
from streamcore.runtime.app import AppOptions
from streamcore.runtime.ends import Ends
from streamcore.runtime.idleness import Idleness
from streamcore.runtime.job import running
from streamcore.runtime.options import PipelineOptions
from streamcore.runtime.pipeline import Pipeline
from streamcore.runtime.retry import Retries
from streamcore.runtime.state_logs import made_logs
from streamcore.transport.embedded_broker import Broker
from streamcore.transport.embedded_log import EmbeddedLog
from tests.simulation.job import GROUP
from tests.simulation.loop import Process, VirtualLoop
from tests.simulation.power_world import PowerWorld

_LOOK = 0.1
_CLOCKS = {time.monotonic, time.perf_counter, time.time}


@dataclass
class Member:
    """One app of the group."""

    name: str
    leaving: bool = False
    pipeline: Pipeline | None = None
    error: BaseException | None = None


class FaustWorld(PowerWorld):
    """See the module."""

    fault_kinds = ("call", "call", "step", "kill", "join", "join", "leave", "leave")

    def __init__(self, seed: int, *, faults: bool = True) -> None:
        super().__init__(seed, faults=faults)
        self._wanted = self.dice.choice([1, 2, 2, 3])
        self.feed.markers.clear()  # the embedded transport has no holes
        self._joins = 0
        """Members that are to join."""
        self._fetch_bytes = self.dice.choice([300, 2_000, 1 << 20])

    def run(self) -> None:
        with _one_clock(self.loop):
            super().run()

    async def _live(self, process: Process) -> None:
        url = f"embedded://sim-{self.seed}{self.folder}/log"
        Broker._open.clear()  # what the process before had open
        self.broker = broker = Broker.open(url, segment_bytes=self._segment_bytes, clock=self.loop.time)
        self._make_topics(broker)
        self._compare(broker)
        appending, self._joins, joined = asyncio.ensure_future(self._append_rows(broker)), self._wanted, 0
        while not appending.done() or appending.result() is None:
            for _ in range(self._joins if self._alive else max(self._joins, 1)):
                joined += 1
                member = Member(f"{process.name}.{joined}")
                self._alive[member.name] = process, member
                self.loop.tasks.append(asyncio.ensure_future(self._work(member, process, broker)))
            self._joins = 0
            await asyncio.sleep(_LOOK)

    def _fault(self, kind: str) -> None:
        members = [member for _, member in self._alive.values() if isinstance(member, Member)]
        if kind == "join":
            self._joins += 1
        elif kind != "leave":
            super()._fault(kind)
        elif members:
            self.dice.choice(members).leaving = True

    async def _work(self, member: Member, process: Process, broker: Broker) -> None:
        """A member that ends without being asked takes its process with it."""
        try:
            await self._be_member(member, broker)
        except Exception as error:
            member.error = error
            self._explain(member)
            process.kill()
        else:
            self._alive.pop(member.name, None)

    async def _be_member(self, member: Member, broker: Broker) -> None:
        job, log = self.job, EmbeddedLog(broker)
        logs = await made_logs(job.graph, log, job.streams, job.partitions)
        options = PipelineOptions(
            "dead",
            "redrive",
            memory_limit=job.memory_limit,
            snapshot_bytes=job.snapshot_bytes,
            state_dir=job.state_dir,
            state_memory=job.state_memory,
            state_logs=logs,
            retries=Retries(0.02, 0.4, 60.0),
            owner=member.name,
            clock=self.loop.time,
        )
        app_options = AppOptions(
            broker=broker.url,
            group=GROUP,
            datadir=self.folder / "faust",
            commit_interval=job.commit_every,
            fetch_max_bytes=self._fetch_bytes,
        )
        async with running(job.graph, job.streams, log, Metrics(), options, app_options, 2) as live:
            member.pipeline = live.pipeline
            looking = asyncio.ensure_future(self._look(live.pipeline, log, broker))
            try:
                while not member.leaving:
                    live.check()
                    await asyncio.sleep(_LOOK)
                await live.drain(30.0)
            finally:
                looking.cancel()

    async def _look(self, pipeline: Pipeline, log: Log, broker: Broker) -> None:
        """What the replay and the worker look for: ends of bounded streams, and idle partitions."""
        ends = Ends(log, self.job.streams, 1.0)
        asking = asyncio.ensure_future(ends.keep_asking())
        idleness = Idleness(self.job.graph, pipeline, self.job.streams, ends.of, self.loop.time)
        try:
            while True:
                await asyncio.sleep(0.4)
                if not self.job.bounded:
                    idleness.look()
                elif self.complete.is_set():
                    mine = [source for source in pipeline.owned() if source.topic in self.job.streams]
                    for source in mine:
                        if pipeline.processed.get(source) == broker.bounds(source).end:
                            pipeline.tell_watermark(source, END)
        finally:
            asking.cancel()


@contextmanager
def _one_clock(loop: VirtualLoop) -> Iterator[None]:
    """All that Faust and Mode take for the time is the loop's."""
    with ExitStack() as stack:
        for name in ("monotonic", "perf_counter", "time"):
            stack.enter_context(mock.patch.object(time, name, loop.time))
        for module in [m for n, m in sys.modules.items() if n.split(".")[0] in ("faust", "mode")]:
            for name, value in list(vars(module).items()):
                if value in _CLOCKS if callable(value) and not isinstance(value, type) else False:
                    stack.enter_context(mock.patch.object(module, name, loop.time))
        for function in _timers():
            defaults = {**(function.__kwdefaults__ or {}), "clock": loop.time}
            stack.enter_context(mock.patch.object(function, "__kwdefaults__", defaults))
        loops._current_loop.__dict__.pop("loop", None)
        yield
        loops._current_loop.__dict__.pop("loop", None)


def _timers() -> Iterator[FunctionType]:
    from mode.services import Service
    from mode.timers import Timer

    yield Service.itertimer
    yield Timer.__init__
