"""Objects of S3 as input files: what a key, a prefix or a pattern names, and how its bytes are read.

``s3://bucket/data/x.csv`` is an object, ``s3://bucket/data`` or ``…/data/`` all objects below that folder
but those with names that writers keep to themselves, ``s3://bucket/data/*/2026-??.parquet`` those that
match: ``*`` and ``?`` within a name, ``**`` across folders. In the order of their keys.

An object's ETag is its identity: each request is for the content that was listed, and another one is an
error. Bytes are fetched by ranges: in order in blocks of :data:`BLOCK`, one ahead; elsewhere (Parquet) what
is asked for. So a reader holds two blocks, and what its format holds, whatever the object's size.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pyarrow as pa

from batch_adapters.files import NothingThere, changed
from batch_adapters.local_files import hidden
from streamcore.errors import BadConfig, Permanent
from streamcore.systems.s3 import Bucket, Listed
from streamcore.systems.s3_address import of_parts
from streamcore.systems.s3_client import Changed, Missing

BLOCK = 4 << 20
"""Bytes of a request where reading goes on in order."""
_FIRST = 64 << 10
_MAGIC = re.compile(r"[*?\[]")
_SHOWN = 10


@dataclass(frozen=True, slots=True)
class S3File:
    """An object as it was when the source was made."""

    bucket: Bucket
    listed: Listed

    @property
    def name(self) -> str:
        return self.bucket.where.uri(self.listed.key)

    @property
    def size(self) -> int:
        return self.listed.size

    @property
    def identity(self) -> str:
        """Of URI and ETag."""
        return f"{self.name}\0{self.listed.size}\0{self.listed.etag}"

    @property
    def piece(self) -> int:
        return BLOCK

    def open(self, position: int = 0, end: int | None = None, *, in_order: bool = True) -> pa.NativeFile:
        return pa.PythonFile(RangedFile(self, position, end, in_order=in_order), mode="r")

    def check_unchanged(self) -> None:
        now = self.bucket.look(self.listed.key)
        if now is None:
            raise _gone(self)
        if now != self.listed:
            raise changed(self)

    def begin(self, start: int, end: int) -> Callable[[], bytes]:
        """Ask for bytes ``[start, end)``; what is returned waits for them."""
        wait = self.bucket.begin_range(self.listed, start, end)

        def wait_for_this_content() -> bytes:
            try:
                return wait()
            except Missing:
                raise _gone(self) from None
            except Changed:
                raise changed(self) from None

        return wait_for_this_content


class RangedFile:
    """What a file object must have to be read by pyarrow, over ranges of an object."""

    closed = False

    def __init__(self, file: S3File, position: int, end: int | None, *, in_order: bool = True) -> None:
        self._file, self._position, self._in_order = file, position, in_order
        self._end = file.size if end is None else min(end, file.size)
        self._start, self._data = position, b""
        self._ahead: Callable[[], bytes] | None = None

    def read(self, size: int = -1) -> bytes:
        """*size* bytes, fewer only at the end of the object."""
        left = self._file.size - self._position
        left = left if size is None or size < 0 else min(size, left)
        pieces = []
        while left > 0:
            piece = self._some(left)
            pieces.append(piece)
            self._position += len(piece)
            left -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _some(self, most: int) -> bytes:
        """One to *most* bytes at the position."""
        at = self._position - self._start
        if not 0 <= at < len(self._data):
            self._fetch(most)
            at = 0
        return self._data[at : at + most]

    def _fetch(self, size: int) -> None:
        """Have the bytes at the position, and ask for those behind where it seems that they come next."""
        position, block = self._position, max(size, _FIRST)
        in_order = self._in_order and bool(self._data) and position == self._start + len(self._data)
        ahead, self._ahead = self._ahead, None
        self._data = b""
        if ahead is None or not in_order:
            ahead = self._begin(position, max(size, BLOCK) if in_order else block)
        self._start, self._data = position, ahead()
        if in_order and (after := position + len(self._data)) < self._end:
            self._ahead = self._begin(after, BLOCK)

    def _begin(self, position: int, size: int) -> Callable[[], bytes]:
        limit = self._end if position < self._end else self._file.size
        return self._file.begin(position, max(position + 1, min(position + size, limit)))

    def seek(self, offset: int, whence: int = 0) -> int:
        base = (0, self._position, self._file.size)[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def close(self) -> None:
        self.closed, self._data, self._ahead = True, b"", None


def _gone(file: S3File) -> Permanent:
    return Permanent(
        "the object is no longer there", where=file.name, fix="put it back, or replay what is there"
    )


# ---------------------------------------------------------------- finding


def find(pattern: str, options: Mapping[str, object]) -> tuple[str, list[S3File]]:
    """The URI to show, and the objects that *pattern* names. BadConfig when there are none."""
    where = of_parts(pattern, options)
    bucket = Bucket(where)
    try:
        found = _listed(bucket, where.key)
        if not found:
            raise _nothing_there(bucket, where.key)
    except Permanent as error:
        raise BadConfig(error.what, where=error.where, got=error.got, fix=error.fix) from error
    return where.shown, [S3File(bucket, listed) for listed in found]


def _listed(bucket: Bucket, key: str) -> list[Listed]:
    magic = _MAGIC.search(key)
    if magic:
        wanted = pattern_of(key)
        return [listed for listed in bucket.find(key[: magic.start()]) if wanted.fullmatch(listed.key)]
    if key and not key.endswith("/") and (one := bucket.look(key)):
        return [one]
    folder = key if not key or key.endswith("/") else f"{key}/"
    return [
        listed
        for listed in bucket.find(folder)
        if not listed.key.endswith("/") and not hidden(tuple(listed.key[len(folder) :].split("/")))
    ]


def pattern_of(key: str) -> re.Pattern[str]:
    """The keys that a pattern means: ``*``, ``?`` and ``[ab]`` within a name, ``**/`` any folders."""
    parts = re.split(r"(\*\*/|\*+|\?|\[!?[^\]]+\])", key)
    means = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(_means(part, means) for part in parts), re.DOTALL)


def _means(part: str, means: Mapping[str, str]) -> str:
    if part.startswith("[") and part.endswith("]"):
        inner = part[1:-1]
        negated = inner.startswith("!")
        return f"[{'^' * negated}{re.escape(inner[negated:]).replace(chr(92) + '-', '-')}]"
    return means.get(part, re.escape(part))


def _nothing_there(bucket: Bucket, key: str) -> NothingThere:
    folder = _MAGIC.split(key)[0].rpartition("/")[0]
    folder = f"{folder}/" if folder else ""
    there = [listed.key for listed in bucket.find(folder, limit=_SHOWN)]
    what = "no object matches" if _MAGIC.search(key) else "no such object or prefix"
    shown = ", ".join(there) or "nothing"
    return NothingThere(what, where=bucket.where.shown, fix=f"{bucket.where.uri(folder)} holds: {shown}")
