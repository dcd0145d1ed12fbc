"""Sources and sinks as dictionaries of a configuration: another way to write the same URIs and options.

::

    {"type": "database", "database_type": "postgresql", "host": "db", "database": "shop", "table": "users",
     "username": "reader", "password": "${env:DB_PASSWORD}"}
    {"type": "file", "file_path": "data/*.csv", "encoding": "utf-8", "delimiter": ","}
    {"type": "api", "base_url": "https://api.example.com", "endpoint": "/users", "auth_type": "bearer",
     "bearer_token": "${file:/run/secrets/token}", "pagination_type": "page", "page_size": 100}
    {"type": "stream", "stream_type": "kafka", "bootstrap_servers": "h1:9092", "topic": "t", "from": 1000}
    {"type": "object_storage", "storage_type": "s3", "bucket_name": "data", "prefix": "visits/"}

:func:`named` is pure: it looks at nothing and resolves no reference. What is neither a key of the type nor an
option of the connector is an error that says which key was probably meant. No message holds a value but those
of ``type``, ``database_type``, ``storage_type``, ``auth_type`` and ``file_format``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from streamcore.addresses.keys import Keys, Value, choice_of
from streamcore.addresses.uris import with_query
from streamcore.errors import BadConfig, did_you_mean
from streamcore.secrets import encoded

OptionsOf: TypeAlias = Mapping[str, Mapping[str, Collection[str]]]
"""The names of the options of each connector, by its type and the scheme of its URIs."""

DATABASES = {"postgres": "postgresql", "mongo": "mongodb", "sqlite3": "sqlite"}
"""Other names of databases than the schemes of their URIs."""
STREAMS = {"redis_streams": "redis"}
"""Other names of what has streams."""
_KAFKA_KEYS = ("security", "mechanism", "ca_file", "cert_file", "key_file")
STORAGES = {"aws": "s3", "aws_s3": "s3", "minio": "s3"}
FILE_FORMATS: Mapping[str, tuple[str, Mapping[str, Value]]] = {
    "tsv": ("csv", {"delimiter": "\t"}),
    "jsonl": ("json", {"layout": "lines"}),
    "ndjson": ("json", {"layout": "lines"}),
    "xlsx": ("excel", {}),
    "xls": ("excel", {}),
}
_API_NAMES = {
    "pagination_type": "pagination",
    "token": "bearer_token",
    "timeout": "timeout_seconds",
    "retry_count": "retries",
    "rate_limit": "requests_per_second",
    "data_path": "rows_path",
}
_AUTH: Mapping[str, tuple[str, ...]] = {
    "none": (),
    "bearer": ("bearer_token",),
    "api_key": ("api_key",),
    "basic": ("username", "password"),
    "oauth2": ("token_url", "client_id", "client_secret"),
}


@dataclass(frozen=True, slots=True)
class Named:
    """What a dictionary names, for ``open_source`` or ``open_sink`` with ``(uri, format=format, **options)``.

    References stand as they were written. ``pool_size``: connections at most; None: as many as are wanted.
    """

    uri: str = field(repr=False)
    format: str | None = None
    options: Mapping[str, Value] = field(default_factory=dict, repr=False)
    pool_size: int | None = None


def named(configuration: Mapping[str, object], options_of: OptionsOf, what: str = "source") -> Named:
    """The source, or *what* else, that *configuration* names; BadConfig when it can't be meant."""
    given = {str(key): value for key, value in configuration.items() if value is not None}
    kinds = {name: read for name, read in KINDS.items() if name in options_of}
    kind = choice_of(given, "type", kinds)
    if kind is None:
        fix = "add type: file, for example"
        raise BadConfig(f"a {what} needs a type", where="type", allowed=kinds, fix=fix)
    return kinds[kind](Keys(kind, given, what), options_of)


# ---------------------------------------------------------------- types


def _database(keys: Keys, options_of: OptionsOf) -> Named:
    there = options_of["database"]
    names = {name: scheme for name, scheme in DATABASES.items() if scheme in there}
    kind = keys.choice("database_type", sorted({*there, *names}))
    scheme = names.get(kind or "", kind)
    uri = keys.text("connection_string")
    if uri is not None:
        uri = _plain_scheme(uri)
        scheme = _scheme_of(uri, scheme, {**names, **{name: name for name in there}}, keys)
    elif scheme is None:
        raise BadConfig("which database?", where=keys.where, allowed=sorted(there), fix="add database_type:")
    else:
        uri = _file_uri(keys) if scheme == "sqlite" else _server_uri(keys, scheme)
    pool_size = keys.number("pool_size")
    driver = [*keys.mapping("options"), *_driver_options(keys)]
    known = there[scheme] if scheme else {name for options in there.values() for name in options}
    return Named(_with_query(uri, driver), None, keys.options(known), pool_size)


def _scheme_of(uri: str, scheme: str | None, names: Mapping[str, str], keys: Keys) -> str | None:
    """The database of a connection string, which must be *scheme* if given; None: a reference says it."""
    found, separator, _ = uri.lower().partition("://")
    if not separator and "${" in uri:
        return scheme
    if found not in names:
        raise BadConfig(
            f"no {keys.what} for this database",
            where=keys.where,
            got=found if separator else None,
            allowed=sorted(names),
            fix=did_you_mean(found, names)
            if separator
            else "write connection_string: postgresql://host/name",
        )
    if scheme is not None and names[found] != scheme:
        raise BadConfig(
            "connection_string is of another database than database_type",
            where=keys.where,
            got=found,
            allowed=[scheme],
            fix="leave database_type away",
        )
    return names[found]


def _plain_scheme(uri: str) -> str:
    """``postgresql+asyncpg://`` (SQLAlchemy's) as ``postgresql://``; ``mongodb+srv`` is one of its own."""
    scheme, separator, rest = uri.partition("://")
    return f"{scheme.partition('+')[0]}://{rest}" if separator and not scheme.endswith("+srv") else uri


def _server_uri(keys: Keys, scheme: str, user: str | None = None, database: str | None = None) -> str:
    """*user* of a password, *database*: those that are meant when none is given; None: it must be."""
    login, host, port = _login(keys, user), keys.text("host") or "localhost", keys.text("port")
    name = keys.needed("database") if database is None else keys.text("database") or database
    return f"{scheme}://{login}{host}{'' if port is None else f':{port}'}/{encoded(name)}"


def _file_uri(keys: Keys) -> str:
    return f"sqlite:///{encoded(keys.needed('database', 'file_path', 'path'))}"


def _driver_options(keys: Keys) -> list[tuple[str, Value]]:
    """Those of TLS, which all drivers name so."""
    names = [name for name in keys.left if name.startswith(("ssl", "tls"))]
    return [(name, keys.text(name) or "") for name in names]


def _stream(keys: Keys, options_of: OptionsOf) -> Named:
    there = options_of["stream"]
    names = {name: scheme for name, scheme in STREAMS.items() if scheme in there}
    kind = keys.choice("stream_type", sorted({*there, *names})) or "kafka"
    scheme = names.get(kind, kind)
    driver: list[tuple[str, Value]]
    if scheme == "kafka":
        servers, topic = keys.needed("bootstrap_servers", "servers"), keys.needed("topic")
        uri = f"{scheme}://{_login(keys)}{servers}/{encoded(topic)}"
        driver = [(name, keys.text(name) or "") for name in _KAFKA_KEYS if name in keys.left]
    else:
        uri, driver = _redis_uri(keys, scheme), _driver_options(keys)
    return Named(_with_query(uri, [*keys.mapping("options"), *driver]), None, keys.options(there[scheme]))


def _redis_uri(keys: Keys, scheme: str) -> str:
    uri = keys.text("connection_string")
    return uri if uri is not None else _server_uri(keys, scheme, user="default", database="0")


def _login(keys: Keys, unnamed: str | None = None) -> str:
    """``user:password@``, or nothing; *unnamed* is the user of a password without one."""
    user, password = keys.text("username", "user"), keys.text("password")
    if user is None and password is not None:
        user = unnamed
    if password is not None and user is None:
        raise BadConfig("a password without a user", where=keys.where, fix="add username:")
    return "" if user is None else encoded(user) + ("" if password is None else f":{encoded(password)}") + "@"


def _file(keys: Keys, options_of: OptionsOf) -> Named:
    path, pattern = keys.needed("file_path", "path"), keys.text("glob")
    if pattern is not None:
        path = f"{path.rstrip('/')}/{pattern}"
    return _files(keys, path, options_of["file"]["file"])


def _files(keys: Keys, path: str, known: Collection[str]) -> Named:
    format = keys.text("file_format", "format")
    name, presets = FILE_FORMATS.get((format or "").lower(), (format and format.lower(), {}))
    return Named(path, name, {**presets, **keys.options(known)})


def _api(keys: Keys, options_of: OptionsOf) -> Named:
    base, endpoint = keys.needed("base_url", "url"), keys.text("endpoint") or ""
    url = f"{base.rstrip('/')}/{endpoint.lstrip('/')}" if endpoint else base
    way = keys.choice("auth_type", _AUTH)
    user, password = keys.text("username"), keys.text("password")
    parameters = [(f"query.{name}", value) for name, value in keys.mapping("params")]
    headers = [(f"header.{name}", value) for name, value in keys.mapping("headers")]
    options = keys.options(options_of["api"]["https"], _API_NAMES)
    given = {*options} | ({"username"} if user else set()) | ({"password"} if password else set())
    _check_auth(way, given, keys.where)
    if user is not None:
        scheme, separator, rest = url.partition("://")
        url = f"{scheme}{separator}{encoded(user)}:{encoded(password or '')}@{rest}"
    return Named(_with_query(url, [*parameters, *headers]), None, options)


def _check_auth(way: str | None, given: Collection[str], where: str) -> None:
    """BadConfig unless what is *given* is what the *way* needs."""
    if way is None:
        return
    missing = [name for name in _AUTH[way] if name not in given]
    if missing:
        fix = f"add {missing[0]}: ${{env:NAME}}"
        raise BadConfig(f"auth_type {way} needs {', '.join(missing)}", where=where, fix=fix)
    other = [name for names in _AUTH.values() for name in names if name in given and name not in _AUTH[way]]
    if other:
        raise BadConfig(
            f"{other[0]} is not for auth_type {way}",
            where=where,
            fix=f"remove {other[0]}, or correct auth_type",
        )


def _storage(keys: Keys, options_of: OptionsOf) -> Named:
    kind = keys.choice("storage_type", ["s3", *STORAGES])
    bucket = keys.needed("bucket_name", "bucket")
    prefix, pattern = keys.text("prefix") or "", keys.text("glob")
    if pattern is not None:
        prefix = f"{prefix.rstrip('/')}/{pattern}".lstrip("/")
    scheme = STORAGES.get(kind or "s3", "s3")
    return _files(keys, f"{scheme}://{bucket}/{prefix}", options_of["object_storage"][scheme])


KINDS: Mapping[str, Callable[[Keys, OptionsOf], Named]] = {
    "database": _database,
    "file": _file,
    "api": _api,
    "object_storage": _storage,
    "stream": _stream,
}
"""By ``type``."""


def _with_query(uri: str, pairs: Sequence[tuple[str, Value]]) -> str:
    return with_query(uri, [(name, _text(value)) for name, value in pairs], encoded)


def _text(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
