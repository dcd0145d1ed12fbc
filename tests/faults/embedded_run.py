"""One fault run without a broker: files are replayed through an embedded log, and the process dies."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from streamcore.deadletter.reader import read as read_letters
from streamcore.transport.embedded_broker import Broker
from streamcore.transport.embedded_log import EmbeddedLog
from tests.faults.faults import crashes
from tests.faults.feed import RowMaker
from tests.faults.journal import Journal, Produced, judge, read
from tests.faults.nursery import Nursery
from tests.faults.processes import WorkerProcess
from tests.faults.rows import Maker
from tests.faults.run import (
    RECOVERY_LIMIT,
    TOPOLOGY,
    Invalid,
    Outcome,
    until,
    worker_environment,
)
from tests.faults.supervisor import Supervisor
from tests.faults.targets import FilesTarget

FILES, NAME = 2, "faults"
_FINISH_SECONDS = 90.0


class EmbeddedRun:
    """What a fault sees of the run: its ``dice`` and the ``supervisor``, whose slot 0 replays."""

    topology, rows, fetch_bytes = TOPOLOGY, 12_000, "2048"

    def __init__(self, nursery: Nursery, folder: Path, seed: int, *, planted: str) -> None:
        self.dice, self.outcome = random.Random(seed), Outcome()
        self._nursery, self._folder, self._planted = nursery, folder, planted
        self.target = self._target()
        self.supervisor = Supervisor(self._spawn, bounded=True)

    def _target(self) -> FilesTarget:
        return FilesTarget(self._folder / "out", "rows")

    def _maker(self) -> RowMaker:
        return Maker(self.dice, "files")

    def _spawn(self, slot: int, crash: str) -> WorkerProcess:
        environment = {
            **worker_environment(self._folder / "state", self._planted, crash),
            "STREAMCORE_LIMITS__FETCH_MAX_BYTES": self.fetch_bytes,
            "SC_FAULT_NAME": NAME,
            "SC_FAULT_SINK": "files",
            "SC_FAULT_TARGET": self.target.address,
        }
        words = ["replay", self.topology, "--from", f"rows={self._folder / 'in'}/*.ndjson"]
        log = self._folder / f"worker-{slot}.log"
        return WorkerProcess(words, log=log, environment=environment, nursery=self._nursery)

    async def moved(self) -> None:
        """Wait until the target moves on from where it is, or all is done; notes how long it took."""
        began, before = time.monotonic(), sum((await self.target.positions()).values())

        async def moved() -> bool:
            return self.supervisor.finished or sum((await self.target.positions()).values()) > before

        done, seconds = await until(moved, RECOVERY_LIMIT), time.monotonic() - began
        self.outcome.recovery.append(seconds)
        if not done:
            self.outcome.workers.append(f"not recovered in {seconds:.0f} s")

    async def go(self, fault: Callable[[EmbeddedRun], Awaitable[None]]) -> Outcome:
        """The run from its start to the verdict."""
        self._produce()
        supervisor, outcome = self.supervisor, self.outcome
        async with supervisor:
            try:
                await fault(self)
            except Invalid as why:
                raise Invalid(f"{why}; {supervisor.kills} kills; restarts: {supervisor.causes}") from why

            async def finished() -> bool:
                return supervisor.finished or bool(supervisor.failures)

            if await until(finished, _FINISH_SECONDS):
                await self._judge()
                await self._again()
            else:  # its worker still holds the log that would be looked at
                outcome.workers.append(f"not finished in {_FINISH_SECONDS:.0f} s")
        outcome.note(supervisor)
        return outcome

    def _produce(self) -> None:
        made = self._maker().make(self.rows)
        (self._folder / "in").mkdir()
        with Journal(self._folder / "journal.jsonl") as journal:
            journal.intend(one.row for one in made)
            for number in range(FILES):
                lines = [one.value + b"\n" for one in made if int(one.row.key[1:]) % FILES == number]
                self._file(number).write_bytes(b"".join(lines))
            journal.confirm(one.row.id for one in made)

    def _file(self, number: int) -> Path:
        return self._folder / "in" / f"{number}.ndjson"

    async def _judge(self) -> None:
        produced = read(self._folder / "journal.jsonl")
        dead, seen = await self._dead(produced), await self.target.look()
        verdict = judge(produced, seen.effects, dead, ordered=True)
        self.outcome.rows = verdict.rows
        if not verdict.holds:
            self.outcome.wrong.append(str(verdict))

    async def _dead(self, produced: Produced) -> list[str]:
        """The rows that are dead letters."""
        broker = Broker.open(f"embedded://{NAME}{(self._folder / 'state' / NAME).absolute()}")
        try:
            letters = [x async for x in read_letters(EmbeddedLog(broker), f"{NAME}.dead-letters")]
        finally:
            broker.close()
        dead = produced.ids_of(x.value for x in letters)
        if len(set(dead)) < len(dead):
            self.outcome.wrong.append("a row has two dead letters of different ids")
        return dead

    async def _again(self) -> None:
        """Once more: it says that it is finished, and changes nothing."""
        before, self.supervisor.finished = await self.target.look(), False
        worker = self.supervisor.start(0)

        async def finished() -> bool:
            return self.supervisor.finished

        if not await until(finished, RECOVERY_LIMIT):
            self.outcome.wrong.append("a finished replay did not end when started again")
        elif "already finished" not in worker.output():
            self.outcome.wrong.append("a finished replay did not say so")
        if await self.target.look() != before:
            self.outcome.wrong.append("a finished replay wrote again")
        # Only now: what a dead owner wrote aside for its seal goes with the second take-over after it.
        if litter := self.target.litter():
            self.outcome.wrong.append(f"left behind: {litter[0].name} and {len(litter) - 1} more")


async def replay_killed(run: EmbeddedRun) -> None:
    """SIGKILL three times: while it works, and sometimes while it still starts."""
    run.supervisor.start(0)
    for _ in range(3):
        if run.dice.random() < 0.7:
            await run.moved()
            await asyncio.sleep(run.dice.uniform(0, 0.3))
        else:
            await asyncio.sleep(run.dice.uniform(0.05, 0.5))
        if 0 not in run.supervisor.workers:
            break
        await run.supervisor.kill(0)
        await asyncio.sleep(0.1)
    if run.supervisor.kills == 0:
        raise Invalid("it was finished before the kill")
    await run.moved()


def replay_killed_at(point: str) -> Callable[[EmbeddedRun], Awaitable[None]]:
    """SIGKILL at a crash point, in two lives."""

    async def fault(run: EmbeddedRun) -> None:
        run.supervisor.start(0, *crashes(point, run.dice))

        async def killed() -> bool:
            return run.supervisor.kills >= 2 or run.supervisor.finished

        await until(killed, 40)
        if run.supervisor.kills < 2:
            raise Invalid(f"it was not killed twice at {point}")
        await run.moved()

    return fault
