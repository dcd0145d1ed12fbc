"""REST collections as bounded streams: ``https://api.example.com/users?pagination=page&page_size=100``.

Options are taken out of the URL's query; all other parameters are the server's. ``query.NAME=`` sends a
parameter that has an option's name, ``header.NAME=`` a header. Rows are the elements of an array of the
answer, as they stand there; the stream's JSON decoder judges them.

Pages are asked for one after the other. Positions count rows, and a bookmark is the page to go on at and how
many of its rows have been read: a run that goes on asks for that page again. What the server inserts or
deletes before it meanwhile shifts rows from page to page, as for anyone who pages through it; cursors and
links of most servers are not shifted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qsl

import numpy as np
import orjson
import polars as pl
from yarl import URL

from batch_adapters.json_members import NotJson
from batch_adapters.rest_options import RestOptions
from batch_adapters.rest_pages import Page, Pagination, Place, base_url, page_of, pagination, same_page
from streamcore.batch import Chunk, PartitionId, RecordChunk
from streamcore.contracts import Split, SplitReader
from streamcore.errors import BadConfig, Permanent, did_you_mean
from streamcore.secrets import mask_url
from streamcore.systems.http import Answer, HttpClient, shown, web_address
from streamcore.systems.http_auth import Authentication
from streamcore.systems.own_loop import OwnLoop

_ROW_BYTES = 60
"""What a row costs in memory beside its bytes."""
_GARBLED = 3
"""So often a page is asked for that is no JSON: proxies answer with pages of their own."""


def open_rest(uri: str, options: RestOptions) -> RestSource:
    """The source that *uri* and *options* say; BadConfig when they can't be meant. Nothing is asked yet."""
    url = web_address(uri)
    headers: dict[str, str] = {"accept": "application/json"}
    parameters: list[tuple[str, str]] = []
    for name, value in parse_qsl(url.raw_query_string, keep_blank_values=True):
        kind, dot, rest = name.partition(".")
        if dot and kind == "header":
            headers[rest.lower()] = _header(rest, value)
        elif dot and kind == "query":
            parameters.append((rest, value))
        else:
            _no_misspelt_option(name, shown(url))
            parameters.append((name, value))
    auth = options.authentication(url.user, url.password)
    base = base_url(url.with_user(None).with_fragment(None), parameters, options)
    source = RestSource(base, options, pagination(options), tuple(headers.items()), auth)
    source.client()  # checks the credentials; no I/O
    return source


def _header(name: str, value: str) -> str:
    if not name or not value.isprintable():
        raise BadConfig("a header holds characters that no header can", where="header.", got=name)
    return value


def _no_misspelt_option(name: str, where: str) -> None:
    """A parameter that is nearly an option would be sent, and the option not be there, without a word."""
    hint = did_you_mean(name, RestOptions.model_fields, cutoff=0.85)
    if hint is not None:
        raise BadConfig(
            "is this a parameter of the server, or an option?",
            where=where,
            got=name,
            fix=f"{hint} Otherwise write query.{name}=",
        )


@dataclass(frozen=True, slots=True)
class _Mark:
    """Where to go on: the page at ``place`` without its first ``read`` rows; ``ended``: nothing is left."""

    place: Place | None = None
    read: int = 0
    ended: bool = False

    def pack(self) -> bytes:
        return orjson.dumps([self.place, self.read, self.ended])

    @classmethod
    def unpack(cls, bookmark: bytes) -> _Mark:
        return cls(*orjson.loads(bookmark)) if bookmark else cls()


@dataclass(frozen=True, slots=True)
class RestSource:
    """A collection as a source, and its only split: pages come one after the other."""

    base: URL = field(repr=False)
    options: RestOptions
    pages: Pagination
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    auth: Authentication

    @property
    def uri(self) -> str:
        return mask_url(str(self.base))

    @property
    def name(self) -> str:
        """The split's."""
        return self.uri

    size = 0
    bookmark = _Mark().pack()

    def fingerprint(self) -> str:
        """Of what is asked, not of the rows, which are not known before they are read."""
        about = [str(self.base), str(self.pages), str(self.options.rows_path)]
        return hashlib.sha256("\0".join(about).encode()).hexdigest()

    def columns(self) -> pl.Schema | None:
        """None: documents have no fixed columns."""
        return None

    def splits(self, wanted: int) -> Sequence[Split]:
        return [self]

    def open(self, source: PartitionId, position: int, bookmark: bytes = b"") -> SplitReader:
        return RestReader(self, source, position, _Mark.unpack(bookmark))

    def following(self, page: Page, place: Place | None) -> Place | None:
        """The place behind *page*, without the API key, which some servers repeat: bookmarks are kept."""
        found = self.pages.following(page, place)
        return str(self.auth.unsigned(URL(found))) if found is not None and self.pages.by_url else found

    def client(self) -> HttpClient:
        """A client for the collection's host. No I/O."""
        return HttpClient(self.base, self.auth, self.options.limits, dict(self.headers))


class RestReader:
    """Reads pages one after the other. Nothing is asked before :meth:`read`."""

    def __init__(self, split: RestSource, source: PartitionId, position: int, mark: _Mark) -> None:
        self._split, self._source, self._position, self._mark = split, source, position, mark
        self._client = split.client()
        self._loop = OwnLoop("rest reader")
        self._page: Page | None = None
        self._first: bytes | None = None

    def read(self, max_bytes: int) -> Chunk | None:
        page = self._current()
        if page is None:
            return None
        data, starts, ends = page.rows
        left = len(starts) - self._mark.read
        starts, ends = starts[self._mark.read :], ends[self._mark.read :]
        costs = np.cumsum(ends - starts + _ROW_BYTES)
        count = max(1, int(np.searchsorted(costs, max_bytes, side="right")))
        spans = zip(starts[:count].tolist(), ends[:count].tolist(), strict=True)
        values = [data[start:end] for start, end in spans]
        first = self._position
        self._position += len(values)
        chunk = RecordChunk(self._source, np.arange(first, self._position), values)
        if len(values) < left:
            self._mark = replace(self._mark, read=self._mark.read + len(values))
        else:
            self._turn(page)
        chunk.bookmark = self._mark.pack()
        return chunk

    def close(self) -> None:
        if self._loop.used:
            self._loop.run(self._client.close())
            self._loop.close()

    def _current(self) -> Page | None:
        """The page with rows that are still to be read; None at the end."""
        while not self._mark.ended:
            if self._page is None:
                self._page = self._asked()
            if self._mark.read < len(self._page.rows.starts):
                return self._page
            self._turn(self._page)
        return None

    def _turn(self, page: Page) -> None:
        """Behind *page*."""
        following = self._split.following(page, self._mark.place)
        if following is not None and following == self._mark.place:
            raise same_page(page.where)
        self._mark, self._page = _Mark(following, ended=following is None), None

    def _asked(self) -> Page:
        """The page at the mark. It is asked for again when it is no JSON."""
        split, place = self._split, self._mark.place
        url = split.pages.url(split.base, place)
        accepted = (404,) if split.pages.may_be_missing and place is not None else ()
        for _ in range(_GARBLED):
            answer = self._answer(url, accepted)
            if answer.status == 404:
                return page_of(Answer(404, {}, b"[]"), "", shown(url))
            try:
                page = page_of(answer, split.options.rows_path, shown(url))
            except NotJson:
                continue
            self._check_second(page)
            return page
        kind = answer.headers.get("content-type", "no type").partition(";")[0]
        raise Permanent("the answer is no JSON", where=shown(url), got=kind, fix="check the path")

    def _answer(self, url: URL, accepted: Collection[int]) -> Answer:
        return self._loop.run(self._client.request("GET", url, accepted=accepted))

    def _check_second(self, page: Page) -> None:
        """Permanent when the second page is the first: the server takes no notice of what it is asked for."""
        digest = hashlib.sha256(page.rows.data).digest()
        if self._first == digest and len(page.rows.starts):
            raise same_page(page.where)
        self._first = digest if self._mark.place is None else b""
