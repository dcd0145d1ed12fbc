"""New files of a folder, a pattern, or a prefix in S3: each is read once, from its start to its end.

What a file is goes by its name and content (``InputFile.identity``): one that was changed or replaced is a
new file. A bookmark says which files were read, as hashes of what they are, and where reading stands in the
file that is read now. Only files that are still there are remembered.
"""

from __future__ import annotations

import base64
import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import orjson
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, field_validator

from batch_adapters.catalogue import Files, files_of
from batch_adapters.files import InputFile, NothingThere
from batch_adapters.local_files import LocalFile
from streamcore.batch import Chunk, PartitionId
from streamcore.contracts.unbounded import Polled, Taken, UnboundedAbilities
from streamcore.durations import DurationText, seconds
from streamcore.errors import BadConfig, Permanent, Transient
from streamcore.secrets import mask_url, resolve

log = logging.getLogger(__name__)
_NOWHERE = PartitionId("folder", 0, "folder")


class FolderOptions(BaseModel):
    """Options of folders that get new files, beside those of the files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    every: DurationText = Field("1s", description="How often to look when nothing new was there.")
    settle: DurationText = Field(
        "2s",
        description="So long a file must have stayed as it is before it is read; 0s if files are moved in.",
    )
    done: str = Field(
        "keep", description="What happens to a file that was read: keep, delete, or a folder to move it to."
    )
    unfinished: str = Field(
        "stop",
        description="When a file that was read in part has changed or is gone: stop, or skip the rest.",
    )

    @field_validator("unfinished")
    @classmethod
    def _one_of_two(cls, text: str) -> str:
        if text not in ("stop", "skip"):
            raise BadConfig("option unfinished", got=text, allowed=["stop", "skip"])
        return text


def open_folder(uri: str, given: Mapping[str, object]) -> Folder:
    """The source of what *uri* names, with options *given*. BadConfig for what can't be looked through."""
    options = FolderOptions.model_validate(given)
    files = files_of(resolve(uri))
    if options.done != "keep" and files.place != "file":
        raise BadConfig("files that are elsewhere stay there", got=f"done={options.done}", allowed=["keep"])
    if options.done not in ("keep", "delete") and not Path(options.done).is_dir():
        raise BadConfig("option done: there is no such folder", got=options.done, fix="make it")
    root = Path(files.pattern.partition("*")[0])
    if files.place == "file" and not (root if root.is_dir() else root.parent).is_dir():
        raise BadConfig("there is no such folder", where=files.pattern, fix="make it, or correct the path")
    folder = Folder(files, mask_url(uri), options)
    folder.columns()  # now, so that a wrong option is found before anything else is begun
    return folder


@dataclass(frozen=True)
class Folder:
    """See :class:`streamcore.contracts.unbounded.UnboundedSource`."""

    files: Files
    uri: str
    options: FolderOptions
    abilities: UnboundedAbilities = field(default=UnboundedAbilities(), init=False)

    def __post_init__(self) -> None:
        if self.options.done != "keep":
            object.__setattr__(self, "abilities", UnboundedAbilities(forgets=True))

    @property
    def interval(self) -> float:
        """See :class:`streamcore.contracts.unbounded.UnboundedSource`."""
        return seconds(self.options.every)

    def identity(self) -> str:
        """Where the files are, and how they are read."""
        files = self.files
        pattern = str(Path(files.pattern).absolute()) if files.place == "file" else files.pattern
        server = files.of_place.get("endpoint", "")
        return f"{files.place}\0{server}\0{pattern}\0{files.format}\0{sorted(files.given.items())}"

    def columns(self) -> pl.Schema | None:
        """Those of the first file that is there."""
        found = self.found()
        return self.files.open(self.uri, found[:1]).columns() if found else None

    def found(self) -> Sequence[InputFile]:
        """The files that are there now."""
        try:
            return self.files.find()[1]
        except NothingThere:
            return ()

    def open(self, bookmark: bytes) -> FolderReader:
        """See :class:`streamcore.contracts.unbounded.UnboundedSource`."""
        return FolderReader(self, Place.unpack(bookmark) if bookmark else Place(frozenset()))


class Place(NamedTuple):
    """Where reading stands. ``done``: hashes of files that were read; the rest is of the one being read."""

    done: frozenset[bytes]
    hash: bytes = b""
    name: str = ""
    split: int = 0
    position: int = 0
    bookmark: bytes = b""

    def pack(self) -> bytes:
        """As a bookmark."""
        done = base64.b64encode(b"".join(sorted(self.done))).decode()
        now = [
            self.hash.hex(),
            self.name,
            self.split,
            self.position,
            base64.b64encode(self.bookmark).decode(),
        ]
        return orjson.dumps([done, *(now if self.hash else [])])

    @classmethod
    def unpack(cls, bookmark: bytes) -> Place:
        """What :meth:`pack` gave."""
        done, *now = orjson.loads(bookmark)
        hashes = base64.b64decode(done)
        known = frozenset(hashes[at : at + 8] for at in range(0, len(hashes), 8))
        if not now:
            return cls(known)
        return cls(known, bytes.fromhex(now[0]), now[1], now[2], now[3], base64.b64decode(now[4]))


class Settled:
    """Which files have stayed as they are for *settle* seconds; they are known by their hashes."""

    def __init__(self, settle: float) -> None:
        self._settle = settle
        self._since: dict[bytes, float] = {}

    def of(self, there: Sequence[bytes], now: float) -> set[bytes]:
        """Those of the files that are *there* at *now*."""
        self._since = {one: self._since.get(one, now) for one in there}
        return {one for one, since in self._since.items() if now - since >= self._settle}


class FolderReader:
    """Reads file after file, one chunk ahead: the last chunk's bookmark says that its file was read."""

    def __init__(self, folder: Folder, place: Place) -> None:
        self._folder, self._place = folder, place
        self._settled = Settled(seconds(folder.options.settle))
        self._files: dict[bytes, InputFile] = {}
        self._reading: Iterator[tuple[Chunk | None, Place]] | None = None
        self._finished: dict[bytes, InputFile] = {}
        """Files that may be put away once they are in what is forgotten."""
        self._looked_back = False
        self._close: Callable[[], None] = lambda: None
        self._max_bytes = 0

    def poll(self, max_bytes: int, now: float) -> Polled | None:
        """See :class:`streamcore.contracts.unbounded.UnboundedReader`."""
        self._max_bytes = max_bytes
        if self._reading is None:
            file = self._next(now)
            if file is None:
                return None
            self._reading = self._read(file)
        found = next(self._reading, None)
        if found is None:
            self._reading = None
            return None
        chunk, self._place = found
        return Polled(self._place.pack(), () if chunk is None else (Taken(chunk),))

    def _next(self, now: float) -> InputFile | None:
        """The file to read now: the one that was begun, else the first new one that has settled."""
        found = {_hash(file): file for file in self._folder.found()}
        if found:  # a folder that is gone for a moment, e.g. not mounted, has not been read anew
            self._place = self._place._replace(done=self._place.done & found.keys())
        self._files = found
        if self._place.hash:
            if self._place.hash in found:
                return found[self._place.hash]
            self._give_up(found)
        settled = self._settled.of(list(found), now)
        new = (file for hash_, file in found.items() if hash_ in settled and hash_ not in self._place.done)
        return next(new, None)

    def _give_up(self, found: dict[bytes, InputFile]) -> None:
        """The file that was read in part is gone or has changed."""
        name = self._place.name
        if not found:
            raise Transient("a file that was read in part can't be seen", where=name)
        what = "a file that was read in part has changed or is gone"
        if self._folder.options.unfinished == "stop":
            raise Permanent(
                what, where=name, fix="put it back as it was, or leave its rest out with unfinished=skip"
            )
        log.warning("%s: %s; its rest is left out", name, what)
        self._place = Place(self._place.done)

    def _read(self, file: InputFile) -> Iterator[tuple[Chunk | None, Place]]:
        """The chunks of *file* from the place on, each with the place behind it; None if it has no rows."""
        before = self._place
        hash_ = _hash(file)
        began = before if before.hash else Place(before.done, hash_, file.name)
        splits = self._folder.files.open(file.name, [file]).splits(1)
        held: Chunk | None = None
        behind = began
        for number, split in enumerate(splits):
            if number < began.split:
                continue
            at, bookmark = (began.position, began.bookmark) if number == began.split else (0, split.bookmark)
            reader = split.open(_NOWHERE, at, bookmark)
            self._close = reader.close
            while (chunk := reader.read(self._max_bytes)) is not None:
                if held is not None:
                    yield held, behind
                held = chunk
                behind = began._replace(split=number, position=chunk.end, bookmark=chunk.bookmark)
            self._close = lambda: None
            reader.close()
        self._finished[hash_] = file
        yield held, Place(before.done | {hash_})

    def forget(self, bookmark: bytes) -> None:
        """Do with the files that were read up to *bookmark* what the option ``done`` says."""
        if self._folder.options.done == "keep":
            return
        if not self._looked_back:  # a crash may have come before these were put away
            self._looked_back = True
            self._finished |= {_hash(file): file for file in self._folder.found()}
        for hash_ in Place.unpack(bookmark).done & self._finished.keys():
            self._put_away(self._finished.pop(hash_), hash_)

    def _put_away(self, file: InputFile, hash_: bytes) -> None:
        assert isinstance(file, LocalFile)
        try:
            if self._folder.options.done == "delete":
                file.path.unlink(missing_ok=True)
            else:
                target = Path(self._folder.options.done) / file.path.name
                if target.exists():
                    target = target.with_name(f"{hash_.hex()}-{target.name}")
                file.path.rename(target)
        except FileNotFoundError:
            return
        except OSError as error:
            raise Permanent(
                f"a file that was read can't be put away: {error.strerror}",
                where=file.name,
                got=f"done={self._folder.options.done}",
                fix="let this user write to both folders, on one file system",
            ) from error

    def close(self) -> None:
        """See :class:`streamcore.contracts.unbounded.UnboundedReader`."""
        self._close()


def _hash(file: InputFile) -> bytes:
    return hashlib.blake2b(file.identity.encode("utf-8", "surrogateescape"), digest_size=8).digest()
