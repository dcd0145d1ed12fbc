"""What the service remembers: pipelines and their versions, runs, tasks, attempts, events, firings, leases.

The rows are the truth. :mod:`.contract` says what a store promises, :mod:`.states` which changes are legal.
A database is one module and one line of :func:`open_store`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from streamcore.errors import BadConfig, did_you_mean
from streamcore.metadata.contract import Store
from streamcore.metadata.database import Database
from streamcore.metadata.store import SqlStore
from streamcore.secrets import mask_url, resolve


def _sqlite(url: str) -> Database:
    from streamcore.metadata.sqlite import SqliteDatabase
    from streamcore.systems.sqlite import path_of

    return SqliteDatabase(path_of(url))


def _memory(url: str) -> Database:
    from streamcore.metadata.sqlite import SqliteDatabase

    return SqliteDatabase(None)


def _postgres(url: str) -> Database:
    from streamcore.metadata.postgres import PostgresDatabase

    return PostgresDatabase(url)


DATABASES: Mapping[str, Callable[[str], Database]] = {
    "sqlite": _sqlite,
    "memory": _memory,
    "postgresql": _postgres,
    "postgres": _postgres,
}
"""By the scheme of the URL."""


async def open_store(url: str) -> Store:
    """The store at *url*: ``memory:``, ``sqlite:///path/metadata.db`` or ``postgresql://…``, up to date.

    References in it are resolved. BadConfig: no such kind of store, or that of a newer streamcore.
    """
    url = resolve(url)
    scheme, colon, _ = url.partition(":")
    if not colon or scheme not in DATABASES:
        raise BadConfig(
            "metadata can't be kept there",
            got=mask_url(url),
            allowed=["memory:", "sqlite:///path/metadata.db", "postgresql://user@host/database"],
            fix=did_you_mean(scheme, DATABASES),
        )
    store = SqlStore(DATABASES[scheme](url))
    try:
        await store.open()
    except BaseException:
        await store.close()
        raise
    return store
