"""PostgreSQL: connections, TLS, time-outs, what the server's errors mean. Only here asyncpg is imported.

URLs are ``postgresql://user:password@host:5432/database?sslmode=…&sslrootcert=…``. ``sslmode`` is
libpq's: ``disable``, ``prefer``, ``require`` (encrypted, server not verified), ``verify-ca``,
``verify-full``. Without it a server on another machine must prove its name (``verify-full``), one on
this machine need not (``prefer``). ``sslrootcert`` is a file of trusted certificates, otherwise the
system's are trusted; ``sslcert`` and ``sslkey`` are the client's.

Every wait ends: connecting, each statement, waiting for locks, idling inside of a transaction (on
the server, so that a stopped process can't hold a row), and a peer that has gone (TCP keep-alive).

========================================  ===============================================
the server says                           raised
========================================  ===============================================
connection lost, starting, shutting down  :class:`Transient`
too many connections, out of resources    :class:`Transient`
serialization failure, deadlock           :class:`Transient`
lock not available                        :class:`Locked`, a :class:`Transient`
data exception, constraint violated       :class:`RefusedRows`: some rows of the statement are bad
all else (rights, missing table, syntax)  :class:`Permanent` with the remedy
========================================  ===============================================
"""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple, TypeAlias
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit, urlunsplit

from streamcore.errors import BadConfig, Permanent, StreamcoreError, Transient
from streamcore.systems.sql import Locked, RefusedRows
from streamcore.systems.tls import client_context

if TYPE_CHECKING:
    import asyncpg

CONNECT_SECONDS, COMMAND_SECONDS = 10.0, 120.0
SETTINGS = {
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "60s",
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "60s",
    "timezone": "UTC",
    "datestyle": "ISO",
    "client_min_messages": "error",
}
_WATCH = "client_connection_check_interval"
_TLS_MODES = ("disable", "prefer", "require", "verify-ca", "verify-full")
_TLS_OPTIONS = ("sslmode", "sslrootcert", "sslcert", "sslkey")
_LOCAL = ("", "localhost", "127.0.0.1", "::1")
_TRANSIENT = ("08", "53", "40", "57P", "57014", "25P03", "55006")
_REFUSED = ("22", "23", "54000")
_REMEDIES = {
    "28": "check user, password and pg_hba.conf",
    "3D": "make the database or correct its name in the URL",
    "42501": "grant the right to this user",
    "42P01": "make the table, or let the sink make it: create=True",
    "42703": "add the column to the table or drop it from the stream",
    "42P10": "make a unique index on exactly the key's columns",
}
Value: TypeAlias = str | int | Sequence[str] | Sequence[int] | None


class Address(NamedTuple):
    """Where and how to connect. ``shown`` has no credentials; the others have: keep them out of messages.

    ``dsn`` and ``tls`` are asyncpg's, ``libpq`` is the same as one URL of libpq.
    """

    shown: str
    dsn: str
    tls: ssl.SSLContext | str | bool
    libpq: str

    def __repr__(self) -> str:
        return f"Address({self.shown!r})"


def address(url: str) -> Address:
    """Read a URL; BadConfig, without the password, when it is none of PostgreSQL's."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 5432
    except ValueError:
        parts, host, port = urlsplit(""), "", 0
    if parts.scheme not in ("postgresql", "postgres"):
        raise BadConfig(
            "not a PostgreSQL URL",
            allowed=["postgresql://user:password@host:5432/database"],
            fix="percent-encode special characters of the password",
        )
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    tls = {name: options.pop(name) for name in _TLS_OPTIONS if name in options}
    shown = f"postgresql://{host or 'localhost'}:{port}/{unquote(parts.path.lstrip('/'))}"
    dsn = urlunsplit(parts._replace(query=urlencode(options, quote_via=quote)))
    local = host in _LOCAL or host.startswith("/") or "host" in options
    tls.setdefault("sslmode", "prefer" if local else "verify-full")
    return Address(shown, dsn, _tls(tls, shown), urlunsplit(parts._replace(query=_libpq(options, tls))))


def _libpq(options: dict[str, str], tls: dict[str, str]) -> str:
    """The query of libpq's URL."""
    if tls["sslmode"].startswith("verify"):
        tls = {"sslrootcert": "system"} | tls
    settings = " ".join(f"-c {name}={value}" for name, value in SETTINGS.items() if "tcp" not in name)
    ours = {
        "connect_timeout": str(int(CONNECT_SECONDS)),
        "keepalives_idle": "30",
        "keepalives_interval": "10",
        "keepalives_count": "3",
        "tcp_user_timeout": "60000",
        "options": f"{settings} {options.get('options', '')}".strip(),
    }
    return urlencode(options | tls | ours, quote_via=quote)


def _tls(options: dict[str, str], shown: str) -> ssl.SSLContext | str | bool:
    mode = options["sslmode"]
    if mode not in _TLS_MODES:
        raise BadConfig("unknown sslmode", where=shown, got=mode, allowed=_TLS_MODES)
    if mode in ("disable", "prefer"):
        return "prefer" if mode == "prefer" else False
    return client_context(
        shown,
        ca=options.get("sslrootcert"),
        cert=options.get("sslcert"),
        key=options.get("sslkey"),
        verify=mode != "require",
        check_name=mode == "verify-full",
    )


def identifier(*names: str) -> str:
    """Names quoted by PostgreSQL's rule, joined by dots."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)


def check_identifier(name: str, what: str) -> None:
    """BadConfig for names that PostgreSQL would refuse or cut."""
    if not name or "\0" in name or len(name.encode()) > 63:
        raise BadConfig(f"{what} {name[:80]!r} can't be used in PostgreSQL", fix="use 1 to 63 bytes")


class Session:
    """One connection whose errors are ours. After a Transient or Permanent error it is to be aborted."""

    savepoints = True

    def __init__(
        self, connection: asyncpg.Connection[asyncpg.Record], driver: ModuleType, shown: str
    ) -> None:
        self._connection = connection
        self._driver, self._shown = driver, shown

    async def run(self, sql: str, *values: Value) -> int:
        """Execute one statement; the number of rows that it touched."""
        async with self._translated():
            status: str = await self._connection.execute(sql, *values)
        count = status.rpartition(" ")[2]
        return int(count) if count.isdigit() else 0

    async def run_many(self, sql: str, rows: Sequence[Sequence[Value]]) -> None:
        """Execute one statement for each of *rows*, which are its parameters, in one round trip."""
        async with self._translated():
            await self._connection.executemany(sql, rows)

    async def rows(self, sql: str, *values: Value) -> list[tuple[object, ...]]:
        async with self._translated():
            found = await self._connection.fetch(sql, *values)
        return [tuple(row.values()) for row in found]

    async def copy(
        self, table: str, schema: str | None, columns: Sequence[str], form: str, source: AsyncIterator[bytes]
    ) -> None:
        """COPY FROM STDIN of *source* in *form* "binary" or "csv"."""
        async with self._translated():
            await self._connection.copy_to_table(
                table, schema_name=schema, columns=list(columns), format=form, source=source
            )

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """BEGIN … COMMIT, or ROLLBACK on any error; inside of another one a savepoint."""
        async with self._translated():
            transaction = self._connection.transaction()
            await transaction.start()
        try:
            yield
        except BaseException:
            try:
                await transaction.rollback()
            except Exception:  # noqa: BLE001 - the first error counts; without a session there is no transaction
                self.abort()
            raise
        async with self._translated():
            await transaction.commit()

    async def watch_client(self) -> None:
        """What runs ends some seconds after this process does, if the server can: PostgreSQL 14 on Linux."""
        has_it = f"current_setting('{_WATCH}', true) is not null"
        with suppress(RefusedRows):  # its operating system doesn't tell it
            await self.run(f"select set_config('{_WATCH}', '2s', false) where {has_it}")

    async def close(self) -> None:
        """Say good-bye if the server listens, and free the socket in any case."""
        try:
            await self._connection.close(timeout=2)
        except Exception:  # noqa: BLE001 - whatever happens, it is closed
            self.abort()

    def abort(self) -> None:
        """Free the socket at once."""
        self._connection.terminate()

    @asynccontextmanager
    async def _translated(self) -> AsyncIterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001 - the one place that sorts them
            raise _translate(error, self._driver, self._shown) from None


async def connect(where: Address, application_name: str, seconds: float | None = None) -> Session:
    """A new session, each of whose statements takes *seconds* at most (COMMAND_SECONDS).

    Transient when the server can't be reached now, Permanent when it says no.
    """
    driver = _driver()
    try:
        connection = await driver.connect(
            where.dsn,
            ssl=where.tls,
            timeout=CONNECT_SECONDS,
            command_timeout=COMMAND_SECONDS if seconds is None else seconds,
            server_settings={**SETTINGS, "application_name": application_name},
        )
    except Exception as error:  # noqa: BLE001 - the one place that sorts them
        raise _translate(error, driver, where.shown) from None
    return Session(connection, driver, where.shown)


def no_driver() -> BadConfig:
    """The error for a driver that is missing."""
    return BadConfig(
        "PostgreSQL needs a driver that is not installed", fix="pip install 'streamcore[postgres]'"
    )


def _driver() -> ModuleType:
    try:
        import asyncpg
    except ImportError:
        raise no_driver() from None
    module: ModuleType = asyncpg
    return module


def _translate(error: Exception, driver: ModuleType, shown: str) -> StreamcoreError:
    """The error of this package for what asyncpg, the socket or TLS raised."""
    if isinstance(error, StreamcoreError):
        return error
    if isinstance(error, driver.PostgresError):
        return _of_server(error, shown)
    if isinstance(error, ssl.SSLCertVerificationError):
        what = f"the server's certificate was not accepted: {error.verify_message}"
        return Permanent(what, where=shown, fix="give the authority's file: ?sslrootcert=/path/ca.pem")
    if isinstance(error, ConnectionError) and "SSL" in str(error):
        return Permanent(
            "the server has no TLS", where=shown, fix="turn it on there, or add ?sslmode=disable"
        )
    if isinstance(error, TimeoutError) or type(error).__name__ == "TimeoutError":
        return Transient("the server did not answer in time", where=shown)
    if isinstance(error, (OSError, driver.InterfaceError, driver.InternalClientError)):
        return Transient(f"the connection failed ({type(error).__name__})", where=shown)
    return Permanent(f"unexpected {type(error).__name__} of the driver", where=shown)


def _of_server(error: Exception, shown: str) -> StreamcoreError:
    """By SQLSTATE. Its text may quote rows where it speaks of data, so there only names are taken."""
    words = re.sub(r"(?<!^)(?=[A-Z])", " ", type(error).__name__.removesuffix("Error")).lower()
    names = [getattr(error, name, None) for name in ("constraint_name", "column_name", "data_type_name")]
    state = str(getattr(error, "sqlstate", None) or "")
    return of_state(state, str(error).splitlines()[0], words, [name for name in names if name], shown)


def of_state(state: str, message: str, words: str, names: Sequence[str], shown: str) -> StreamcoreError:
    """The error of this package for SQLSTATE *state*; *words* for *message* where that may quote rows."""
    if state == "55P03":
        return Locked("another session holds a lock", where=shown)
    if state.startswith(_TRANSIENT) or not state:
        return Transient(f"{words} ({state})", where=shown)
    if state.startswith(_REFUSED):
        text = f"{words} ({state})" + "".join(f", {name}" for name in names)
        return RefusedRows(text, code=words.replace(" ", "_"), where=shown)
    known = (fix for prefix, fix in _REMEDIES.items() if state.startswith(prefix))
    return Permanent(f"{message} ({state})", where=shown, fix=next(known, None))
