"""MySQL and MariaDB: connections, TLS, time-outs, what their errors mean. Only here asyncmy is imported.

URLs are ``mysql://user:password@host:3306/database?ssl-mode=…&ssl-ca=…``. ``ssl-mode`` is MySQL's:
``DISABLED``, ``REQUIRED`` (encrypted, server not verified), ``VERIFY_CA``, ``VERIFY_IDENTITY``. Without
it a server on another machine must prove its name (``VERIFY_IDENTITY``), one on this machine need not
(``DISABLED``). ``ssl-ca`` is a file of trusted certificates, otherwise the system's are trusted;
``ssl-cert`` and ``ssl-key`` are the client's. ``socket`` is the path of a Unix socket.

Every wait ends: connecting, each statement, waiting for locks, idling (on the server, so that a stopped
process can't hold a row for ever).

========================================  ===============================================
the server says                           raised
========================================  ===============================================
connection lost, shutting down            :class:`Transient`
too many connections, interrupted         :class:`Transient`
deadlock, record has changed              :class:`Transient`
lock wait time-out                        :class:`Locked`, a :class:`Transient`
data exception, constraint violated       :class:`RefusedRows`: some rows of the statement are bad
all else (rights, missing table, syntax)  :class:`Permanent` with the remedy
========================================  ===============================================
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from types import ModuleType
from typing import Any, NamedTuple, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

from streamcore.errors import BadConfig, Permanent, StreamcoreError, Transient, did_you_mean
from streamcore.systems.sql import Locked, RefusedRows, SqlSession
from streamcore.systems.tls import client_context

CONNECT_SECONDS, COMMAND_SECONDS = 10.0, 120.0
T = TypeVar("T")
SCHEMES = ("mysql", "mariadb")
_OPTIONS = ("ssl-mode", "ssl-ca", "ssl-cert", "ssl-key", "socket")
_TLS_MODES = ("DISABLED", "REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY")
_LOCAL = ("", "localhost", "127.0.0.1", "::1")
_LOCKED = 1205
_TRANSIENT = {
    1020, 1040, 1053, 1077, 1079, 1080, 1158, 1159, 1160, 1161, 1203, 1213, 1317, 1927, 1969, 3024,
    2003, 2006, 2013, 2055,
}  # fmt: skip
_REFUSED = {1264, 1265, 1292, 1366, 1406, 1411, 1416, 1441, 1690, 3156, 3819}
"""Of rows, though their SQLSTATE does not always say so; all of the classes 22 and 23 are."""
_REMEDIES = {
    1044: "grant the right to this user, or correct the database's name",
    1045: "check user and password, and whether this account must use TLS: ?ssl-mode=REQUIRED",
    1049: "make the database or correct its name in the URL",
    1054: "add the column to the table or drop it from the stream",
    1142: "grant the right to this user",
    1146: "make the table, or let the sink make it: create=True",
    1114: "make room on the server's disk",
    1021: "make room on the server's disk",
}
_KEEP_ALIVE = (
    (socket.TCP_KEEPIDLE, 30),
    (socket.TCP_KEEPINTVL, 10),
    (socket.TCP_KEEPCNT, 3),
    (socket.TCP_USER_TIMEOUT, 60_000),
)
_FOUND_ROWS = 2
"""Client flag: an UPDATE counts the rows that it found, also those that stay as they are."""


class Address(NamedTuple):
    """Where and how to connect. ``shown`` has no credentials; ``options`` has: keep it out of messages."""

    shown: str
    options: dict[str, Any]

    def __repr__(self) -> str:
        return f"Address({self.shown!r})"


def address(url: str) -> Address:
    """Read a URL; BadConfig, without the password, when it is none of MySQL's."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "localhost", parts.port or 3306
    except ValueError:
        parts, host, port = urlsplit(""), "", 0
    if parts.scheme not in SCHEMES:
        raise BadConfig(
            "not a MySQL URL",
            allowed=["mysql://user:password@host:3306/database"],
            fix="percent-encode special characters of the password",
        )
    database = unquote(parts.path.lstrip("/"))
    shown = f"mysql://{host}:{port}/{database}"
    given = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
    for name in given:
        if name not in _OPTIONS:
            hint = did_you_mean(name, _OPTIONS)
            raise BadConfig("there is no such option", where=shown, got=name, allowed=_OPTIONS, fix=hint)
    if not database:
        raise BadConfig("the URL names no database", where=shown, fix="write mysql://user@host:3306/database")
    options: dict[str, Any] = {
        "host": host,
        "port": port,
        "user": unquote(parts.username or ""),
        "password": unquote(parts.password or "").encode(),
        "database": database,
        "unix_socket": given.get("socket"),
    }
    local = host in _LOCAL or "socket" in given
    given.setdefault("ssl-mode", "DISABLED" if local else "VERIFY_IDENTITY")
    return Address(shown, {**options, "ssl": _tls(given, shown)})


def _tls(options: dict[str, str], shown: str) -> ssl.SSLContext | None:
    mode = options["ssl-mode"].upper()
    if mode not in _TLS_MODES:
        raise BadConfig("unknown ssl-mode", where=shown, got=options["ssl-mode"], allowed=_TLS_MODES)
    if mode == "DISABLED":
        return None
    return client_context(
        shown,
        ca=options.get("ssl-ca"),
        cert=options.get("ssl-cert"),
        key=options.get("ssl-key"),
        verify=mode != "REQUIRED",
        check_name=mode == "VERIFY_IDENTITY",
    )


def identifier(*names: str) -> str:
    """Names quoted by MySQL's rule, joined by dots."""
    return ".".join("`" + name.replace("`", "``") + "`" for name in names)


def check_identifier(name: str, what: str) -> None:
    """BadConfig for names that MySQL would refuse."""
    if not name or len(name) > 64 or name.endswith(" ") or any(c == "\0" or ord(c) > 0xFFFF for c in name):
        raise BadConfig(
            f"{what} {name[:80]!r} can't be used in MySQL",
            fix="use 1 to 64 characters of the basic plane, no blank at the end",
        )


def constant(value: str | int) -> str:
    """A constant of SQL for sessions with NO_BACKSLASH_ESCAPES."""
    return str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"


class Field(NamedTuple):
    """A column of a result, as the protocol describes it: numbers of types, flags and character sets."""

    name: str
    kind: int
    flags: int
    charset: int
    length: int
    scale: int


Row = tuple["str | bytes | None", ...]


class Session(SqlSession):
    """One connection whose errors are ours. After a Transient or Permanent error it is to be aborted.

    Values come as the texts that the server sends, those of binary columns as bytes.
    """

    def __init__(self, connection: Any, driver: ModuleType, shown: str, seconds: float) -> None:
        super().__init__()
        self._connection, self._driver, self._shown, self._seconds = connection, driver, shown, seconds

    async def run(self, sql: str | bytes) -> int:
        """Execute one statement; the number of rows that it touched."""
        return int(await self._asked(self._connection.query(sql)))

    async def rows(self, sql: str) -> list[Row]:
        """All rows of *sql*."""
        await self._asked(self._connection.query(sql))
        return list(self._connection._result.rows or ())

    async def fields(self, sql: str) -> list[Field]:
        """The columns of *sql*."""
        await self._asked(self._connection.query(sql))
        return [
            Field(f.name, f.type_code, f.flags, f.charsetnr, f.length, f.scale)
            for f in self._connection._result.fields
        ]

    async def pages(self, sql: str, size: Callable[[], int]) -> AsyncIterator[list[Row]]:
        """The rows of *sql* as they come from the server, ``size()`` at a time."""
        cursor = self._connection.cursor(self._driver.cursors.SSCursor)
        await self._asked(cursor.execute(sql))
        while page := await self._asked(cursor.fetchmany(size())):
            yield page

    def keep_alive(self) -> None:
        """Have the kernel find out within about a minute that the server has gone."""
        raw = self._connection._transport.get_extra_info("socket")
        if raw is not None and raw.family != socket.AF_UNIX:
            for option, value in _KEEP_ALIVE:
                raw.setsockopt(socket.IPPROTO_TCP, option, value)

    async def close(self) -> None:
        """Say good-bye if the server listens, and free the socket in any case."""
        try:
            await asyncio.wait_for(self._connection.ensure_closed(), 2)
        except Exception:  # noqa: BLE001 - whatever happens, it is closed
            self.abort()

    def abort(self) -> None:
        """Free the socket at once."""
        transport = getattr(self._connection, "_transport", None)
        if transport is not None:
            transport.abort()
        self._connection.close()

    async def _asked(self, reply: Coroutine[Any, Any, T]) -> T:
        try:
            return await asyncio.wait_for(reply, self._seconds)
        except Exception as error:  # noqa: BLE001 - the one place that sorts them
            raise _translate(error, self._driver, self._shown) from None


async def connect(where: Address, set_up: Sequence[str], seconds: float | None = None) -> Session:
    """A new session, after the statements *set_up*; each takes *seconds* at most (COMMAND_SECONDS).

    Transient when the server can't be reached now, Permanent when it says no.
    """
    driver = _driver()
    opening = driver.connect(
        **where.options,
        autocommit=True,
        conv={},  # texts, not Python's numbers and times: columns are made of them
        connect_timeout=CONNECT_SECONDS,
        client_flag=_FOUND_ROWS,
        charset="utf8mb4",
        program_name="streamcore",
    )
    try:
        connection = await asyncio.wait_for(_opened(opening), CONNECT_SECONDS)
    except Exception as error:  # noqa: BLE001 - the one place that sorts them
        raise _translate(error, driver, where.shown) from None
    session = Session(connection, driver, where.shown, seconds or COMMAND_SECONDS)
    try:
        session.keep_alive()
        for statement in set_up:
            await session.run(statement)
    except BaseException:
        session.abort()
        raise
    return session


async def _opened(opening: Any) -> Any:
    return await opening


def no_driver() -> BadConfig:
    """The error for a driver that is missing."""
    return BadConfig("MySQL needs a driver that is not installed", fix="pip install 'streamcore[mysql]'")


def _driver() -> ModuleType:
    try:
        import asyncmy
        import asyncmy.cursors
    except ImportError:
        raise no_driver() from None
    module: ModuleType = asyncmy
    return module


def _translate(error: Exception, driver: ModuleType, shown: str) -> StreamcoreError:
    """The error of this package for what asyncmy, the socket or TLS raised."""
    if isinstance(error, StreamcoreError):
        return error
    reason = error.__cause__ or error
    if isinstance(reason, ssl.SSLCertVerificationError):
        what = f"the server's certificate was not accepted: {reason.verify_message}"
        return Permanent(what, where=shown, fix="give the authority's file: ?ssl-ca=/path/ca.pem")
    if isinstance(reason, ssl.SSLError):
        return Permanent(f"TLS: {reason.reason or reason}", where=shown, fix="see ?ssl-mode=")
    if isinstance(error, (TimeoutError, asyncio.TimeoutError)):
        return Transient("the server did not answer in time", where=shown)
    if isinstance(error, driver.errors.MySQLError) and error.args and error.args[0]:
        return _of_server(error, shown)
    if isinstance(error, (OSError, driver.errors.InterfaceError)):
        return Transient(f"the connection failed ({type(error).__name__})", where=shown)
    return Permanent(f"unexpected {type(error).__name__} of the driver", where=shown)


def _of_server(error: Exception, shown: str) -> StreamcoreError:
    """By number and SQLSTATE. Its text may quote rows where it speaks of data: its name is taken there."""
    number, message = int(error.args[0]), str(error.args[-1]).splitlines()[0]
    state = str(getattr(error, "sqlstate", None) or "")
    if number == _LOCKED:
        return Locked("another session holds a lock", where=shown)
    if number in _TRANSIENT or (number < 1000 and not state):
        return Transient(f"{_name(number).replace('_', ' ')} ({number})", where=shown)
    if number in _REFUSED or state.startswith(("22", "23")):
        code = _name(number)
        return RefusedRows(f"{code.replace('_', ' ')} ({number})", code=code, where=shown)
    return Permanent(f"{message} ({number})", where=shown, fix=_REMEDIES.get(number))


def _name(number: int) -> str:
    """The driver's name of an error: ``dup_entry``."""
    from asyncmy.constants import CR, ER

    names = {value: name for source in (CR, ER) for name, value in vars(source).items() if name.isupper()}
    return str(names.get(number, f"error_{number}")).lower()
