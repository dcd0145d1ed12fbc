"""All connectors as rows, made from the catalogues and from what the connectors say of themselves."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import metadata
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from streamcore.contracts import Sink, SourceAbilities


class SourceRow(NamedTuple):
    """A bounded source. ``uris``: schemes or suffixes. ``needs``: an extra, which is ``missing`` or not.

    ``splits``, ``resumes`` and ``columns`` as of ``contracts.SourceAbilities``; None of places of files,
    where they are those of the file's format. ``page`` in docs/connectors.
    """

    name: str
    uris: tuple[str, ...]
    splits: bool | None
    resumes: bool | None
    columns: bool | None
    needs: str | None
    missing: bool
    page: str


class LiveRow(NamedTuple):
    """A source that never ends. ``by``: the option that asks for it, or None. ``heading``: of its page."""

    name: str
    uris: tuple[str, ...]
    by: str | None
    heading: str


class SinkRow(NamedTuple):
    """A sink, ``sc.sinks.NAME``. ``exactly_once``: it stores positions with the rows, always or if asked.

    ``uris``: schemes, or suffixes of paths.
    """

    name: str
    uris: tuple[str, ...]
    exactly_once: Literal["always", "if asked", "no"]
    upsert: bool
    delete: bool


def sources() -> list[SourceRow]:
    """Places of files and systems by their pages, then the formats of files."""
    from batch_adapters.catalogue import PLACES, SYSTEMS
    from batch_adapters.file_formats import FORMATS

    rows = [_row(name, [f"{name}://"], None, place.extra, place.page) for name, place in PLACES.items()]
    by_page: dict[str, list[str]] = {}
    for scheme, system in SYSTEMS.items():
        by_page.setdefault(system.page, []).append(scheme)
    for page, schemes in by_page.items():
        system = SYSTEMS[schemes[0]]
        rows.append(_row(page, [f"{scheme}://" for scheme in schemes], system.abilities, system.extra, page))
    return rows + [_row(n, f.suffixes, f.abilities, f.extra, "files") for n, f in FORMATS.items()]


def _row(
    name: str, uris: Sequence[str], can: SourceAbilities | None, extra: str | None, page: str
) -> SourceRow:
    return SourceRow(
        name,
        tuple(uris),
        None if can is None else can.splits,
        None if can is None else can.resumes,
        None if can is None else can.columns,
        needs=extra,
        missing=extra is not None and not installed(extra),
        page=page,
    )


def live() -> list[LiveRow]:
    """The ways to read a system for ever."""
    from streamcore.sources.catalogue import KINDS

    return [
        LiveRow(name, tuple(f"{s}://" if s else "a path" for s in kind.schemes), kind.by, kind.heading)
        for name, kind in KINDS.items()
    ]


def sinks() -> list[SinkRow]:
    """The sinks of ``sc.sinks``, by what one of each says."""
    from streamcore import sinks as catalogue

    kinds = {name: kind for name in catalogue.__all__ if isinstance(kind := getattr(catalogue, name), type)}
    return [_sink(name, kind) for name, kind in kinds.items()]


def _sink(name: str, kind: type[Sink]) -> SinkRow:
    """What one with a key says, and one that is asked for its best guarantee."""
    options = signature(kind).parameters
    key = {"key": "id"} if "key" in options else {}
    asked = {"guarantee": "exactly-once"} if "guarantee" in options else {}
    needed = [name for name, option in options.items() if option.default is Parameter.empty]
    examples = {"url": "https://example.com", "pattern": "example:{id}"}
    values = {name: examples.get(name, "example") for name in needed}
    usual, best = (kind(**values, **key, **given).abilities for given in ({}, asked))
    exact: Literal["always", "if asked", "no"] = "if asked" if best.stores_positions else "no"
    exact = "always" if usual.stores_positions else exact
    return SinkRow(name, tuple(_uris(kind)), exact, usual.upsert, usual.delete)


def _uris(kind: type[Sink]) -> list[str]:
    """The schemes by which a sink of this *kind* is written, or the suffixes of its files."""
    from streamcore.sinks.catalogue import FORMATS, SYSTEMS

    schemes = [f"{scheme}://" for scheme, system in SYSTEMS.items() if kind in system.options.kinds]
    return schemes + [suffix for entry in FORMATS.values() if entry.sink is kind for suffix in entry.suffixes]


def installed(extra: str) -> bool:
    """Whether all that *extra* of streamcore asks for is there."""
    for requirement in metadata.requires("streamcore") or ():
        name, _, marker = requirement.partition(";")
        if re.search(rf"extra\s*==\s*['\"]{re.escape(extra)}['\"]", marker):
            package = re.match(r"[\w.-]+", name.strip())
            try:
                metadata.version(package[0] if package else name)
            except metadata.PackageNotFoundError:
                return False
    return True
