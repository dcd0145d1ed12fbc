"""Worlds of a broker, a database, and workers around them that die, stand still and come again."""

from __future__ import annotations

import asyncio

import numpy as np
import pyarrow as pa

from streamcore.contracts import Records
from streamcore.transport.embedded_blocks import to_batch
from streamcore.transport.embedded_broker import Broker
from tests.simulation.database import SimulatedSession
from tests.simulation.job import GROUP, REBALANCE, SESSION
from tests.simulation.loop import Process
from tests.simulation.network import Trouble
from tests.simulation.worker import Worker
from tests.simulation.world import Life, World

SHARP_EACH, FIRST_SHARP = 10, 4
_FAULTS = ["kill", "step", "request", "pause", "freeze", "freeze", "freeze", "leave", "join", "everyone"]
_AIMED = ["stuck", "stuck", "stuck", "kill", "request", "pause"]
_ZOMBIES = ["freeze", "freeze", "freeze", "pause", "kill"]
_PAUSES = [0.3, 2 * SESSION, 3 * SESSION]
"""Seconds that a process stands still: the longer ones make it a zombie."""


class WorkersWorld(World):
    """2 to 4 workers, each a process of its own.

    One seed in ten is sharp: its faults are aimed. COMMITs are not heard of; who has written a dead letter
    dies before its COMMIT, or who is to write it stands still, and the constraint is gone; an append to a
    log of state arrives when others own the partition; and what is made again is cut otherwise.
    """

    _struck = False
    """Whether the first appends of workers get stuck, in every other of these worlds."""

    @staticmethod
    def is_sharp(seed: int) -> bool:
        return seed % SHARP_EACH == FIRST_SHARP

    async def _happen(self) -> None:
        self.broker = broker = Broker(f"embedded://sim-{self.seed}", clock=self.loop.time)
        self.job = self._job()
        self._make_topics(broker)
        coordinator = broker.group(GROUP).coordinator
        coordinator.session_timeout, coordinator.rebalance_timeout = SESSION, REBALANCE
        self.complete = asyncio.Event()
        producing = asyncio.ensure_future(self._produce())
        ticking = asyncio.ensure_future(self._tick())
        if self.sharp and self.faults:
            self._struck = self.seed % 20 == 4
            self.network.on_append = self._after_append
            self.database.on_refusal = self._row_refused
        for number in range(self._wanted):
            self._begin(f"w{number}")
        if self.sharp and self.faults:
            self.database.unheard = self.dice.choice([0.0, 0.2, 0.5])
        if self.faults:
            await self._strike()
        self._struck, self.database.unheard = False, 0.0
        self.network.on_append = lambda topic, process: None
        self.network.stuck.clear()
        self.network.trouble = Trouble(0.0, 0.02)
        for process, _ in self._alive.values():
            process.dies_at = None
        self.network.deaths.clear()
        self.network.pauses.clear()
        self.database.on_refusal = lambda process: None
        await producing
        self.complete.set()
        await self._rest()
        ticking.cancel()

    async def _produce(self) -> None:
        records = [
            (record.at, stream, number, record)
            for stream, parts in self.feed.partitions.items()
            for number, part in enumerate(parts)
            for record in part
        ]
        records.sort(key=lambda one: one[0])
        for at, stream, number, record in records:
            if at > self.loop.now:
                await asyncio.sleep(at - self.loop.now)
            one = Records(pa.array([record.value], pa.binary()), np.array([record.stamp], np.int64))
            self.broker.append(stream, number, to_batch(one))

    async def _tick(self) -> None:
        """The coordinator's clock, and the supervisor's look at who has ended."""
        while True:
            await asyncio.sleep(0.1)
            self.broker.group(GROUP).coordinator.tick()
            for name, (process, worker) in list(self._alive.items()):
                if process.dead or process.task.done():  # type: ignore[attr-defined]
                    self._ended(name, process, worker)

    def _ended(self, name: str, process: Process, worker: Life) -> None:
        self._explain(worker)
        process.kill()
        del self._alive[name]
        if len(self._alive) < self._wanted:
            self.loop.world_later(self.dice.uniform(0.01, 0.5), self._begin, name)

    def _begin(self, name: str) -> None:
        if name in self._alive:
            return
        self._lives += 1
        process = Process(self.loop, f"{name}.{self._lives}")
        worker = Worker(process.name, self.job, self.broker, self.network, self.complete)
        self._alive[name] = process, worker
        if self._struck and self.dice.random() < 0.6:  # while there is much to catch up with
            self.network.stuck[process] = self.dice.uniform(SESSION, SESSION + 2)
        process.task = process.start(worker.run())  # type: ignore[attr-defined]

    # ------------------------------------------------------------ faults

    def _after_append(self, topic: str, process: Process | None) -> None:
        """Who has written a dead letter may die at once, and what it had refused is taken from now on."""
        if topic == "dead" and process is not None and self.dice.random() < 0.3:
            process.kill()
            self.database.strict = False

    def _row_refused(self, process: Process) -> None:
        """Who hears of it may stand still, and go on when its heir has written what it had refused."""
        if self.dice.random() < 0.3:
            process.pause()
            self.loop.world_later(3 * SESSION, process.go_on)
            self.database.strict = False

    async def _strike(self) -> None:
        dice = self.dice
        kinds = _AIMED if self.sharp else dice.choice([_FAULTS, _FAULTS, _ZOMBIES])
        count, span = dice.choice([0, 2, 3, 4, 6]), dice.choice([1.0, 2.0, 4.0])
        for _ in range(count):
            await asyncio.sleep(dice.uniform(0.0, 2 * span / count))
            self.network.trouble = Trouble(dice.choice([0.0, 0.0, 0.05, 0.3]), dice.choice([0.0, 0.05, 0.5]))
            self.database.strict = dice.random() < 0.7
            alive = [(n, p, w) for n, (p, w) in self._alive.items() if not p.dead]
            if not alive:
                continue
            _, process, worker = dice.choice(alive)
            kind = dice.choice(kinds)
            self.events.append(f"{self.loop.now:.3f} {kind} {process.name}")
            if kind == "kill":
                process.kill()
            elif kind == "stuck":
                self.network.stuck[process] = dice.uniform(SESSION, SESSION + 2)
            elif kind == "step":
                process.dies_at = process.steps + dice.randrange(400)
            elif kind == "request":
                self.network.deaths[process] = dice.randrange(1, 40)
            elif kind == "freeze":
                if kinds is _ZOMBIES:
                    for _, other, _ in alive[1:]:
                        self.network.pauses[other] = _beginning, dice.randrange(1, 4), 3 * SESSION
                what, most = dice.choice([(_any, 30), (_beginning, 3), (_beginning, 3)])
                self.network.pauses[process] = what, dice.randrange(1, most), dice.choice(_PAUSES)
            elif kind == "pause":
                process.pause()
                self.loop.world_later(dice.choice(_PAUSES), process.go_on)
            elif kind == "leave":
                assert isinstance(worker, Worker)
                worker.leaving = True
                worker.wake()
            elif kind == "join":
                self._begin(f"x{self._lives}")
            else:
                for one, _ in self._alive.values():
                    one.kill()
        await asyncio.sleep(dice.choice([0.0, 0.5, 1.0, 2 * SESSION]))


def _any(channel: object) -> bool:
    return True


def _beginning(channel: object) -> bool:
    """Whether a transaction begins: who stands still here, and goes on too late, writes as a zombie."""
    return isinstance(channel, SimulatedSession) and channel.begins
