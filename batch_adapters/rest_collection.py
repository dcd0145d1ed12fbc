"""A REST collection: what is asked for, who asks, and its pages one after the other.

Options are taken out of the URL's query; all other parameters are the server's. ``query.NAME=`` sends a
parameter that has an option's name, ``header.NAME=`` a header.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from yarl import URL

from batch_adapters.json_members import NotJson
from batch_adapters.rest_options import RestOptions
from batch_adapters.rest_pages import Page, Pagination, Place, base_url, page_of, pagination, same_page
from streamcore.errors import BadConfig, Permanent, did_you_mean
from streamcore.secrets import mask_url
from streamcore.systems.http import Answer, HttpClient, shown, web_address
from streamcore.systems.http_auth import Authentication
from streamcore.systems.own_loop import OwnLoop

_GARBLED = 3
"""So often a page is asked for that is no JSON: proxies answer with pages of their own."""
_NOT_MODIFIED, _NOT_FOUND = 304, 404


def collection_of(uri: str, options: RestOptions) -> Collection:
    """What *uri* and *options* say; BadConfig when they can't be meant. Nothing is asked yet."""
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
            _no_misspelt_option(name, type(options).model_fields, shown(url))
            parameters.append((name, value))
    auth = options.authentication(url.user, url.password)
    base = base_url(url.with_user(None).with_fragment(None), parameters, options)
    found = Collection(base, options, pagination(options), tuple(headers.items()), auth)
    found.client()  # checks the credentials; no I/O
    return found


def _header(name: str, value: str) -> str:
    if not name or not value.isprintable():
        raise BadConfig("a header holds characters that no header can", where="header.", got=name)
    return value


def _no_misspelt_option(name: str, options: Iterable[str], where: str) -> None:
    """A parameter that is nearly an option would be sent, and the option not be there, without a word."""
    hint = did_you_mean(name, options, cutoff=0.85)
    if hint is not None:
        raise BadConfig(
            "is this a parameter of the server, or an option?",
            where=where,
            got=name,
            fix=f"{hint} Otherwise write query.{name}=",
        )


@dataclass(frozen=True, slots=True)
class Collection:
    """What is asked for, and by whom. ``base``: the URL with the source's own parameters."""

    base: URL = field(repr=False)
    options: RestOptions
    pages: Pagination
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    auth: Authentication

    @property
    def uri(self) -> str:
        """Without secrets."""
        return mask_url(str(self.base))

    def fingerprint(self) -> str:
        """Of what is asked, not of the rows, which are not known before they are read."""
        about = [str(self.base), str(self.pages), str(self.options.rows_path)]
        return hashlib.sha256("\0".join(about).encode()).hexdigest()

    def following(self, page: Page, place: Place | None) -> Place | None:
        """The place behind *page*, without the API key, which some servers repeat: bookmarks are kept.

        Permanent when that is *place* again.
        """
        found = self.pages.following(page, place)
        if found is not None and self.pages.by_url:
            found = str(self.auth.unsigned(URL(found)))
        if found is not None and found == place:
            raise same_page(page.where)
        return found

    def client(self) -> HttpClient:
        """A client for the collection's host. No I/O."""
        return HttpClient(self.base, self.auth, self.options.limits, dict(self.headers))


class PageClient:
    """Asks for the pages of a collection. For one thread; the requests run in another one."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._client = collection.client()
        self._loop = OwnLoop("rest reader")
        self._first: bytes | None = None

    def ask(self, place: Place | None, base: URL, unless: str | None = None) -> Future[Page | None]:
        """The page at *place* of the collection at *base*; None where its ETag is still *unless*.

        Transient and Permanent as of :class:`HttpClient`.
        """
        headers = {} if unless is None else {"if-none-match": unless}
        return self._loop.start(self._page(place, base, headers))

    async def _page(self, place: Place | None, base: URL, headers: Mapping[str, str]) -> Page | None:
        """It is asked for again when it is no JSON."""
        pages = self._collection.pages
        url = pages.url(base, place)
        accepted = [_NOT_MODIFIED] if headers else []
        accepted += [_NOT_FOUND] if pages.may_be_missing and place is not None else []
        for _ in range(_GARBLED):
            answer = await self._client.request("GET", url, headers=headers, accepted=accepted)
            if answer.status == _NOT_MODIFIED:
                return None
            if answer.status == _NOT_FOUND:
                return page_of(Answer(_NOT_FOUND, {}, b"[]"), "", shown(url))
            try:
                page = page_of(answer, self._collection.options.rows_path, shown(url))
            except NotJson:
                continue
            self._check_second(page, place)
            return page
        kind = answer.headers.get("content-type", "no type").partition(";")[0]
        raise Permanent("the answer is no JSON", where=shown(url), got=kind, fix="check the path")

    def _check_second(self, page: Page, place: Place | None) -> None:
        """Permanent when the second page is the first: the server takes no notice of what it is asked for."""
        digest = hashlib.sha256(page.rows.data).digest()
        if place is not None and self._first == digest and len(page.rows.starts):
            raise same_page(page.where)
        self._first = digest if place is None else b""

    def close(self) -> None:
        """Free the connections. What was asked for is cancelled by who asked."""
        if self._loop.used:
            self._loop.run(self._client.close())
            self._loop.close()
