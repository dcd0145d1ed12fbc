"""The group coordinator of the embedded transport: members, generations, fencing.

As in Kafka, in one process. A rebalance is a *round*:

    someone joins, leaves or is silent too long -> every member is woken (``Member.wake``)
      -> each gives up its partitions, commits under the old generation, joins again
      -> when all have joined (or the slow are dropped) the generation grows and each has an assignment

Commits and fetches name their generation; an old one, or one of a member that was dropped, is
refused with Fenced. The coordinator is plain data driven by its callers: it has no tasks, and time
is passed in. How partitions are assigned is the first member's business, as with Kafka's leader.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from streamcore.errors import Fenced

Metadata = TypeVar("Metadata")
Partition = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Assignment(Generic[Metadata]):
    """What a member got: its partitions, and what the assignor wants to tell it."""

    partitions: frozenset[Partition]
    payload: Metadata


class Member(Protocol[Metadata]):
    """A member as the coordinator sees it."""

    def wake(self) -> None:
        """Called when the member must join again, or when its assignment is ready. Must not call back."""
        ...

    def assign(self, members: Mapping[str, Metadata]) -> Mapping[str, Assignment[Metadata]]:
        """Share the partitions out among *members*, by what each gave when it joined."""
        ...


class State(enum.Enum):
    """Where a member stands."""

    STABLE = "stable"  # it works on its assignment
    REJOIN = "rejoin"  # it must give up its partitions and join again
    JOINED = "joined"  # it waits for the others
    UNKNOWN = "unknown"  # dropped or never joined; what it still does is refused


@dataclass(slots=True)
class _Seat(Generic[Metadata]):
    member: Member[Metadata]
    metadata: Metadata
    seen: float
    joined: bool = True
    assignment: Assignment[Metadata] | None = None


class GroupCoordinator(Generic[Metadata]):
    """The coordinator of *group*.

    *session_timeout*: seconds without a heartbeat after which a member is dropped.
    *rebalance_timeout*: seconds that a round waits for members to join again.
    *clock*: seconds, monotonic.
    """

    def __init__(
        self,
        group: str,
        clock: Callable[[], float],
        *,
        session_timeout: float = 60.0,
        rebalance_timeout: float = 60.0,
    ) -> None:
        self.group, self.generation = group, 0
        self._clock = clock
        self.session_timeout, self.rebalance_timeout = session_timeout, rebalance_timeout
        self._seats: dict[str, _Seat[Metadata]] = {}
        self._round_began: float | None = None
        self._ticked = clock()

    @property
    def members(self) -> tuple[str, ...]:
        """The members in the order in which they came."""
        return tuple(self._seats)

    @property
    def in_round(self) -> bool:
        """Whether a rebalance is on."""
        return self._round_began is not None

    def state(self, name: str) -> State:
        """Where the member *name* stands."""
        seat = self._seats.get(name)
        if seat is None:
            return State.UNKNOWN
        if self._round_began is None:
            return State.STABLE
        return State.JOINED if seat.joined else State.REJOIN

    def assignment(self, name: str) -> Assignment[Metadata]:
        """The assignment of *name* in this generation. Fenced when it has none."""
        seat = self._seats.get(name)
        if seat is None or seat.assignment is None:
            raise self._fenced(name, self.generation)
        return seat.assignment

    def join(self, name: str, member: Member[Metadata], metadata: Metadata) -> None:
        """Join, or join again with other *metadata*; begins a round unless one is on.

        The member holds no partition from here until the round ends, then it is woken.
        """
        self._seats[name] = (
            _Seat(member, metadata, self._clock(), assignment=None)
            if (name not in self._seats)
            else self._again(self._seats[name], member, metadata)
        )
        self._begin_round(joined=name)
        self._end_round_if_complete()

    def leave(self, name: str) -> None:
        """Leave; the others share the partitions. Nothing happens when *name* is no member."""
        if self._seats.pop(name, None) is not None and self._seats:
            self._begin_round()
            self._end_round_if_complete()
        elif not self._seats:
            self._round_began = None

    def heartbeat(self, name: str) -> State:
        """*name* is alive; drops those that are not. Returns where *name* stands."""
        if name in self._seats:
            self._seats[name].seen = self._clock()
        self.tick()
        return self.state(name)

    def tick(self) -> None:
        """Drop members that were silent too long and end a round that waits too long."""
        now = self._clock()
        # When the whole process stood still nobody could beat: that time counts for no one.
        pause = now - self._ticked - self.session_timeout / 2
        self._ticked = now
        if pause > 0:
            for seat in self._seats.values():
                seat.seen = min(now, seat.seen + pause)
        late = [n for n, s in self._seats.items() if now - s.seen > self.session_timeout]
        if self._round_began is not None and now - self._round_began > self.rebalance_timeout:
            late += [n for n, s in self._seats.items() if not s.joined and n not in late]
        self.drop(late)

    def drop(self, names: Iterable[str]) -> None:
        """Take *names* for dead: what they still do is refused, their partitions go to the others."""
        gone = [self._seats.pop(name) for name in names if name in self._seats]
        if not gone:
            return
        for seat in gone:
            seat.member.wake()
        if self._seats:
            self._begin_round()
            self._end_round_if_complete()
        else:
            self._round_began = None

    def check(self, name: str, generation: int, partitions: Iterable[Partition] = ()) -> None:
        """Fenced unless *name* owns *partitions* in *generation* and that is still the current one."""
        seat = self._seats.get(name)
        if seat is None or seat.assignment is None or generation != self.generation:
            raise self._fenced(name, generation)
        foreign = sorted(set(partitions) - seat.assignment.partitions)
        if foreign:
            raise Fenced(
                f"member {name} of group {self.group} does not own the partition",
                got="/".join(map(str, foreign[0])),
            )

    def is_current(self, name: str, generation: int) -> bool:
        """Whether *name* may still work under *generation*."""
        seat = self._seats.get(name)
        return seat is not None and seat.assignment is not None and generation == self.generation

    def _again(self, seat: _Seat[Metadata], member: Member[Metadata], metadata: Metadata) -> _Seat[Metadata]:
        seat.member, seat.metadata, seat.seen = member, metadata, self._clock()
        seat.joined, seat.assignment = True, None
        return seat

    def _begin_round(self, joined: str | None = None) -> None:
        if self._round_began is not None:
            return
        self._round_began = self._clock()
        for name, seat in self._seats.items():
            seat.joined = name == joined
        for name, seat in self._seats.items():
            if name != joined:
                seat.member.wake()

    def _end_round_if_complete(self) -> None:
        if self._round_began is None or not all(seat.joined for seat in self._seats.values()):
            return
        leader = next(iter(self._seats.values())).member
        shares = leader.assign({name: seat.metadata for name, seat in self._seats.items()})
        self.generation += 1
        self._round_began = None
        for name, seat in self._seats.items():
            seat.assignment = shares[name]
        for seat in self._seats.values():
            seat.member.wake()

    def _fenced(self, name: str, generation: int) -> Fenced:
        return Fenced(
            f"member {name} of group {self.group} is no longer in the current generation",
            got=generation,
            allowed=[self.generation],
        )
