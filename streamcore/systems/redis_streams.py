"""A range of a Redis stream, and one consumer of a group of it: for a worker thread, one call at a time.

Connections, TLS, time-outs and errors are those of :mod:`.redis`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from typing import NamedTuple

from streamcore.errors import BadConfig
from streamcore.systems.redis import client_of, driver, shown_url, translate


class Entry(NamedTuple):
    """An entry of a stream; ``fields``: names and values by turns."""

    id: str
    fields: Sequence[bytes]


def values_of(entries: Sequence[Entry], names: Sequence[str]) -> dict[str, list[bytes | None]]:
    """The values of the fields *names*, one an entry: None where it has none, the last one of several."""
    fields = [entry.fields for entry in entries]
    shapes = [tuple(one[::2]) for one in fields]  # most streams have one
    places = {shape: {name: 2 * at + 1 for at, name in enumerate(shape)} for shape in set(shapes)}
    found: dict[str, list[bytes | None]] = {}
    for name in names:
        at = {shape: known.get(name.encode()) for shape, known in places.items()}
        if len(at) == 1 and (only := next(iter(at.values()))) is not None:
            found[name] = [one[only] for one in fields]
        else:
            where = (at[shape] for shape in shapes)
            found[name] = [
                None if place is None else one[place] for one, place in zip(fields, where, strict=True)
            ]
    return found


class StreamRange:
    """The stream *key*, read by ids. Nothing is asked of the server before the first call."""

    def __init__(self, url: str, key: str) -> None:
        self.shown, self._key, self._driver = f"{shown_url(url)}/{key}", key, driver()
        self._redis = client_of(self._driver.Redis.from_url, url, self.shown)
        self._redis.set_response_callback("XRANGE", lambda found, **_: found)  # as it came, without dicts

    def bounds(self) -> tuple[str, str, int]:
        """The first id, the last one, and how many entries there are; "" for none. BadConfig: no stream."""
        with self._translated():
            kind = self._redis.type(self._key).decode()
            if kind != "stream":
                what = "there is no such stream" if kind == "none" else f"the key holds a {kind}, no stream"
                raise BadConfig(what, where=self.shown, fix="name the key of a stream: stream=KEY")
            first, last = self._redis.xrange(self._key, count=1), self._redis.xrevrange(self._key, count=1)
            count = int(self._redis.xlen(self._key))
        ids = [str(found[0][0].decode()) if found else "" for found in (first, last)]
        return ids[0], ids[1], count

    def entries(self, first: str, last: str, count: int) -> list[Entry]:
        """At most *count* entries from the id *first* (behind it with a parenthesis before it) to *last*."""
        with self._translated():
            return [
                Entry(id_.decode(), fields)
                for id_, fields in self._redis.xrange(self._key, first, last, count)
            ]

    def close(self) -> None:
        """Close the connection."""
        with suppress(Exception):  # nothing depends on it
            self._redis.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001 - the one place that sorts them
            raise translate(error, self._driver, self.shown) from None


class GroupConsumer:
    """*consumer* of *group* on the stream *key*. Nothing is asked of the server before the first call."""

    def __init__(self, url: str, key: str, group: str, consumer: str) -> None:
        self.shown = f"{shown_url(url)}/{key}"
        self._key, self._group, self._consumer = key, group, consumer
        self._driver = driver()
        self._redis = client_of(self._driver.Redis.from_url, url, self.shown)

    def has_group(self) -> bool:
        """Whether stream and group are there."""
        with self._translated():
            if not self._redis.exists(self._key):
                return False
            return any(found["name"].decode() == self._group for found in self._redis.xinfo_groups(self._key))

    def make_group(self) -> None:
        """Make the stream if it is missing, and the group, which begins with its first entry."""
        with self._translated():
            self._redis.xgroup_create(self._key, self._group, id="0", mkstream=True)

    def consumers_that_wait(self) -> list[str]:
        """The names of the group's consumers that were given entries and have not acknowledged them all."""
        with self._translated():
            found = self._redis.xinfo_consumers(self._key, self._group)
        return sorted(one["name"].decode() for one in found if one["pending"])

    def take_from(self, consumer: str, behind: str, count: int) -> tuple[list[Entry], str]:
        """Take the next *count* entries behind the id *behind* that *consumer* was given and has not
        acknowledged; and the last of their ids, "" when there are no more. Some may have been deleted.
        """
        first = f"({behind}" if behind else "-"
        with self._translated():
            pending = self._redis.xpending_range(
                self._key, self._group, first, "+", count, consumername=consumer
            )
            ids = [found["message_id"] for found in pending]
            if not ids:
                return [], ""
            claimed = self._redis.xclaim(self._key, self._group, self._consumer, 0, ids)
        return _entries(claimed), ids[-1].decode()

    def stale(self, idle_seconds: float, count: int) -> list[Entry]:
        """Take entries that other consumers were given and have not acknowledged for so long."""
        with self._translated():
            _, claimed, *_ = self._redis.xautoclaim(
                self._key, self._group, self._consumer, int(idle_seconds * 1000), "0-0", count
            )
        return _entries(claimed)

    def new(self, count: int, block_seconds: float) -> list[Entry]:
        """The next *count* entries that nobody was given yet; waits so long for the first one."""
        with self._translated():
            found = self._redis.xreadgroup(
                self._group, self._consumer, {self._key: ">"}, count, int(block_seconds * 1000) or None
            )
        return _entries(found[0][1]) if found else []

    def acknowledge(self, ids: Sequence[str]) -> None:
        """These entries are done with."""
        if ids:
            with self._translated():
                self._redis.xack(self._key, self._group, *ids)

    def leave(self) -> None:
        """Take this consumer off the group's list, unless it was given something that it has not
        acknowledged.

        Nobody else goes by its name, so nothing can come between the two.
        """
        with self._translated():
            if not self._redis.xpending_range(
                self._key, self._group, "-", "+", 1, consumername=self._consumer
            ):
                self._redis.xgroup_delconsumer(self._key, self._group, self._consumer)

    def close(self) -> None:
        """Close the connection."""
        with suppress(Exception):  # nothing depends on it
            self._redis.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001 - the one place that sorts them
            raise translate(error, self._driver, self.shown) from None


def _entries(found: Sequence[tuple[bytes, dict[bytes, bytes] | None]]) -> list[Entry]:
    return [Entry(id_.decode(), [*chain(*fields.items())]) for id_, fields in found if fields is not None]
