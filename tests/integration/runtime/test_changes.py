"""What a topology whose declaration changed does with its state: the table of docs/tables.md, row by row."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions

import streamcore as sc
from streamcore.errors import BadConfig, Permanent
from streamcore.runtime.worker import work
from streamcore.settings import Settings
from streamcore.systems.kafka import KafkaConnection
from streamcore.transport.kafka_log import KafkaLog
from tests.integration.runtime.memory_sink import MemorySink, Target
from tests.integration.runtime.test_worker import Scene, User, Working, until
from tests.services.kafka import KafkaServer

Grow = Callable[[sc.Stream], None]


class Changing(Scene):
    """Users counted by age; what stands before, in and behind the table changes from worker to worker."""

    def __init__(self, server: KafkaServer, tmp_path: Path) -> None:
        super().__init__(server, tmp_path)
        self.targets: dict[str, Target] = {}
        self.often = False
        """Snapshots are written as often as can be."""

    def settings(self, **more: object) -> Settings:
        often = {"state": {"dir": self.tmp_path, "snapshot_mb": 0}} if self.often else {}
        return super().settings(**often, **more)

    def ages(
        self,
        before: str = "age >= 18",
        aggregates: dict[str, str] | None = None,
        behind: str = "",
        sinks: tuple[str, ...] = ("out",),
        name: str | None = None,
        topology_name: str | None = None,
    ) -> sc.Topology:
        topology = sc.Topology(topology_name or self.name)
        users = topology.stream("users", User, key="id", topic=self.topic).filter(before)
        table = users.by("age").aggregate(**(aggregates or {"n": "count(*)"}), name=name)
        if behind:
            table = table.add_column("more", behind)
        for sink in sinks:
            table.changelog().to(MemorySink(sink, self.targets.setdefault(sink, Target())))
        return topology

    def table(self, sink: str = "out") -> dict[int, int]:
        """The table as *sink* has it: the last update of each key."""
        frame = self.targets[sink].frame()
        return dict(frame.select("age", "n").rows()) if "age" in frame.columns else {}

    def counted(self, first: int = 0) -> dict[int, int]:
        """The oracle: ages of the users from number *first* on."""
        return dict(Counter(i % 97 for i in range(first, self.sent) if i % 97 >= 18))

    async def works(self, topology: sc.Topology, sink: str = "out", first: int = 0) -> None:
        """A worker with *topology* goes on with the state that is there."""
        await self.send(500)
        async with Working(self, topology):
            await until(lambda: self.table(sink) == self.counted(first), f"the table in {sink}")

    async def starts(self, topology: sc.Topology) -> None:
        """Start a worker that must refuse to."""
        await asyncio.wait_for(work(topology, self.settings(), asyncio.Event()), 60)

    async def more_partitions(self, topic: str, count: int) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.server.bootstrap)
        await admin.start()
        await admin.create_partitions({topic: NewPartitions(count)})
        await admin.close()

    @property
    def state_log(self) -> str:
        return f"{self.name}.users-table.log"


@pytest.fixture
async def changing(kafka: KafkaServer, tmp_path: Path) -> AsyncIterator[Changing]:
    scene = Changing(kafka, tmp_path)
    await scene.log.create(scene.topic, 4, {})
    await scene.works(scene.ages())
    yield scene
    await scene.log.close()


async def test_a_step_and_a_sink_behind_the_state_are_followed(changing: Changing) -> None:
    await changing.works(changing.ages(behind="n * 2", sinks=("out", "new")), sink="new")
    assert changing.table("out") == changing.counted()
    assert "more" in changing.targets["new"].frame().columns


async def test_a_sink_that_keeps_its_name_goes_on_and_one_with_another_begins_anew(
    changing: Changing,
) -> None:
    moved = changing.targets["elsewhere"] = Target(positions=dict(changing.targets["out"].positions))
    await changing.works(changing.ages(sinks=("elsewhere", "renamed")), sink="renamed")
    assert 0 < moved.frame().height < changing.targets["renamed"].frame().height
    assert changing.table("renamed") == changing.counted()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"before": "age >= 21"}, "filter age >= 18 is now filter age >= 21"),
        ({"aggregates": {"n": "count(*)", "oldest": "max(age)"}}, r"'oldest' : 'max\(age\)'.* is new"),
        ({"aggregates": {"n": "sum(age)"}}, r"'count\(\*\)' is now 'sum\(age\)'"),
    ],
    ids=["a step before", "another aggregate", "a changed aggregate"],
)
async def test_what_the_state_does_not_fit_refuses_to_start_and_says_what_changed(
    changing: Changing, change: dict[str, object], what: str
) -> None:
    with pytest.raises(BadConfig, match=what) as found:
        await changing.starts(changing.ages(**change))
    assert "test_changes.py" in str(found.value)
    await changing.works(changing.ages())


async def test_another_name_begins_anew(changing: Changing) -> None:
    first = changing.sent
    changing.targets["out"].batches.clear()
    await changing.works(changing.ages(aggregates={"n": "count(age)"}, name="anew"), first=first)


async def test_another_topology_name_has_the_state_again_by_replay(changing: Changing) -> None:
    first = changing.table()
    anew = changing.ages(sinks=("anew",), topology_name=f"{changing.name}-2")
    await changing.works(anew, sink="anew")
    assert changing.table() == first, "the old topology's sink is left alone"
    await changing.works(changing.ages())


async def test_workers_of_the_old_version_go_on_while_a_new_one_refuses(changing: Changing) -> None:
    async with Working(changing, changing.ages()) as old:
        await changing.send(500)
        await until(lambda: changing.table() == changing.counted(), "the table before")
        for _ in range(2):
            with pytest.raises(BadConfig, match="is now filter age >= 21"):
                await changing.starts(changing.ages(before="age >= 21"))
            await changing.send(500)
            await until(lambda: changing.table() == changing.counted(), "the table beside it")
        assert not old.task.done()


async def test_a_worker_that_meets_partitions_which_were_added_stops_and_the_next_one_has_them(
    changing: Changing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONSUMER_METADATA_MAX_AGE_MS", "500")  # else it looks every five minutes
    old = Working(changing, changing.ages())
    await changing.send(500)
    await until(lambda: changing.table() == changing.counted(), "the table before")
    await changing.more_partitions(changing.topic, 6)
    await changing.log.close()
    changing.log = KafkaLog(KafkaConnection.parse(changing.url))  # one that knows of them
    await changing.send(500)
    await asyncio.wait({old.task}, timeout=60)
    with pytest.raises(Permanent, match=r"partition that the topology does not read.*start again"):
        old.task.result()
    await changing.works(changing.ages())


async def test_a_log_with_other_partitions_or_none_is_found_at_the_start(changing: Changing) -> None:
    await changing.more_partitions(changing.state_log, 6)
    with pytest.raises(Permanent, match=r"another number of partitions.*got 6, allowed: 4"):
        await changing.starts(changing.ages())
    admin = AIOKafkaAdminClient(bootstrap_servers=changing.server.bootstrap)
    await admin.start()
    await admin.delete_topics([changing.state_log])
    await admin.close()
    await asyncio.sleep(0.5)
    with pytest.raises(Permanent, match="is gone, and with it the state"):
        await changing.starts(changing.ages())


async def test_more_partitions_of_the_source_come_with_the_next_start(changing: Changing) -> None:
    await changing.more_partitions(changing.topic, 6)
    await changing.works(changing.ages())


async def test_a_new_sink_behind_a_log_that_was_cut_begins_with_what_comes_and_a_lagging_one_refuses(
    changing: Changing,
) -> None:
    changing.often = True
    lagging = changing.targets["lagging"] = Target(positions=dict(changing.targets["out"].positions))
    async with Working(changing, changing.ages()):
        for _ in range(16):
            await changing.send(300)
            await until(lambda: changing.table() == changing.counted(), "the table")
    assert min(b.start for b in (await changing.log.bounds(changing.state_log)).values()) > 0
    await changing.send(300)
    async with Working(changing, changing.ages(sinks=("out", "new"))):
        await until(lambda: changing.table() == changing.counted(), "the table")
        await until(lambda: bool(changing.table("new")), "the new sink")
    assert changing.table("new").items() <= changing.counted().items()
    assert lagging.positions
    with pytest.raises(Permanent, match="'lagging' lacks results from number"):
        await changing.starts(changing.ages(sinks=("out", "lagging")))
