"""An HTTP endpoint as a sink: rows are POSTed in batches, each request with an idempotency key.

::

    alerts.to(sc.sinks.Http("https://api.example.com/alerts", bearer_token="${env:API_TOKEN}"))

At least once, in order per partition. A request that is sent again (no answer, 503, a new attempt of this
worker) has the same rows and the same key, so a server that keeps keys takes it once. After a crash rows
behind the last commit are sent again, and may be cut into other requests with other keys; with
``batch_rows=1`` a key is a row's, whatever the cut, and each row is taken once by such a server.

==========================  =====================================================================
the server answers          what becomes of the rows
==========================  =====================================================================
2xx                         confirmed
400, 413, 422               refused: the request is halved, a single row is a dead letter ("http")
409, and what may pass      tried again with back-off, the same request
anything else               the worker stops: credentials, address
==========================  =====================================================================
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field
from typing import Literal

import polars as pl
from yarl import URL

from streamcore.batch import OFFSET, SUB, Batch, PartitionId, Rejects, user_columns
from streamcore.contracts import FlushReason, SinkAbilities, SinkContext, SinkWriter
from streamcore.errors import BadConfig, Transient
from streamcore.formats import format_named
from streamcore.secrets import Secret, mask_url, resolve
from streamcore.systems.http import HttpClient, HttpLimits, shown, web_address
from streamcore.systems.http_auth import Authentication, ClientCredentials

_REFUSED = (400, 413, 422)
_BUSY = 409
"""The server still works on a request with this key."""
_TYPES = {"array": "application/json", "lines": "application/x-ndjson"}


@dataclass(frozen=True)
class Http:
    """Rows as JSON, POSTed to *url*; ``https://user:password@…`` is HTTP basic.

    ``batch_rows``: rows of a request at most. ``layout``: "array", or "lines" (a document a line). One of
    ``bearer_token``, ``api_key`` (in ``api_key_header``) and OAuth2 client credentials (``token_url``,
    ``client_id``, ``client_secret``, ``scope``); write secrets as references.
    ``key_header``: the header of the idempotency key. ``allow_private``: hosts of this machine and of private
    networks, and http:// for secrets. ``name``: the sink's stable name.
    """

    url: str = field(repr=False)
    _: KW_ONLY
    batch_rows: int = 500
    layout: Literal["array", "lines"] = "array"
    bearer_token: str | None = field(default=None, repr=False)
    api_key: str | None = field(default=None, repr=False)
    api_key_header: str = "X-API-Key"
    token_url: str | None = None
    client_id: str | None = None
    client_secret: str | None = field(default=None, repr=False)
    scope: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    key_header: str = "Idempotency-Key"
    timeout_seconds: float = 60.0
    retries: int = 5
    allow_private: bool = False
    ca_file: str | None = None
    name: str = ""

    def __post_init__(self) -> None:
        if self.batch_rows < 1:
            raise BadConfig("batch_rows must be at least 1", got=self.batch_rows)
        if self.layout not in _TYPES:
            raise BadConfig("no such layout", got=self.layout, allowed=_TYPES)
        if not self.url:
            raise BadConfig("an HTTP sink needs a URL", fix="write https://host/path")
        oauth = (self.token_url, self.client_id, self.client_secret)
        if any(oauth) and not all(oauth):
            raise BadConfig(
                "OAuth2 needs token_url, client_id and client_secret", fix="give all three of them"
            )
        object.__setattr__(self, "name", self.name or f"http:{self.target}")

    @property
    def abilities(self) -> SinkAbilities:
        """Appends."""
        return SinkAbilities(server_refuses=True)

    @property
    def target(self) -> str:
        """Where the rows go, for people."""
        return mask_url(self.url.partition("?")[0])

    def check(self, columns: pl.Schema) -> None:
        """BadConfig for a type that JSON can't hold."""
        for name, dtype in columns.items():
            if dtype == pl.Object:
                raise BadConfig(f"column {name!r} has a type that no format can write", got=str(dtype))
        format_named("json").encode(pl.DataFrame(schema=columns))

    def writer(self, context: SinkContext) -> SinkWriter:
        """The live writer."""
        return HttpWriter(self, context)


@dataclass(frozen=True, slots=True)
class _Request:
    """Rows of one source that are sent together, and the batches that they are of."""

    rows: pl.DataFrame
    batches: Sequence[Batch]
    end: int | None
    """The position that is confirmed behind it; None: more of the same batch follows."""

    @property
    def source(self) -> PartitionId:
        return self.batches[0].source

    def key(self, lane: str) -> str:
        """The same for the same rows: who sends, where they came from, the first and the last of them."""
        source = self.source
        places = self.rows.select(OFFSET, SUB)
        first, last = places.row(0), places.row(-1)
        said = f"{lane}/{source.topic_id}/{source.partition}/{first}/{last}"
        return hashlib.sha256(said.encode()).hexdigest()[:40]

    def halves(self) -> tuple[_Request, _Request]:
        """The same rows in two requests."""
        half = self.rows.height // 2
        return _Request(self.rows[:half], self.batches, None), _Request(
            self.rows[half:], self.batches, self.end
        )


class HttpWriter:
    """The live part: what is cut into a request stays that request until it is answered."""

    def __init__(self, sink: Http, context: SinkContext) -> None:
        self._sink, self._context = sink, context
        self._lane = f"{context.topology}/{context.sink}"
        self._client: HttpClient | None = None
        self._url = URL()
        self._held: list[Batch] = []
        self._requests: deque[_Request] = deque()
        self._confirmed: dict[PartitionId, int] = {}

    async def start(self) -> None:
        """Check address and credentials. Nothing is asked: the endpoint may know nothing but POST."""
        sink = self._sink
        url = web_address(resolve(sink.url))
        self._url = url.with_user(None)
        limits = HttpLimits(
            seconds=sink.timeout_seconds,
            retries=sink.retries,
            allow_private=sink.allow_private,
            ca_file=sink.ca_file,
        )
        headers = {name: resolve(value) for name, value in sink.headers.items()}
        headers["Content-Type"] = _TYPES[sink.layout]
        self._client = HttpClient(self._url, self._authentication(url), limits, headers)

    def _authentication(self, url: URL) -> Authentication:
        sink = self._sink
        oauth = None
        if sink.token_url and sink.client_id and sink.client_secret:
            secret = Secret(resolve(sink.client_secret))
            oauth = ClientCredentials(resolve(sink.token_url), resolve(sink.client_id), secret, sink.scope)
        return Authentication(
            bearer=_secret(sink.bearer_token),
            api_key=_secret(sink.api_key),
            key_header=sink.api_key_header,
            user=url.user,
            password=None if url.password is None else Secret(url.password),
            oauth=oauth,
        )

    async def open(self, partitions: Mapping[PartitionId, int]) -> Mapping[PartitionId, int]:
        """The sink has no positions of its own."""
        await self.release(list(partitions))
        self._confirmed.update(partitions)
        return dict(partitions)

    async def write(self, batch: Batch) -> None:
        """Hold the rows until there are enough for a request; what could not be sent before goes first."""
        await self._send()
        self._held.append(batch)
        if sum(map(len, self._held)) >= self._sink.batch_rows:
            self._cut_held()
            with suppress(Transient):  # the batch is taken: the next call tries again, and raises
                await self._send()

    async def flush(self, reason: FlushReason) -> Mapping[PartitionId, int]:
        """Send all that is held."""
        self._cut_held()
        await self._send()
        return dict(self._confirmed)

    async def release(self, partitions: Sequence[PartitionId]) -> None:
        """Forget *partitions* with what is held of them."""
        gone = set(partitions)
        self._held = [batch for batch in self._held if batch.source not in gone]
        self._requests = deque(r for r in self._requests if r.source not in gone)
        for source in gone:
            self._confirmed.pop(source, None)

    async def close(self) -> None:
        """Free the connections."""
        if self._client is not None:
            await self._client.close()

    # ------------------------------------------------------------ requests

    def _cut_held(self) -> None:
        """Requests for what is held, each of one source, in their order."""
        by_source: dict[PartitionId, list[Batch]] = {}
        for batch in self._held:
            by_source.setdefault(batch.source, []).append(batch)
        self._held = []
        for own in by_source.values():
            rows = pl.concat([batch.frame for batch in own])
            size, end = self._sink.batch_rows, own[-1].range.end
            for start in range(0, max(rows.height, 1), size):
                last = start + size >= rows.height
                self._requests.append(_Request(rows[start : start + size], own, end if last else None))

    async def _send(self) -> None:
        """Send what is cut, in order. A failure leaves what is not answered where it is."""
        while self._requests:
            request = self._requests[0]
            status = await self._post(request) if request.rows.height else 200
            if status in _REFUSED and request.rows.height > 1:
                self._requests.popleft()
                self._requests.extendleft(reversed(request.halves()))
                continue
            if status in _REFUSED:
                await self._refuse(request, status)
            self._requests.popleft()
            if request.end is not None:
                self._confirmed[request.source] = request.end
                self._context.crash_point("http.confirmed")

    async def _post(self, request: _Request) -> int:
        """The status of the answer: one of 2xx or of ``_REFUSED``."""
        assert self._client is not None
        values = format_named("json").encode(user_columns(request.rows)).to_pylist()
        lines = self._sink.layout == "lines"
        body = b"\n".join([*values, b""]) if lines else b"[" + b",".join(values) + b"]"
        key = {self._sink.key_header: request.key(self._lane)}
        answer = await self._client.request(
            "POST", self._url, body=body, headers=key, accepted=(*_REFUSED, _BUSY)
        )
        self._context.crash_point("http.answered")
        if answer.status == _BUSY:
            raise Transient("the server still works on this request", where=shown(self._url), got=_BUSY)
        return answer.status

    async def _refuse(self, request: _Request, status: int) -> None:
        """The only row of *request* is a dead letter."""
        offset = request.rows[OFFSET][0]
        batch = next(b for b in request.batches if b.range.start <= offset < b.range.end)
        message = f"the server refuses the row with status {status}"
        await self._context.refuse(batch, Rejects.of(request.rows, self._context.sink, "http", message))


def _secret(text: str | None) -> Secret | None:
    return None if text is None else Secret(resolve(text))
