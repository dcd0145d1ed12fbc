"""Redis: connections, TLS, time-outs, what the server's errors mean. Only here redis-py is imported.

URLs are ``redis://user:password@host:6379/0``; ``rediss://`` is TLS, in which the server must prove its name
by the system's authorities or the file ``?ssl_ca_certs=``. Each wait ends after some seconds.

================================================  ==================================
the server says                                   raised
================================================  ==================================
connection lost, refused, no answer, loading      :class:`Transient`
out of memory, read-only replica, master is down  :class:`Transient`
can't write to its disk, a script is not known    :class:`Transient`
all else (login, rights, wrong type of a key)     :class:`Permanent` with the remedy
================================================  ==================================
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from streamcore.errors import BadConfig, Permanent, StreamcoreError, Transient

CONNECT_SECONDS, COMMAND_SECONDS = 10.0, 30.0
_AT_ONCE = 5_000
"""Commands that are on their way together."""
_SCHEMES = ("redis", "rediss")
_PASSES = (
    "LOADING", "BUSY", "OOM", "READONLY", "MASTERDOWN", "TRYAGAIN", "CLUSTERDOWN", "MISCONF", "NOREPLICAS",
    "NOSCRIPT",
)  # fmt: skip
_REMEDIES = {
    "WRONGPASS": "check user and password in the URL",
    "NOAUTH": "give user and password in the URL",
    "NOPERM": "grant the right to this user: ACL SETUSER … +command ~pattern; the page of Redis lists them",
    "WRONGTYPE": "the keys must hold what is asked for: hashes, streams or sorted sets",
    "MOVED": "give the URL of a server that is no part of a cluster",
    "CROSSSLOT": "give the URL of a server that is no part of a cluster",
}


def shown_url(url: str) -> str:
    """*url* without credentials; BadConfig, without the password, when it is none of Redis's."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 6379
    except ValueError:
        parts, host, port = urlsplit(""), "", 0
    if parts.scheme not in _SCHEMES or not host:
        raise BadConfig(
            "not a Redis URL",
            allowed=["redis://user:password@host:6379/0", "rediss://… for TLS"],
            fix="percent-encode special characters of the password",
        )
    return f"{parts.scheme}://{host}:{port}{parts.path or '/0'}"


class Client:
    """Connections to one server, made when they are needed. Their errors are ours."""

    def __init__(self, url: str, seconds: float | None = None) -> None:
        """*seconds*: for the connection and for each answer, in place of the usual ones."""
        self._shown = shown_url(url)
        self._driver = driver()
        self._redis = client_of(self._driver.asyncio.Redis.from_url, url, self._shown, seconds)

    async def ping(self) -> None:
        """Ask whether the server answers, and lets this user in."""
        try:
            await self._redis.ping()
        except Exception as error:  # noqa: BLE001 - the one place that sorts them
            raise translate(error, self._driver, self._shown) from None

    async def hashes(self, keys: Sequence[str], fields: Sequence[str]) -> list[list[bytes | None]]:
        """The *fields* of the hash at each of *keys*: None where there is none."""
        return await self._together(keys, lambda commands, key: commands.hmget(key, fields))

    async def values(self, keys: Sequence[str]) -> list[bytes | None]:
        """The string at each of *keys*: None where there is none."""
        found: list[bytes | None] = []
        try:
            for start in range(0, len(keys), _AT_ONCE):
                found += await self._redis.mget(keys[start : start + _AT_ONCE])
        except Exception as error:  # noqa: BLE001 - the one place that sorts them
            raise translate(error, self._driver, self._shown) from None
        return found

    async def put(self, values: Mapping[str, bytes], milliseconds: int) -> None:
        """Make *values* the strings at their keys, for *milliseconds*."""
        await self._together(
            list(values), lambda commands, key: commands.set(key, values[key], px=milliseconds)
        )

    async def delete(self, keys: Sequence[str]) -> None:
        """Take away whatever is at *keys*."""
        await self._together(keys, lambda commands, key: commands.unlink(key))

    async def _together(self, keys: Sequence[str], command: Callable[[Any, str], object]) -> list[Any]:
        """The answers to *command* of each of *keys*, which go together."""
        found: list[Any] = []
        try:
            for start in range(0, len(keys), _AT_ONCE):
                async with self._redis.pipeline(transaction=False) as commands:
                    for key in keys[start : start + _AT_ONCE]:
                        command(commands, key)
                    found += await commands.execute()
        except Exception as error:  # noqa: BLE001 - the one place that sorts them
            raise translate(error, self._driver, self._shown) from None
        return found

    async def close(self) -> None:
        """Close all connections."""
        with contextlib.suppress(Exception):  # nothing depends on it
            await self._redis.aclose()


def driver() -> ModuleType:
    """redis-py. BadConfig, with the extra to install, where it is missing."""
    try:
        import redis
        import redis.asyncio
    except ImportError:
        raise BadConfig(
            "Redis needs a driver that is not installed", fix="pip install 'streamcore[redis]'"
        ) from None
    module: ModuleType = redis
    return module


def client_of(from_url: Callable[..., Any], url: str, shown: str, seconds: float | None = None) -> Any:
    """A client of redis-py's by its *from_url*, whose waits end. BadConfig for unknown options."""
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query))
    if parts.scheme == "rediss":
        options.setdefault("ssl_check_hostname", "true")
    try:
        return from_url(
            urlunsplit(parts._replace(query=urlencode(options))),
            socket_connect_timeout=CONNECT_SECONDS if seconds is None else seconds,
            socket_timeout=COMMAND_SECONDS if seconds is None else seconds,
            retry=None,  # whoever asks tries again, and says so
            retry_on_error=[],
        )
    except (TypeError, ValueError) as error:
        raise BadConfig(f"not a Redis URL: {type(error).__name__}", where=shown) from None


def translate(error: Exception, driver: ModuleType, shown: str) -> StreamcoreError:
    """The error of this package for what redis-py, the socket or TLS raised; it quotes no values."""
    if isinstance(error, StreamcoreError):
        return error
    text = f"{getattr(error, 'status_code', None) or ''} {error}"  # redis-py takes the code off some
    if "user executing the script" in text:
        text = f"NOPERM {text}"
    code = next((word for word in (*_PASSES, *_REMEDIES) if word in text), "")
    if "CERTIFICATE_VERIFY_FAILED" in text:
        fix = "give the authority's file: ?ssl_ca_certs=/path/ca.pem"
        return Permanent("the server's certificate was not accepted", where=shown, fix=fix)
    if isinstance(error, driver.exceptions.AuthenticationError) or "invalid username-password" in text:
        return Permanent("the server refused the login", where=shown, fix=_REMEDIES["WRONGPASS"])
    if code == "NOPERM":
        return Permanent("this user has no right to do that", where=shown, fix=_REMEDIES["NOPERM"])
    if code in _PASSES:
        return Transient(f"the server can't do that now ({code})", where=shown)
    if isinstance(error, (driver.exceptions.ConnectionError, driver.exceptions.TimeoutError, OSError)):
        return Transient(f"the connection failed ({type(error).__name__})", where=shown)
    if isinstance(error, driver.exceptions.RedisError):
        what = f"the server refused the command ({code or type(error).__name__})"
        return Permanent(what, where=shown, fix=_REMEDIES.get(code))
    return Permanent(f"unexpected {type(error).__name__} of the driver", where=shown)
