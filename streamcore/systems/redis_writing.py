"""Redis written to in steps that take effect as a whole: one script of the server each.

A script is run by itself: nobody sees, and no crash or replica keeps, a part of what it writes. But what it
has written stays when a later command of it fails. So it looks first at all that can be wrong: whether the
positions are those that it starts from, and whether each key holds what its command is for. Memory, rights
of a replica and the disk are asked by the server before the first write only.

Positions are the fields of one hash, as JSON; its numbers are texts, since those of Lua end at 2^53.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timezone
from typing import Any, NamedTuple

import orjson

from streamcore.errors import Permanent
from streamcore.systems.redis import client_of, driver, shown_url, translate
from streamcore.systems.sql import Moved, RefusedRows

_WRITE = """
local moves, found = cjson.decode(ARGV[1]), {}
for i, move in ipairs(moves) do
  local text = redis.call('HGET', KEYS[1], move.field)
  found[i] = text and cjson.decode(text)
  if not text or found[i].next_offset ~= move.from or found[i].owner_epoch ~= move.epoch then
    return {'moved'}
  end
end
local refused = {'refused'}
for i = 2, #ARGV, 3 do
  local probe, keys, at, key = ARGV[i], ARGV[i + 1], 1
  while at <= #keys do
    key, at = struct.unpack('>I4c0', keys, at)
    local said = redis.pcall(probe, key)
    if type(said) == 'table' and said.err then
      if not string.find(said.err, 'WRONGTYPE', 1, true) then return said end
      refused[#refused + 1] = key
    end
  end
end
if #refused > 1 then return refused end
local formats = setmetatable({}, {__index = function(known, words)
  known[words] = '>' .. string.rep('I4c0', words)
  return known[words]
end})
for i = 2, #ARGV, 3 do
  local packed, at, words = ARGV[i + 2], 1
  while at <= #packed do
    words, at = struct.unpack('>I2', packed, at)
    local command = {struct.unpack(formats[words], packed, at)}
    at = command[words + 1]
    redis.call(unpack(command, 1, words))
  end
end
for i, move in ipairs(moves) do
  found[i].next_offset, found[i].updated_at = move.to, move.now
  redis.call('HSET', KEYS[1], move.field, cjson.encode(found[i]))
end
return {'written'}
"""
_TAKE_OVER = """
local found = {}
for i, start in ipairs(cjson.decode(ARGV[1])) do
  local text = redis.call('HGET', KEYS[1], start.field)
  local place = text and cjson.decode(text)
  if not place then
    place = {topic = start.topic, next_offset = start.from, owner_epoch = '0'}
  end
  place.owner_epoch = string.format('%d', tonumber(place.owner_epoch) + 1)
  place.owner, place.updated_at = start.owner, start.now
  found[i] = cjson.encode(place)
  redis.call('HSET', KEYS[1], start.field, found[i])
end
return found
"""
MOST_WORDS = 4_000
"""Of a command: what Lua can hand over at once is not much more."""
_CLOSING: set[asyncio.Task[None]] = set()


class Start(NamedTuple):
    """Take the position *field* over for *owner*; it begins *at* there if there is none."""

    field: str
    topic: str
    at: int
    owner: str


class Step(NamedTuple):
    """The position *field* of the owner with *epoch* goes from *start* to *end*."""

    field: str
    start: int
    end: int
    epoch: int


class Commands(NamedTuple):
    """Commands, packed: of each the number of its words (2 bytes), then each word behind its length (4).

    ``probe``: a reading command that fails on keys that these can't write to. ``keys``: all those, each
    behind its length. ``of_rows``: the key of each row, in the rows' order.
    """

    probe: str
    keys: memoryview
    packed: memoryview
    of_rows: Iterable[str]


class RedisSession:
    """A connection whose errors are ours. After a Transient or Permanent error it is to be aborted."""

    savepoints = False

    def __init__(self, url: str) -> None:
        self._shown, self._driver = shown_url(url), driver()
        self._redis = client_of(self._driver.asyncio.Redis.from_url, url, self._shown)
        self._positions, self._steps = "", list[Step]()
        self._commands = list[Commands]()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """At its end all that was asked for inside of it is done in one step, or nothing.

        Moved when a position is not where its step starts, RefusedRows when keys hold other kinds of values.
        """
        self._steps, self._commands = [], []
        yield
        steps = [
            {"field": s.field, "from": str(s.start), "to": str(s.end), "epoch": str(s.epoch), "now": _now()}
            for s in self._steps
        ]
        words = [word for one in self._commands for word in (one.probe, one.keys, one.packed)]
        said, *keys = await self._script(_WRITE, self._positions, steps, *words)
        if said == b"moved":
            raise Moved
        if said == b"refused":
            raise self._refused(set(keys))

    def step(self, positions: str, steps: Sequence[Step]) -> None:
        """Inside of a transaction: move these positions in the hash *positions*."""
        self._positions = positions
        self._steps += steps

    def write(self, commands: Commands) -> None:
        """Inside of a transaction: these commands, in their order."""
        self._commands.append(commands)

    async def take_over(self, positions: str, starts: Sequence[Start]) -> list[Mapping[str, str]]:
        """Raise the epoch of each position in the hash *positions*; what is stored of them from then on."""
        asked = [
            {"field": s.field, "topic": s.topic, "from": str(s.at), "owner": s.owner, "now": _now()}
            for s in starts
        ]
        found = await self._script(_TAKE_OVER, positions, asked)
        return [orjson.loads(text) for text in found]

    async def stored(self, positions: str) -> Mapping[str, Mapping[str, str]]:
        """All positions in the hash *positions*, by their fields."""
        found = await self._run("HGETALL", positions)
        return {field.decode(): orjson.loads(text) for field, text in found.items()}

    async def prepare(self) -> None:
        """Hand the scripts over, which also connects; and see that the server keeps what it is given."""
        for script in (_WRITE, _TAKE_OVER):
            await self._run("SCRIPT LOAD", script)
        await self._check_memory()

    async def _check_memory(self) -> None:
        """Permanent where the server may drop any key to make room: positions, too."""
        try:
            found = await self._redis.info("memory")
        except self._driver.exceptions.NoPermissionError:
            return
        except Exception as error:  # noqa: BLE001 - sorted in one place
            raise translate(error, self._driver, self._shown) from None
        policy = str(found.get("maxmemory_policy", ""))
        if found.get("maxmemory") and policy.startswith("allkeys"):
            raise Permanent(
                "this server drops keys when its memory is full, the sink's positions too",
                where=self._shown,
                got=f"maxmemory-policy {policy}",
                allowed=["noeviction", "volatile-…"],
                fix="CONFIG SET maxmemory-policy noeviction",
            )

    async def close(self) -> None:
        """Close the connection."""
        with suppress(Exception):  # nothing depends on it
            await self._redis.aclose()

    def abort(self) -> None:
        """Free the socket as soon as the event loop gets to it."""
        task = asyncio.get_running_loop().create_task(self.close())
        _CLOSING.add(task)
        task.add_done_callback(_CLOSING.discard)

    async def _script(self, script: str, positions: str, asked: object, *words: object) -> Any:
        return await self._run("EVALSHA", _sha(script), 1, positions, orjson.dumps(asked), *words)

    async def _run(self, *words: object) -> Any:
        try:
            return await self._redis.execute_command(*words)
        except Exception as error:  # noqa: BLE001 - the one place that sorts them
            raise translate(error, self._driver, self._shown) from None

    def _refused(self, bad: set[bytes]) -> RefusedRows:
        keys = (key for one in self._commands for key in one.of_rows)
        places = [place for place, key in enumerate(keys) if key.encode() in bad]
        what = "the row's key holds another kind of value"
        return RefusedRows(what, code="wrong_type", where=self._shown, places=places, complete=True)


async def connect(url: str) -> RedisSession:
    """A new session; Transient when the server can't be reached now, Permanent when it says no."""
    session = RedisSession(url)
    try:
        await session.prepare()
    except BaseException:
        await session.close()
        raise
    return session


def _now() -> str:
    return datetime.now(timezone.utc).isoformat()


def _sha(script: str) -> str:
    """How the server knows it."""
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
