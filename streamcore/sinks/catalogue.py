"""From what a user writes (a path, a URI, a dictionary of a configuration) to a sink of ``sc.sinks``.

``postgresql://app:${env:PASSWORD}@host/shop?table=users&key=id&create=true``, ``out/late?format=parquet``,
``s3://bucket/late?format=csv&partition_by=origin``, ``kafka://host:9092/late?key=origin``. The options are
the sink's own arguments; what is left of a system's query is its driver's. References in addresses and in
secrets stay as they are written, and are resolved when the sink connects.

A new sink is one line of :data:`SYSTEMS`, a new format of files one of :data:`FORMATS`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from streamcore.addresses.dictionaries import named
from streamcore.addresses.uris import (
    Option,
    file_path,
    query_of,
    scheme_of,
    split_at,
    warn_of_secrets,
    with_query,
    without_own,
)
from streamcore.contracts import Sink
from streamcore.errors import BadConfig, did_you_mean
from streamcore.secrets import encoded, mask_url, resolve
from streamcore.sinks.files import Csv, Excel, JsonLines, Parquet
from streamcore.sinks.http import Http
from streamcore.sinks.mongodb import MongoDB
from streamcore.sinks.mysql import MySQL
from streamcore.sinks.options import Options
from streamcore.sinks.postgres import Postgres
from streamcore.sinks.redis import RedisHash, RedisSortedSet, RedisStream
from streamcore.sinks.sqlite import SQLite
from streamcore.sinks.topic import Topic
from streamcore.systems import s3_address


@dataclass(frozen=True, slots=True)
class System:
    """A system that is written by URI. ``types``: those of its dictionaries.

    ``open`` gets the URI without the sink's own options, and those.
    """

    options: Options
    open: Callable[[str, dict[str, Any]], Sink]
    types: Sequence[str] = ("database",)


@dataclass(frozen=True, slots=True)
class Format:
    """A format of files. ``aliases``: what readers call its options. ``presets``: what a suffix implies."""

    suffixes: tuple[str, ...]
    sink: Callable[..., Sink]
    options: Options
    aliases: Mapping[str, str] = dataclasses.field(default_factory=dict)
    presets: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)


def _url(kind: Callable[..., Sink], uri: str, given: dict[str, Any]) -> Sink:
    return kind(url=uri, **given)


def _sqlite(uri: str, given: dict[str, Any]) -> Sink:
    base, rest = split_at(uri)
    if rest:
        name = next(iter(rest))
        hint = did_you_mean(name, _SQLITE) or "remove it"
        raise BadConfig("sqlite has no such option", where=base, got=name, allowed=_SQLITE, fix=hint)
    return SQLite(path=base, **given)


def _http(uri: str, given: dict[str, Any]) -> Sink:
    """``header.NAME`` are headers, ``query.NAME`` and all others go to the server."""
    base, query = split_at(uri)
    headers = {
        name.removeprefix("header."): query.pop(name) for name in list(query) if name.startswith("header.")
    }
    rest = [(name.removeprefix("query."), value) for name, value in query.items()]
    return Http(with_query(base, rest, encoded), headers=headers, **given)


def _kafka(uri: str, given: dict[str, Any]) -> Sink:
    base, query = split_at(uri)
    servers, _, topic = base.removeprefix("kafka://").partition("/")
    if not topic.strip("/"):
        where = mask_url(base.rstrip("/"))
        raise BadConfig("which topic?", where=where, fix=f"write {where}/TOPIC")
    return Topic(
        unquote(topic.strip("/")), url=with_query(f"kafka://{servers}", query.items(), encoded), **given
    )


def _redis(uri: str, given: dict[str, Any]) -> Sink:
    """What is written is said by the option that names the key."""
    where, asked = mask_url(uri).partition("?")[0], [name for name in _REDIS_KINDS if name in given]
    if len(asked) != 1:
        allowed = ["stream=KEY", "hash=user:{id}", "sorted_set=KEY&member=COLUMN&score=COLUMN"]
        raise BadConfig("what is written?", where=where, got=asked or None, allowed=allowed, fix="give one")
    kind, key = _REDIS_KINDS[asked[0]], given.pop(asked[0])
    options = Options.of(kind, "url")
    first = next(iter(options))
    sink: Sink = kind(url=uri, **options.read({first: key, **given}, where))
    return sink


_REDIS_KINDS: Mapping[str, type[Any]] = {
    "stream": RedisStream,
    "hash": RedisHash,
    "sorted_set": RedisSortedSet,
}
_REDIS = System(Options.by(_REDIS_KINDS, "url"), _redis, ("stream", "database"))
_POSTGRES = System(Options.of(Postgres, "url"), partial(_url, Postgres))
_MYSQL = System(Options.of(MySQL, "url"), partial(_url, MySQL))
_MONGODB = System(Options.of(MongoDB, "url"), partial(_url, MongoDB))
_SQLITE = Options.of(SQLite, "path")
_HTTP = System(Options.of(Http, "url", "headers"), _http, ("api",))
SYSTEMS: Mapping[str, System] = {
    "postgresql": _POSTGRES,
    "postgres": _POSTGRES,
    "mysql": _MYSQL,
    "mariadb": _MYSQL,
    "sqlite": System(_SQLITE, _sqlite),
    "mongodb": _MONGODB,
    "mongodb+srv": _MONGODB,
    "redis": _REDIS,
    "rediss": _REDIS,
    "https": _HTTP,
    "http": _HTTP,
    "kafka": System(Options.of(Topic, "topic", "url", "config"), _kafka, ("stream",)),
}
"""By the URI's scheme."""

FORMATS: Mapping[str, Format] = {
    "parquet": Format((".parquet", ".pq"), Parquet, Options.of(Parquet, "path")),
    "csv": Format(
        (".csv", ".tsv"),
        Csv,
        Options.of(Csv, "path"),
        {"delimiter": "separator"},
        {".tsv": {"separator": "\t"}},
    ),
    "json": Format((".json", ".jsonl", ".ndjson"), JsonLines, Options.of(JsonLines, "path")),
    "excel": Format((".xlsx",), Excel, Options.of(Excel, "path")),
}
PLACES: Mapping[str, Mapping[str, str]] = {"file": {}, "s3": s3_address.OPTIONS}
"""Where files can be, by the URI's scheme, and the options of the place."""
SCHEMES = (*PLACES, *SYSTEMS)
_ALWAYS = {"encoding": ("utf-8", "utf8"), "layout": ("lines",)}
"""Options of sources that files are written with in any case."""
_OF_SOURCES = {"glob", "pool_size"}
"""Keys of dictionaries that say how something is read."""


def open_sink(
    uri: str | Path | Mapping[str, object], *, format: str | None = None, **options: Option
) -> Sink:
    """The sink that *uri* names; *options* win over those in its query. No I/O.

    A mapping is a dictionary of a configuration (:mod:`streamcore.addresses.dictionaries`). Files go into the
    folder or prefix that is named; its suffix, or *format* (a key of :data:`FORMATS`), says how they are
    written. BadConfig when the scheme, the format or an option is wrong or missing.
    """
    if isinstance(uri, Mapping):
        for key in _OF_SOURCES & uri.keys():
            raise BadConfig("a sink has no such key", where="sink", got=key, fix=f"remove {key}")
        found = named(uri, _option_names(), "sink")
        return open_sink(found.uri, format=format or found.format, **{**found.options, **options})
    text = str(uri)
    scheme = scheme_of(resolved := resolve(text) if text.startswith("${") else text)
    if scheme in SYSTEMS:
        return _open_system(SYSTEMS[scheme], resolved, options)
    if scheme and scheme not in PLACES:
        hint = did_you_mean(scheme, SCHEMES) or "give a path"
        raise BadConfig("no sink for this scheme", got=scheme, allowed=SCHEMES, fix=hint)
    base, query = query_of(resolved, files=True)
    return _open_files(scheme or "file", base, format, {**query, **options})


def _open_system(system: System, uri: str, options: Mapping[str, Option]) -> Sink:
    warn_of_secrets(uri, system.options.secrets, options)
    base, own = without_own(uri, system.options, encoded)
    return system.open(base, system.options.read({**own, **options}, mask_url(base).partition("?")[0]))


def _open_files(place: str, base: str, wanted: str | None, given: dict[str, Option]) -> Sink:
    """The sink of files at *base*, a path or the URI of a prefix."""
    of_place = {name: str(given.pop(name)) for name in PLACES[place] if given.get(name) is not None}
    path = resolve(file_path(base) if place == "file" else base)
    named_format = given.pop("format", None)
    entry, suffix = _format(path, wanted or (None if named_format is None else str(named_format)))
    for name, values in _ALWAYS.items():
        if (value := given.pop(name, None)) is not None and str(value).lower() not in values:
            raise BadConfig(f"files are written with {name} {values[0]} only", where=path, got=value)
    given = {**entry.presets.get(suffix, {}), **given}
    options = {entry.aliases.get(name, name): value for name, value in given.items()}
    return entry.sink(with_query(path, of_place.items(), encoded), **entry.options.read(options, path))


def _format(path: str, wanted: str | None) -> tuple[Format, str]:
    """The format of *path*, and its suffix."""
    suffix = PurePosixPath(path.lower()).suffix
    if wanted is None:
        wanted = next((name for name, entry in FORMATS.items() if suffix in entry.suffixes), None)
        if wanted is None:
            raise BadConfig("in which format?", where=path, allowed=FORMATS, fix="add format=parquet")
    elif wanted not in FORMATS:
        hint = did_you_mean(wanted, FORMATS)
        raise BadConfig("files are not written in this format", got=wanted, allowed=FORMATS, fix=hint)
    return FORMATS[wanted], suffix


def _option_names() -> dict[str, dict[str, Collection[str]]]:
    """What each sink can be told, by the type of configurations and the scheme of URIs."""
    formats = [name for entry in FORMATS.values() for name in (*entry.options, *entry.aliases)]
    of_files = list(dict.fromkeys([*formats, *_ALWAYS]))
    places: dict[str, Collection[str]] = {name: [*options, *of_files] for name, options in PLACES.items()}
    found: dict[str, dict[str, Collection[str]]] = {"file": places, "object_storage": places}
    for scheme, system in SYSTEMS.items():
        for kind in system.types:
            found.setdefault(kind, {})[scheme] = list(system.options)
    return found
