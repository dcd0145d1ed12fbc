"""The embedded group coordinator on a manual clock: rounds, generations, fencing."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from streamcore.errors import Fenced
from streamcore.transport.coordinator import Assignment, GroupCoordinator, State

PARTITIONS = [("t", p) for p in range(6)]


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Worker:
    """A member that joins when its test says so; shares are dealt out in turn."""

    def __init__(self, name: str, coordinator: GroupCoordinator[str]) -> None:
        self.name, self.coordinator, self.woken = name, coordinator, 0

    def wake(self) -> None:
        self.woken += 1

    def assign(self, members: Mapping[str, str]) -> Mapping[str, Assignment[str]]:
        names = sorted(members)
        return {
            name: Assignment(frozenset(PARTITIONS[i :: len(names)]), f"for {members[name]}")
            for i, name in enumerate(names)
        }

    def join(self) -> None:
        self.coordinator.join(self.name, self, f"metadata of {self.name}")

    @property
    def state(self) -> State:
        return self.coordinator.state(self.name)

    @property
    def partitions(self) -> frozenset[tuple[str, int]]:
        return self.coordinator.assignment(self.name).partitions


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def group(clock: Clock) -> GroupCoordinator[str]:
    return GroupCoordinator("g", clock, session_timeout=10, rebalance_timeout=20)


def test_the_only_member_gets_everything_at_once(group: GroupCoordinator[str]) -> None:
    a = Worker("a", group)
    a.join()
    assert a.state is State.STABLE
    assert group.generation == 1
    assert a.partitions == set(PARTITIONS)
    assert group.assignment("a").payload == "for metadata of a"


def test_a_second_member_waits_until_the_first_has_given_up_its_partitions(
    group: GroupCoordinator[str],
) -> None:
    a, b = Worker("a", group), Worker("b", group)
    a.join()
    b.join()
    assert (a.state, b.state) == (State.REJOIN, State.JOINED)
    group.check("a", 1, PARTITIONS)  # the last commit of the old generation is still good
    with pytest.raises(Fenced):
        group.check("b", 1)
    a.join()
    assert (a.state, b.state) == (State.STABLE, State.STABLE)
    assert group.generation == 2
    assert a.partitions | b.partitions == set(PARTITIONS)
    assert not a.partitions & b.partitions


def test_an_old_generation_and_a_foreign_partition_are_refused(group: GroupCoordinator[str]) -> None:
    a, b = Worker("a", group), Worker("b", group)
    a.join()
    b.join()
    a.join()
    with pytest.raises(Fenced, match="got 1, allowed: 2"):
        group.check("a", 1, a.partitions)
    with pytest.raises(Fenced, match="does not own"):
        group.check("a", 2, b.partitions)
    group.check("a", 2, a.partitions)


def test_when_a_member_leaves_the_others_share_its_partitions(group: GroupCoordinator[str]) -> None:
    a, b = Worker("a", group), Worker("b", group)
    a.join()
    b.join()
    a.join()
    woken = b.woken
    group.leave("a")
    assert b.woken == woken + 1
    assert b.state is State.REJOIN
    b.join()
    assert b.partitions == set(PARTITIONS)
    with pytest.raises(Fenced):
        group.check("a", group.generation)


def test_a_silent_member_is_dropped_after_its_session_and_fenced(
    group: GroupCoordinator[str], clock: Clock
) -> None:
    a, b = Worker("a", group), Worker("b", group)
    a.join()
    b.join()
    a.join()
    for _ in range(4):
        clock.now += 3
        state = group.heartbeat("b")
    assert state is State.REJOIN
    assert a.state is State.UNKNOWN
    b.join()
    assert b.partitions == set(PARTITIONS)
    with pytest.raises(Fenced):
        group.check("a", 2, [PARTITIONS[0]])
    assert group.heartbeat("a") is State.UNKNOWN


def test_a_pause_of_the_whole_process_costs_nobody_its_membership(
    group: GroupCoordinator[str], clock: Clock
) -> None:
    a, b = Worker("a", group), Worker("b", group)
    a.join()
    b.join()
    a.join()
    clock.now += 1000
    assert group.heartbeat("b") is State.STABLE
    assert group.heartbeat("a") is State.STABLE


def test_a_member_that_never_joins_again_is_dropped_from_the_round(
    group: GroupCoordinator[str], clock: Clock
) -> None:
    a, b = Worker("a", group), Worker("b", group)
    a.join()
    b.join()
    for _ in range(8):
        clock.now += 3
        group.heartbeat("a")  # alive, but stuck in its work
        group.heartbeat("b")
    assert a.state is State.UNKNOWN
    assert b.partitions == set(PARTITIONS)


def test_the_last_one_to_leave_leaves_an_empty_group_that_can_begin_again(
    group: GroupCoordinator[str],
) -> None:
    a = Worker("a", group)
    a.join()
    group.leave("a")
    group.leave("a")
    assert group.members == ()
    a.join()
    assert a.partitions == set(PARTITIONS)
    assert group.generation == 2


class AnyOrder(RuleBasedStateMachine):
    """Whatever members do: no partition has two owners, and generations only grow."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.group: GroupCoordinator[str] = GroupCoordinator(
            "g", self.clock, session_timeout=10, rebalance_timeout=20
        )
        self.workers = [Worker(name, self.group) for name in "abcd"]
        self.generation = 0

    @rule(i=st.integers(0, 3))
    def join(self, i: int) -> None:
        self.workers[i].join()

    @rule(i=st.integers(0, 3))
    def leave(self, i: int) -> None:
        self.group.leave(self.workers[i].name)

    @rule(i=st.integers(0, 3), seconds=st.floats(0, 8))
    def beat(self, i: int, seconds: float) -> None:
        self.clock.now += seconds
        self.group.heartbeat(self.workers[i].name)

    @precondition(lambda self: self.group.members)
    @rule()
    def all_do_what_they_are_asked(self) -> None:
        for worker in self.workers:
            if worker.state is State.REJOIN:
                worker.join()
        live = [w for w in self.workers if w.state is not State.UNKNOWN]
        assert all(w.state is State.STABLE for w in live)
        assert set().union(*(w.partitions for w in live)) == set(PARTITIONS)

    @invariant()
    def no_partition_has_two_owners(self) -> None:
        assert self.group.generation >= self.generation
        self.generation = self.group.generation
        for partition in PARTITIONS:
            owners = [w for w in self.workers if self._may_commit(w, partition)]
            assert len(owners) <= 1

    def _may_commit(self, worker: Worker, partition: tuple[str, int]) -> bool:
        try:
            self.group.check(worker.name, self.group.generation, [partition])
        except Fenced:
            return False
        return True


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
