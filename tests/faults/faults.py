"""The faults that strike workers on Kafka. Each ends when it has healed and the workers have recovered."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Awaitable, Callable
from functools import partial

import psutil

from tests.faults.processes import WorkerProcess
from tests.faults.proxy import Proxy
from tests.faults.run import SESSION_SECONDS, Invalid, Run, until

Fault = Callable[[Run], Awaitable[None]]
_ZOMBIE_SECONDS = 4.0
_FULL_SECONDS, _FILL_SECONDS = 1.5, 0.05
_CUTS, _WIDE_CUT, _WAITING_SECONDS = (1_500, 4_000, 11_000, 30_000), 60_000, 1.5
ONCE = "pipeline.taken_over"
"""The crash point that a life passes once."""


async def killed(run: Run) -> None:
    """SIGKILL twice: while it works, and sometimes while it still starts."""
    run.feed.on()
    run.supervisor.start(0)
    for number in range(2):
        if run.dice.random() < 0.7:
            await run.flowing()
            await asyncio.sleep(run.dice.uniform(0, 0.4))
        else:
            await asyncio.sleep(run.dice.uniform(0.1, 1.5))
        await run.supervisor.kill(0)
        if not await until(_true(partial(_kills, run, number + 1)), 5):
            raise Invalid("the worker ended before the kill")
    await run.recovered()
    await run.look()


def killed_at(point: str) -> Fault:
    """SIGKILL at a crash point, in two lives, at an early pass of each."""

    async def fault(run: Run) -> None:
        run.feed.on()
        run.supervisor.start(0, *crashes(point, run.dice))
        if not await until(_true(partial(_kills, run, 2)), 30):
            raise Invalid(f"it was not killed twice at {point}")
        await run.recovered()
        await run.look()

    return fault


def crashes(point: str, dice: random.Random) -> list[str]:
    """Two lives that end at *point*: when work begins, or at one of its first passes."""
    return [point if point == ONCE else f"{point}:{dice.randint(1, 6)}" for _ in range(2)]


def zombie(point: str = "") -> Fault:
    """SIGSTOP past the session time-out, at *point* or anywhere; another takes over; SIGCONT."""

    async def fault(run: Run) -> None:
        run.feed.on()
        crash = (f"{point}:{run.dice.randint(20, 60)}:SIGSTOP",) if point else ()
        first = run.supervisor.start(0, *crash)
        if not point:
            await run.flowing()
            await asyncio.sleep(run.dice.uniform(0, 0.5))
            first.pause()
        await _stopped(first, point)
        began = time.monotonic()
        run.supervisor.start(1)
        await asyncio.sleep(run.dice.uniform(0.2, 0.8))
        await run.feed.off()
        await run.recovered()
        await asyncio.sleep(max(0.0, SESSION_SECONDS - (time.monotonic() - began)))
        await _wakes(run, first)

    return fault


async def twin(run: Run) -> None:
    """A stopped static member is replaced by another of its name (a pod that moved), and wakes up."""
    run.feed.on()
    first = run.supervisor.start(0)
    await run.flowing()
    await asyncio.sleep(run.dice.uniform(0, 0.5))
    first.pause()
    await _stopped(first, "")
    run.supervisor.start(10)  # the same instance id
    await asyncio.sleep(run.dice.uniform(0.2, 0.8))
    await run.feed.off()
    await run.recovered()
    run.supervisor.workers.pop(0)  # its end is no restart: the other one is the replacement
    await _wakes(run, first)
    first.kill()


async def _wakes(run: Run, zombie: WorkerProcess) -> None:
    """Everything is done and no row flows: whatever appears now, the zombie wrote it."""
    before = await run.look()
    zombie.resume()
    await until(_true(lambda: zombie.code is not None), _ZOMBIE_SECONDS)
    after = await run.look()
    if not run.target.folds and list(after.effects) != list(before.effects):
        run.fail(f"the zombie changed what is there: {len(before.effects)} rows, then {len(after.effects)}")
    if zombie.code is not None and zombie.code in (0, -signal.SIGSEGV):
        run.outcome.workers.append(f"the zombie ended with {zombie.code}")
    run.feed.on()
    await asyncio.sleep(0.5)


async def _stopped(worker: WorkerProcess, point: str) -> None:
    def stopped() -> bool:
        return worker.code is None and psutil.Process(worker.pid).status() == psutil.STATUS_STOPPED

    if not await until(_true(stopped), 30):
        raise Invalid(f"it did not stop at {point or 'SIGSTOP'}")


async def server_restarted(run: Run) -> None:
    """SIGKILL of the sink's server, down for a while, started again."""
    run.feed.on()
    run.supervisor.start(0)
    await run.flowing()
    await asyncio.sleep(run.dice.uniform(0, 0.5))
    await asyncio.to_thread(run.server.kill)
    await asyncio.sleep(run.dice.uniform(0.2, 3))
    await asyncio.to_thread(run.server.start)
    await run.recovered()
    await run.look()


def disk_full(server: bool) -> Fault:
    """No room where the sink writes, for some seconds; its *server*, if it ended, is started again."""

    async def fault(run: Run) -> None:
        assert run.disk is not None
        run.feed.on()
        run.supervisor.start(0)
        await run.flowing()
        still = _FULL_SECONDS + run.dice.uniform(0, 2)
        try:
            if not await until(partial(_stands_still, run, still), _FULL_SECONDS * 5):
                raise Invalid("it went on though the disk was full")
        finally:
            run.disk.free()
        if server and _ended(run.server.pid):
            await asyncio.to_thread(run.server.kill)
            await asyncio.to_thread(run.server.start)
        await run.recovered()
        await run.flowing()
        await run.look()

    return fault


async def _stands_still(run: Run, seconds: float) -> bool:
    """Keep the disk full for so long; whether nothing was stored."""
    assert run.disk is not None
    before, until_then = await run.progress(), time.monotonic() + seconds
    while time.monotonic() < until_then:
        run.disk.fill()
        await asyncio.sleep(_FILL_SECONDS)
    return await run.progress() in (before, 0)


def _ended(pid: int) -> bool:
    """Whether the process is gone, or dead and not yet waited for."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def cut_otherwise(point: str) -> Fault:
    """Killed at *point*, where rows are stored, three times with rows waiting: each life cuts them anew."""

    async def fault(run: Run) -> None:
        cuts = iter(run.dice.sample(_CUTS, 3))
        run.fetch_bytes = lambda: next(cuts, _WIDE_CUT)
        run.feed.on()
        await asyncio.sleep(_WAITING_SECONDS)
        run.supervisor.start(0, *[f"{point}:{run.dice.randint(1, 4)}" for _ in range(3)])
        if not await until(_true(partial(_kills, run, 3)), 45):
            raise Invalid(f"it was not killed three times at {point}")
        await run.recovered()
        await run.look()

    return fault


async def broker_restarted(run: Run) -> None:
    """SIGKILL of the broker, started again; the feed's own sends wait for it as well."""
    run.feed.on()
    run.supervisor.start(0)
    await run.flowing()
    await asyncio.sleep(run.dice.uniform(0, 0.5))
    await asyncio.to_thread(run.servers.kafka.kill)
    await asyncio.sleep(run.dice.uniform(0, 2))
    began, before = time.monotonic(), sum(run.feed.ends.values())
    await asyncio.to_thread(run.servers.kafka.start)
    if not await until(_true(lambda: sum(run.feed.ends.values()) > before), 30):
        raise Invalid("our own producer did not recover")
    await run.recovered(began)
    await run.flowing()
    await run.look()


def reply_lost(*requests: bytes) -> Fault:
    """The network dies between one of *requests* and its reply, or anywhere, three times."""

    async def fault(run: Run) -> None:
        assert run.proxy is not None
        run.feed.on()
        run.supervisor.start(0)
        for _ in range(3):
            await run.flowing()
            if run.dice.random() < 0.7:
                request = run.dice.choice(requests)
                run.proxy.lose_reply_to(request)
                if not await until(_true(partial(_lost, run.proxy, run.proxy.lost + 1)), 20):
                    raise Invalid(f"no {request.decode()} came by")
            else:
                await asyncio.sleep(run.dice.uniform(0, 0.2))
                run.proxy.cut()
        await run.recovered()
        await run.look()

    return fault


async def storm(run: Run) -> None:
    """Twelve joins, leaves, kills and hiccups in quick succession; two workers stay."""
    run.feed.on()
    supervisor, leaving = run.supervisor, list[asyncio.Task[None]]()
    supervisor.start(0)
    supervisor.start(1)
    await run.flowing()
    for number in range(12):
        await asyncio.sleep(run.dice.uniform(0.1, 0.9))
        slots = sorted(supervisor.workers)
        act = run.dice.choice(["join", "join", "leave", "leave", "kill", "hiccup"])
        if act == "join" and len(slots) < 4:
            supervisor.start(100 + number)
        elif act == "leave" and len(slots) > 1:
            leaving.append(asyncio.create_task(supervisor.leave(run.dice.choice(slots))))
            await asyncio.sleep(0)
        elif act == "kill":
            await supervisor.kill(run.dice.choice(slots))
        else:
            worker = supervisor.workers[run.dice.choice(slots)]
            worker.pause()
            await asyncio.sleep(run.dice.uniform(0.1, 1))
            worker.resume()
    await asyncio.gather(*leaving)
    await run.recovered()
    await run.look()


def _kills(run: Run, count: int) -> bool:
    return run.supervisor.kills >= count


def _lost(proxy: Proxy, count: int) -> bool:
    return proxy.lost >= count


def _true(holds: Callable[[], bool]) -> Callable[[], Awaitable[bool]]:
    async def ask() -> bool:
        return holds()

    return ask
