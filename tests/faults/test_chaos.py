"""Each pipeline under each fault, once, with real workers and servers; ``make chaos`` takes other seeds.

The planted mistakes show that the oracle sees: with one of them in the workers, a few runs must fail.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults import http_target
from tests.faults.http_target import HttpServer
from tests.faults.kinds import KINDS, Kind
from tests.faults.nursery import Nursery
from tests.faults.run import PATIENCE, Invalid, Outcome
from tests.faults.servers import Servers
from tests.faults.sinks import SINKS
from tests.services.server import Unavailable

_TRIES = 3
PLANTED = [
    ("commit_before_the_sink", "kafka-kafka:kill"),
    ("no_fence", "kafka-postgres:zombie at pipeline.before_sinks"),
    ("dead_letters_not_awaited", "kafka-postgres:kill at postgres.after_commit"),
    ("seals_not_checked", "kafka-files:zombie at pipeline.before_sinks"),
    ("repeats_in_the_log_counted", "windows-postgres:zombie at pipeline.before_sinks"),
    ("state_begins_at_the_commit", "windows-files:kill at commit.after"),
    ("watermark_of_another_position", "windows-postgres:kill at postgres.before_commit"),
    ("lookups_do_not_wait", "tables-postgres:postgres restart"),
    ("blind_fence", "kafka-mysql:zombie at pipeline.before_sinks"),
    ("rows_before_the_position", "kafka-sqlite:kill at sqlite.before_commit"),
    ("errors_are_confirmed", "kafka-sqlite:disk full"),
    ("stored_position_is_a_hint", "kafka-mysql:another cut"),
    ("rows_before_the_position", "kafka-redis:kill at redis.before_commit"),
    ("posts_are_not_awaited", "kafka-http:kill at http.answered"),
]
"""Mistakes, and for each the kind of run that looks for it."""


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as nursery:
        yield nursery


@pytest.fixture
def servers(request: pytest.FixtureRequest) -> Servers:
    """The run's servers: its own where the fault kills them, shared ones otherwise."""
    kind: Kind = request.node.callspec.params["kind"]
    wanted = {"kafka", SINKS[kind.pipeline.sink].server} - {""}
    found = {name: f"own_{name}" if kind.kills == name else name for name in wanted}
    return Servers(**{name: request.getfixturevalue(fixture) for name, fixture in found.items()})


@pytest.fixture(scope="module")
def http() -> Iterator[HttpServer]:
    yield from _running(http_target.start())


@pytest.fixture
def own_http() -> Iterator[HttpServer]:
    yield from _running(http_target.start())


def _running(server: HttpServer) -> Iterator[HttpServer]:
    yield server
    server.close()


async def valid(kind: Kind, seed: int, servers: Servers, nursery: Nursery, planted: str = "") -> Outcome:
    """One run that proves something: an invalid one is repeated."""
    for attempt in range(_TRIES):
        try:
            return await kind.run(seed + attempt, servers, nursery, planted)
        except Invalid as why:
            reason = str(why)
        except Unavailable as why:
            pytest.skip(str(why))
    pytest.fail(f"{_TRIES} invalid runs: {reason}")


@pytest.mark.chaos
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
async def test_no_promise_is_broken(kind: Kind, servers: Servers, nursery: Nursery) -> None:
    outcome = await valid(kind, 1, servers, nursery)
    assert not outcome.failures, outcome


@pytest.mark.slow
@pytest.mark.timeout(400 * PATIENCE)
@pytest.mark.parametrize(("mistake", "kind"), [(m, KINDS[k]) for m, k in PLANTED], ids=map(" ".join, PLANTED))
async def test_a_planted_mistake_is_caught(
    mistake: str, kind: Kind, servers: Servers, nursery: Nursery
) -> None:
    for seed in range(5):
        outcome = await valid(kind, 10 * seed, servers, nursery, mistake)
        if outcome.wrong and not outcome.workers:  # else the plant may have broken the worker itself
            print(f"{mistake} by {kind.name}, seed {10 * seed}: {'; '.join(outcome.wrong)}")
            return
    pytest.fail(f"five runs did not show it; the last one: {outcome.failures}")
