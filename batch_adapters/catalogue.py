"""From what a user writes (a path, a glob, a folder, a URI) to a bounded source.

``postgresql://user:${env:PASSWORD}@host/shop?table=users``: a system of :data:`SYSTEMS`, with its options in
the query. Anything else names files:

``data/flights.csv.gz``, ``data/*.parquet``, ``data/**/*.json``, ``data/`` (a folder whose files are all
of one format), ``file:///data/x.csv``, ``s3://bucket/data/*.parquet``, each with options of the format and
of where they are: ``data.csv?delimiter=;&encoding=latin-1``. Several files are read in the order of their
paths. A new format, system or place of files is one module and one line here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from pydantic import BaseModel, ValidationError

from batch_adapters import local_files, s3_files
from batch_adapters.file_formats import FORMATS as FORMATS
from batch_adapters.file_formats import format_of, suffix_of
from batch_adapters.files import InputFile, JoinedFiles
from batch_adapters.kafka import KafkaOptions, open_kafka
from batch_adapters.key_ranges import TableSource
from batch_adapters.mongodb import IncrementalMongoOptions, MongoOptions, open_mongodb
from batch_adapters.mysql import open_mysql
from batch_adapters.polled_collections import open_collection
from batch_adapters.polled_tables import opened
from batch_adapters.pooled import Pooled
from batch_adapters.postgres import open_postgres
from batch_adapters.redis_streams import RangeOptions, open_redis
from batch_adapters.rest_options import IncrementalRestOptions
from batch_adapters.sqlite import open_sqlite
from batch_adapters.table_options import IncrementalOptions, TableOptions, table_of
from streamcore.addresses.dictionaries import named
from streamcore.addresses.uris import (
    Option,
    bad_option,
    file_path,
    query_of,
    scheme_of,
    secrets_of,
    warn_of_secrets,
    without_own,
)
from streamcore.contracts import BoundedSource, SourceAbilities
from streamcore.errors import BadConfig, did_you_mean
from streamcore.secrets import resolve
from streamcore.systems import s3_address


@dataclass(frozen=True, slots=True)
class System:
    """A system that is read by URI: its options, and how a source is opened, by the URI without them.

    ``page``: its page in docs/connectors, without ``.md``. ``types``: those of its dictionaries in
    configurations. ``extra``: what has to be installed with streamcore, if something has to.
    """

    options: type[BaseModel]
    open: Callable[[str, Mapping[str, object]], BoundedSource]
    page: str
    types: Sequence[str] = ("database",)
    abilities: SourceAbilities = field(default_factory=SourceAbilities)
    extra: str | None = None


def _table(name: str, whole: Callable[[str, TableOptions], TableSource], extra: str | None = None) -> System:
    """The system *name* of tables, of which *whole* opens one."""

    def of_options(uri: str, given: Mapping[str, object]) -> TableSource:
        return whole(uri, table_of(given))

    return System(IncrementalOptions, partial(opened, name, of_options), name, extra=extra)


_POSTGRES = _table("postgresql", open_postgres, "postgres")
_MYSQL = _table("mysql", open_mysql, "mysql")
_SQLITE = _table("sqlite", open_sqlite)
_REST = System(
    IncrementalRestOptions,
    open_collection,
    "rest",
    ("api",),
    SourceAbilities(splits=False, columns=False),
)
_MONGODB = System(
    IncrementalMongoOptions,
    partial(opened, "mongodb", lambda uri, given: open_mongodb(uri, MongoOptions.model_validate(given))),
    "mongodb",
    abilities=SourceAbilities(columns=False),
    extra="mongo",
)
_KAFKA = System(
    KafkaOptions,
    lambda uri, given: open_kafka(uri, KafkaOptions.model_validate(given)),
    "kafka",
    ("stream",),
    SourceAbilities(columns=False),
)
_REDIS = System(
    RangeOptions,
    lambda uri, given: open_redis(uri, RangeOptions.model_validate(given)),
    "redis",
    ("stream", "database"),
    extra="redis",
)
SYSTEMS: Mapping[str, System] = {
    "postgresql": _POSTGRES,
    "postgres": _POSTGRES,
    "mysql": _MYSQL,
    "mariadb": _MYSQL,
    "sqlite": _SQLITE,
    "https": _REST,
    "http": _REST,
    "mongodb": _MONGODB,
    "mongodb+srv": _MONGODB,
    "redis": _REDIS,
    "rediss": _REDIS,
    "kafka": _KAFKA,
}
"""By the URI's scheme."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where files can be: its options with what they mean, and how those that a pattern names are found.

    ``find`` gives what to show, without secrets, and the files in their order; BadConfig when there are none.
    ``page`` as of :class:`System`.
    """

    options: Mapping[str, str]
    find: Callable[[str, Mapping[str, object]], tuple[str, Sequence[InputFile]]]
    page: str
    extra: str | None = None


PLACES: Mapping[str, Place] = {
    "file": Place({}, local_files.find, "files"),
    "s3": Place(s3_address.OPTIONS, s3_files.find, "s3", "s3"),
}
"""By the URI's scheme."""
SCHEMES = (*PLACES, *SYSTEMS)
"""URI schemes that can be opened; a path without a scheme is a file."""


def open_source(
    uri: str | Path | Mapping[str, object], *, format: str | None = None, **options: Option
) -> BoundedSource:
    """The source that *uri* names; *options* win over those in its query.

    A mapping is a dictionary of a configuration (:mod:`streamcore.addresses.dictionaries`).

    *format* (a key of :data:`FORMATS`) overrides what the suffixes say. BadConfig when nothing is
    there, a file can't be read, its format is not known or they differ, or an option is wrong; the
    content is not read yet.
    """
    if isinstance(uri, Mapping):
        return _open_configured(uri, format, options)
    scheme = scheme_of(resolved := resolve(str(uri)))
    if scheme in SYSTEMS:
        warn_of_secrets(str(uri), secrets_of(SYSTEMS[scheme].options), options)
        return _open_system(scheme, resolved, options)
    files = files_of(str(uri), format=format, **options)
    shown, found = files.find()
    return files.open(shown, found)


@dataclass(frozen=True)
class Files:
    """What a path, folder, pattern or URI of a :class:`Place` names, whatever is there when it is looked for.

    ``format`` is a key of :data:`FORMATS`, or None: the files' names tell it. ``given``: its options.
    """

    place: str
    pattern: str
    format: str | None
    of_place: Mapping[str, object]
    given: Mapping[str, Option]

    def find(self) -> tuple[str, Sequence[InputFile]]:
        """What to show, and the files that are there now, in order. NothingThere when there are none."""
        return PLACES[self.place].find(self.pattern, self.of_place)

    def open(self, shown: str, found: Sequence[InputFile]) -> BoundedSource:
        """The source of these files. BadConfig when their format is not known, or an option is wrong."""
        name = format_of([file.name for file in found], shown, self.format)
        parts = [_open(file, name, self.given) for file in found]
        if len(parts) == 1:
            return parts[0]
        return JoinedFiles(shown, tuple(parts), tuple(file.size for file in found))


def files_of(uri: str, *, format: str | None = None, **options: Option) -> Files:
    """What *uri* names; nothing is looked up. BadConfig for a scheme that is no place of files."""
    place, pattern, query = _split(uri)
    given: dict[str, Option] = {**query, **options}
    wanted = format or given.pop("format", None)
    of_place = {name: given.pop(name) for name in PLACES[place].options if name in given}
    return Files(place, pattern, None if wanted is None else str(wanted), of_place, given)


def _open_configured(
    configuration: Mapping[str, object], format: str | None, options: Mapping[str, Option]
) -> BoundedSource:
    """The source that a dictionary names."""
    found = named(configuration, option_names())
    uri, given = found.uri, {**found.options, **options}
    if configuration["type"] == "file":  # elsewhere references are resolved later
        uri = resolve(uri)
        given = {name: resolve(value) if isinstance(value, str) else value for name, value in given.items()}
    source = open_source(uri, format=format or found.format, **given)
    return source if found.pool_size is None else Pooled(source, found.pool_size)


def option_names() -> dict[str, dict[str, Collection[str]]]:
    """What each connector can be told, by the type of configurations and the scheme of URIs."""
    formats: set[str] = {name for entry in FORMATS.values() for name in entry.options.model_fields}
    places: dict[str, Collection[str]] = {
        scheme: [*place.options, *formats] for scheme, place in PLACES.items()
    }
    found: dict[str, dict[str, Collection[str]]] = {"file": places, "object_storage": places}
    for scheme, system in SYSTEMS.items():
        for kind in system.types:
            found.setdefault(kind, {})[scheme] = system.options.model_fields
    return found


def _open_system(scheme: str, uri: str, options: Mapping[str, Option]) -> BoundedSource:
    """The source of a system."""
    system = SYSTEMS[scheme]
    base, own = without_own(uri, system.options.model_fields)
    given = {n: resolve(v) if isinstance(v, str) and "${" in v else v for n, v in options.items()}
    try:
        return system.open(base, {**own, **given})
    except ValidationError as error:
        raise bad_option(error, scheme, {**own, **given}, system.options) from None


def _split(uri: str) -> tuple[str, str, dict[str, Option]]:
    """Where the files of *uri* are, the path or pattern there, and the options in its query."""
    place = scheme_of(uri) or "file"
    if place not in SCHEMES:
        hint = did_you_mean(place, SCHEMES) or "give a path"
        raise BadConfig("no source for this scheme", got=place, allowed=SCHEMES, fix=hint)
    path, query = query_of(uri, files=True)
    return place, file_path(path) if place == "file" else path, dict(query)


def _open(file: InputFile, name: str, given: Mapping[str, Option]) -> BoundedSource:
    entry = FORMATS[name]
    known = entry.options.model_fields
    for option in given:
        if option not in known:
            raise BadConfig(
                f"{name} has no such option",
                where=file.name,
                got=option,
                allowed=known,
                fix=did_you_mean(option, known),
            )
    try:
        return entry.open(file, {**entry.presets.get(suffix_of(file.name)[0], {}), **given})
    except ValidationError as error:
        raise bad_option(error, file.name, given, entry.options) from None
