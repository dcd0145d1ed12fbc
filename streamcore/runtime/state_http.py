"""``/state`` of a worker: what its windows, tables and joins hold now, for those who have the token.

====================================  =====================================================================
``GET /state``                        the states, which partitions of them are here, and where the others are
``GET /state/NAME``                   one of them
``GET /state/NAME/get?key=K``         the rows of a key; a key of several columns has several ``key=``
``GET /state/NAME/scan?where=SQL``    the rows for which that is true; ``&limit=`` says how many, 20 if not
====================================  =====================================================================

Answers are JSON, mistakes have ``{"error": …}``. A state is made of frames that never change: a reader takes
the state as it is at that moment, on a thread of its own, and the worker goes on meanwhile. Only one reader
looks at rows at a time. A worker answers for its own partitions, and says which others there are.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import orjson
import polars as pl
from aiohttp import web

from streamcore.errors import BadConfig, StreamcoreError
from streamcore.event_time import BEGINNING, END
from streamcore.expressions import check_columns, condition
from streamcore.formats import Json
from streamcore.graph import Graph
from streamcore.observability.http import Bearer, Endpoint
from streamcore.passage import operator_of
from streamcore.runtime.job import Job
from streamcore.runtime.kept_state import KeptState
from streamcore.runtime.state_logs import StateLog
from streamcore.secrets import Secret
from streamcore.settings import Settings

SHORTEST_TOKEN = 16
MOST_ROWS = 10_000
_ANYWHERE = ("0.0.0.0", "::")  # noqa: S104 - compared with, not listened on
_Rows = Callable[[pl.DataFrame, Sequence[str]], pl.DataFrame]
"""Chooses from a state's rows, whose key has these columns."""


def state_endpoints(graph: Graph, logs: Mapping[str, StateLog], settings: Settings) -> StateEndpoints | None:
    """The endpoints of the states of *graph* with *logs*; None where they are off.

    BadConfig when they are on without a port, or without a token that is worth the name.
    """
    if not settings.state.http:
        return None
    token = settings.state.http_token
    if token is None:
        raise BadConfig(
            "state.http needs a token", fix="set state.http_token to a reference, e.g. ${env:STATE_TOKEN}"
        )
    if len(token.reveal()) < SHORTEST_TOKEN:
        raise BadConfig(
            f"the token of state.http_token has less than {SHORTEST_TOKEN} characters",
            where=token.reference,
            fix="make one: openssl rand -hex 24",
        )
    if not settings.http.port:
        raise BadConfig("state.http needs the worker's endpoints", got="http.port 0", fix="set http.port")
    host = socket.gethostname() if settings.http.host in _ANYWHERE else settings.http.host
    return StateEndpoints(graph, logs, token, f"http://{host}:{settings.http.port}")


@dataclass
class StateEndpoints:
    """See the module. *url* is where others reach this worker; ``job`` is set once it runs."""

    graph: Graph
    logs: Mapping[str, StateLog]
    token: Secret
    url: str
    job: Job | None = None
    _reading: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))

    def endpoints(self) -> list[Endpoint]:
        """What to serve, for those who have the token."""
        answers = {
            "/state": self._list,
            "/state/{name:.+}/get": self._get,
            "/state/{name:.+}/scan": self._scan,
            "/state/{name:.+}": self._one,
        }
        return [Endpoint(path, answer, Bearer(self.token)) for path, answer in answers.items()]

    # ------------------------------------------------------------ answers

    async def _list(self, _: web.Request) -> web.Response:
        described = [self._described(own) for own in self.logs.values()]
        return _json({"topology": self.graph.name, "worker": self.url, "states": described})

    async def _one(self, request: web.Request) -> web.Response:
        own = self._named(request)
        return own if isinstance(own, web.Response) else _json(self._described(own))

    async def _get(self, request: web.Request) -> web.Response:
        key = request.query.getall("key", [])

        def chosen(rows: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
            if len(key) != len(columns):
                allowed = "&".join(f"key=<{name}>" for name in columns)
                raise BadConfig("a key has a value for each of its columns", got=len(key), allowed=[allowed])
            check_columns(list(columns), rows.schema, "in the state")
            return rows.filter(
                pl.col(name).cast(pl.String) == value for name, value in zip(columns, key, strict=True)
            )

        return await self._answer(request, chosen, MOST_ROWS)

    async def _scan(self, request: web.Request) -> web.Response:
        where, text = request.query.get("where"), request.query.get("limit", "20")

        def chosen(rows: pl.DataFrame, _: Sequence[str]) -> pl.DataFrame:
            return rows if where is None else rows.filter(condition(where, rows.schema))

        if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MOST_ROWS:
            return _error(400, f"limit is a number from 1 to {MOST_ROWS}")
        return await self._answer(request, chosen, int(text))

    async def _answer(self, request: web.Request, chosen: _Rows, limit: int) -> web.Response:
        own = self._named(request)
        if isinstance(own, web.Response):
            return own
        if self.job is None:
            return _error(503, "the worker is still starting")
        try:
            async with self._reading:
                return await asyncio.to_thread(self._read, own, chosen, limit)
        except (StreamcoreError, pl.exceptions.PolarsError) as error:
            return _error(400, str(error))

    def _read(self, own: StateLog, chosen: _Rows, limit: int) -> web.Response:
        """Look at the rows, on a thread for it."""
        operator = operator_of(self.graph, own.node)
        here = [kept for kept in self._here(own) if kept.knows]
        frames = [kept.task.shown() for kept in here]
        rows = pl.concat(frames) if frames else operator.shown(operator.empty)
        found = chosen(rows, operator.key or operator.by)
        documents = [value.as_py() for value in Json().encode(found.head(limit))]
        told = orjson.dumps(
            {
                "node": own.node,
                "total": found.height,
                "partitions": sorted(kept.emissions.partition for kept in here),
                "elsewhere": self._elsewhere(own),
            }
        )
        return web.Response(
            body=told[:-1] + b',"rows":[' + b",".join(documents) + b"]}", content_type="application/json"
        )

    # ------------------------------------------------------------ what there is

    def _named(self, request: web.Request) -> StateLog | web.Response:
        name = request.match_info["name"]
        own = next((own for own in self.logs.values() if own.node == name), None)
        names = ", ".join(sorted(own.node for own in self.logs.values()))
        return own or _error(404, f"the topology keeps no state {name!r}, allowed: {names}")

    def _described(self, own: StateLog) -> dict[str, object]:
        return {
            "node": own.node,
            "what": operator_of(self.graph, own.node).label,
            "log": own.topic,
            "partitions": own.partitions,
            "here": [_part(kept) for kept in self._here(own)],
            "standby": self._standbys(own),
            "elsewhere": self._elsewhere(own),
        }

    def _here(self, own: StateLog) -> list[KeptState]:
        kept = () if self.job is None else tuple(self.job.pipeline.kept.values())
        mine = (state for state in kept if state.log.node == own.node and state.begun)
        return sorted(mine, key=lambda state: state.emissions.partition)

    def _standbys(self, own: StateLog) -> list[dict[str, object]]:
        """The partitions of which this worker has the state too, while another one owns them."""
        here = {} if self.job is None else dict(self.job.pipeline.resuming.standbys.here)
        return [
            {**_part(standby.kept), "records_behind": standby.behind}
            for tp, standby in sorted(here.items())
            if tp.topic == own.topic
        ]

    def _elsewhere(self, own: StateLog) -> list[dict[str, object]]:
        """The other partitions, and which worker has them as the group's last assignment says."""
        here = {kept.emissions.partition for kept in self._here(own)}
        found: dict[int, str] = {}
        if self.job is not None:
            for url, topics in self.job.app.assignor.external_topics_metadata().items():
                found |= {number: url for number in topics.get(own.topic, ()) if url != self.url}
        return [
            {"partition": number, "worker": found.get(number)}
            for number in range(own.partitions)
            if number not in here
        ]


def _part(kept: KeptState) -> dict[str, object]:
    task, recovery = kept.task, None if kept.knows else kept.recovery
    known = task.watermark not in (BEGINNING, END)
    return {
        "partition": kept.emissions.partition,
        "recovered": kept.knows,
        "records_left": None if recovery is None else recovery.records_left,
        "seconds_left": None if recovery is None else recovery.seconds_left,
        "pieces": task.pieces,
        "bytes": task.nbytes,
        "watermark_ms": task.watermark // 1_000 if known else None,
    }


def _json(document: object) -> web.Response:
    return web.Response(body=orjson.dumps(document), content_type="application/json")


def _error(status: int, message: str) -> web.Response:
    return web.Response(status=status, body=orjson.dumps({"error": message}), content_type="application/json")
