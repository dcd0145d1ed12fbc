"""How the pages of a REST collection follow each other: pure functions of answers.

A **place** is where a page is: its number, how many rows are before it, a cursor or a URL, each as text; None
is the first page. :func:`pagination` gives the way that the options say: what to ask for at a place, and,
of the answer, which place is next.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import orjson
from yarl import URL

from batch_adapters.json_members import Array, NotJson, elements, member, members
from batch_adapters.rest_options import RestOptions
from streamcore.errors import BadConfig, Permanent, did_you_mean
from streamcore.systems.http import Answer, with_parameters

Place: TypeAlias = str
_HINTS = ("next", "next_page", "next_cursor", "next_url", "next_token", "nextPageToken", "has_more", "cursor")
_ENVELOPES = ("", "meta", "pagination", "paging", "links", "page", "response_metadata")


@dataclass(frozen=True, slots=True)
class Page:
    """An answer with its rows. ``where`` is its URL, fit to be shown."""

    answer: Answer
    rows: Array
    where: str

    def value(self, path: str) -> object:
        """What the answer holds at *path*, decoded; None when it is not there."""
        try:
            found = member(self.answer.body, path)
            return None if found is None else orjson.loads(found)
        except (NotJson, orjson.JSONDecodeError):
            return None


def page_of(answer: Answer, rows_path: str | None, where: str) -> Page:
    """The rows of *answer*. NotJson when it is no JSON; BadConfig when they are not where they should be."""
    body = answer.body
    if rows_path == ".":
        return Page(answer, elements(b"[" + body + b"]"), where)
    if rows_path is None and not body.lstrip().startswith(b"["):
        return Page(answer, elements(_only_array(members(body), where)), where)
    path = rows_path or ""
    found = member(body, path)
    if found == b"null":
        found = b"[]"
    if found is None or not found.lstrip().startswith(b"["):
        raise _no_rows(body, path, where)
    return Page(answer, elements(found), where)


def _only_array(there: Mapping[str, bytes], where: str) -> bytes:
    arrays = [name for name, value in there.items() if value.startswith(b"[")]
    if len(arrays) == 1:
        return there[arrays[0]]
    raise BadConfig(
        "where are the rows?" if arrays else "the answer holds no array of rows",
        where=where,
        allowed=arrays or list(there)[:20],
        fix="give rows_path=, e.g. rows_path=data.items; rows_path=. when the answer is one row",
    )


def _no_rows(body: bytes, path: str, where: str) -> BadConfig:
    try:
        above = member(body, path.rpartition(".")[0])
        there = list(members(above))[:20] if above is not None else []
    except NotJson:
        there = []
    hint = did_you_mean(path.rpartition(".")[2], there) or "give rows_path= as the API has it"
    return BadConfig(
        "there is no array of rows in the answer", where=where, got=path, allowed=there, fix=hint
    )


class Pagination(ABC):
    """A way from page to page. Frozen."""

    @abstractmethod
    def url(self, base: URL, place: Place | None) -> URL:
        """What to ask for; *base* has the source's own parameters."""

    @abstractmethod
    def following(self, page: Page, place: Place | None) -> Place | None:
        """The place behind *page*, which was at *place*; None when it is the last one."""

    may_be_missing: ClassVar[bool] = False
    """Whether 404 behind the first page says that there are no more."""
    by_url: ClassVar[bool] = False
    """Whether places are URLs."""


@dataclass(frozen=True)
class Single(Pagination):
    """One answer with all rows; more by a ``Link`` header unless *only*."""

    only: bool = False
    by_url: ClassVar[bool] = True

    def url(self, base: URL, place: Place | None) -> URL:
        return base if place is None else base.join(URL(place))

    def following(self, page: Page, place: Place | None) -> Place | None:
        if self.only:
            return None
        if page.answer.next is None and place is None:
            self._look_for_more(page)
        return page.answer.next

    @staticmethod
    def _look_for_more(page: Page) -> None:
        """BadConfig when the answer looks as if it were one page of several: rows would be missing."""
        for above in _ENVELOPES:
            for name in _HINTS:
                path = f"{above}.{name}" if above else name
                value = page.value(path)
                if value is None or value is False or value == "":
                    continue
                kind = "link&next_path" if isinstance(value, str) and "://" in value else "cursor&cursor_path"
                raise BadConfig(
                    f"the answer's member {path} says that there may be more pages",
                    where=page.where,
                    fix=f"give pagination={kind}={path}, or page or offset; pagination=none if this is all",
                )


@dataclass(frozen=True)
class Numbered(Pagination):
    """Pages with numbers, up to the first one without rows."""

    param: str
    first: int
    may_be_missing: ClassVar[bool] = True

    def url(self, base: URL, place: Place | None) -> URL:
        return with_parameters(base, [(self.param, place or str(self.first))])

    def following(self, page: Page, place: Place | None) -> Place | None:
        return str(int(place or self.first) + 1) if len(page.rows.starts) else None


@dataclass(frozen=True)
class Offsets(Pagination):
    """Pages by how many rows are before them, up to the first one without rows."""

    param: str

    def url(self, base: URL, place: Place | None) -> URL:
        return with_parameters(base, [(self.param, place or "0")])

    def following(self, page: Page, place: Place | None) -> Place | None:
        count = len(page.rows.starts)
        return str(int(place or 0) + count) if count else None


@dataclass(frozen=True)
class Cursors(Pagination):
    """Each answer holds the cursor of the next page, at *path*; none, null or "" in the last one."""

    param: str
    path: str

    def url(self, base: URL, place: Place | None) -> URL:
        return base if place is None else with_parameters(base, [(self.param, place)])

    def following(self, page: Page, place: Place | None) -> Place | None:
        return _text_at(page, self.path, "cursor_path")


@dataclass(frozen=True)
class Links(Pagination):
    """Each answer holds the URL of the next page, at *path* or in its ``Link`` header."""

    path: str | None
    by_url: ClassVar[bool] = True

    def url(self, base: URL, place: Place | None) -> URL:
        return base if place is None else base.join(URL(place))

    def following(self, page: Page, place: Place | None) -> Place | None:
        return page.answer.next if self.path is None else _text_at(page, self.path, "next_path")


def _text_at(page: Page, path: str, option: str) -> str | None:
    value = page.value(path)
    if value is None or value == "" or value is False:
        return None
    if isinstance(value, str | int):
        return str(value)
    raise BadConfig("this is no text and no number", where=page.where, got=path, fix=f"correct {option}=")


def pagination(options: RestOptions) -> Pagination:
    """The way that *options* say."""
    if options.pagination == "page":
        return Numbered(options.page_param, options.first_page)
    if options.pagination == "offset":
        return Offsets(options.offset_param)
    if options.pagination == "cursor":
        return Cursors(options.cursor_param, options.cursor_path or "")
    if options.pagination == "link":
        return Links(options.next_path)
    return Single(only=options.pagination == "none")


def base_url(url: URL, parameters: Sequence[tuple[str, str]], options: RestOptions) -> URL:
    """*url* with the source's own *parameters*, the page's size and the beginning of what is new."""
    size = [] if options.size_param is None else [(options.size_param, str(options.page_size))]
    since = [] if options.since is None else [(options.since_param, options.since)]
    return with_parameters(url.with_query(list(parameters)), [*size, *since])


def same_page(where: str) -> Permanent:
    """The error for a server that gives a page again, as another one."""
    return Permanent(
        "the server gives the same page again",
        where=where,
        fix="check the name of the parameter: page_param=, offset_param=, cursor_param=; or pagination=none",
    )
