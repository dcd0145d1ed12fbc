"""S3's client: requests that end, tried again where that helps, and what its errors mean.

Only here aiobotocore is imported. It runs on one event loop in a thread of its own, since those who read
and write objects are worker threads; it serves all of them with one pool of connections a server.

A request is tried :data:`ATTEMPTS` times while its error is transient, within :data:`DEADLINE` seconds.

==========================================  ==================================================
the server says                             raised
==========================================  ==================================================
no connection, no answer in time, 5xx       :class:`Transient`
throttled, a conflict with another request  :class:`Transient`
no such key or upload                       :class:`Missing`, a :class:`Permanent`
another content than was asked for (412)    :class:`Changed`, a :class:`Permanent`
all else (rights, bucket, region, TLS)      :class:`Permanent` with the remedy
==========================================  ==================================================
"""

from __future__ import annotations

import asyncio
import atexit
import os
import random
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from functools import lru_cache
from types import ModuleType
from typing import Any, TypeVar

from streamcore.errors import BadConfig, Permanent, StreamcoreError, Transient
from streamcore.secrets import resolve
from streamcore.systems.s3_address import Address

T = TypeVar("T")
CONNECT_SECONDS, READ_SECONDS, DEADLINE = 5.0, 60.0, 120.0
"""``READ_SECONDS`` without a byte of an answer, while a body is sent too, end an attempt; ``DEADLINE`` is
for all attempts of a request."""
ATTEMPTS, _FIRST_PAUSE = 5, 0.1
_CONNECTIONS = 32
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_MISSING = ("NoSuchKey", "NoSuchUpload", "404", "NotFound")
_CHANGED = ("PreconditionFailed", "412")
_TRANSIENT = (
    "SlowDown", "Throttling", "ThrottlingException", "RequestTimeout", "RequestTimeoutException",
    "OperationAborted", "ConditionalRequestConflict", "TooManyRequests", "BadDigest", "IncompleteBody",
)  # fmt: skip
_REMEDIES = {
    "NoSuchBucket": "make the bucket or correct its name",
    "InvalidAccessKeyId": "check access_key",
    "SignatureDoesNotMatch": "check secret_key",
    "ExpiredToken": "get new temporary credentials",
    "AccessDenied": "grant the right to these credentials",
    "403": "check the credentials and what they may do",
    "PermanentRedirect": "give the bucket's region=",
    "301": "give the bucket's region=",
    "AuthorizationHeaderMalformed": "give the bucket's region=",
    "RequestTimeTooSkewed": "set this machine's clock",
}


class Missing(Permanent):
    """There is no such object or upload."""


class Changed(Permanent):
    """The object has another content than was asked for, or is there where there must be none."""


async def tried(where: Address, key: str, send: Callable[[Any], Awaitable[T]]) -> T:
    """The result of *send*, which is given the client, tried again while its error is transient."""
    _driver()
    shown = where.uri(key)

    async def attempts() -> T:
        for number in range(ATTEMPTS):
            try:
                return await send(await _client(where))
            except Exception as error:  # noqa: BLE001 - the one place that sorts them
                told = _translate(error, where, shown)
                if not isinstance(told, Transient) or number == ATTEMPTS - 1:
                    raise told from None
            await asyncio.sleep(_FIRST_PAUSE * 3**number * random.uniform(0.7, 1.3))  # noqa: S311 - spreads
        raise AssertionError("the last attempt returns or raises")

    try:
        return await asyncio.wait_for(attempts(), DEADLINE)
    except asyncio.TimeoutError:
        what = f"{where.server} did not answer within {DEADLINE:.0f} s"
        raise Transient(what, where=shown) from None


def submit(work: Coroutine[Any, Any, T]) -> Callable[[], T]:
    """Begin *work* on S3's loop; the returned function waits for its result. From any other thread."""
    with _starting:
        loop = _loop()
    return asyncio.run_coroutine_threadsafe(work, loop).result


# ---------------------------------------------------------------- the loop and its clients

_starting = threading.Lock()
_clients: dict[tuple[tuple[str, str], ...], asyncio.Future[Any]] = {}


@lru_cache(maxsize=1)
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="s3", daemon=True)
    thread.start()
    atexit.register(_end, loop, thread)
    return loop


def _end(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    async def close() -> None:
        for client in _clients.values():
            with suppress(Exception):
                await (await client).__aexit__(None, None, None)

    with suppress(Exception):
        asyncio.run_coroutine_threadsafe(close(), loop).result(2)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(2)


async def _client(where: Address) -> Any:
    """The client for these options; all buckets of a server share one."""
    if where.options not in _clients:
        _clients[where.options] = asyncio.ensure_future(_new_client(where))
    try:
        return await asyncio.shield(_clients[where.options])
    except Exception:
        _clients.pop(where.options, None)
        raise


async def _new_client(where: Address) -> Any:
    options = {name: resolve(value) for name, value in where.options}
    session = _driver().get_session()
    if "profile" in options:
        session.set_config_variable("profile", options["profile"])
    client = session.create_client(
        "s3",
        endpoint_url=options.get("endpoint"),
        region_name=options.get("region") or session.get_config_variable("region") or "us-east-1",
        aws_access_key_id=options.get("access_key"),
        aws_secret_access_key=options.get("secret_key"),
        aws_session_token=options.get("session_token"),
        verify=False if options.get("tls_verify") == "false" else options.get("ca_file"),
        config=_config(options),
    )
    return await client.__aenter__()


def _config(options: dict[str, str]) -> Any:
    from aiobotocore.config import AioConfig
    from botocore import UNSIGNED

    elsewhere = "endpoint" in options or any(os.environ.get(name) for name in _ENDPOINTS)
    addressing = "path" if elsewhere else "auto"
    return AioConfig(
        signature_version=UNSIGNED if options.get("anonymous") == "true" else "s3v4",
        s3={"addressing_style": options.get("addressing", addressing)},
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        max_pool_connections=_CONNECTIONS,
        retries={"total_max_attempts": 1},  # ours read bodies again, too
        # What is sent is signed or in TLS; not all servers know check sums behind a body.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )


def _driver() -> ModuleType:
    try:
        import aiobotocore.session
    except ImportError:
        raise BadConfig(
            "S3 needs a driver that is not installed", fix="pip install 'streamcore[s3]'"
        ) from None
    module: ModuleType = aiobotocore.session
    return module


# ---------------------------------------------------------------- errors


def _translate(error: Exception, where: Address, shown: str) -> StreamcoreError:
    """The error of this package for what aiobotocore, the socket or TLS raised."""
    import aiohttp
    from botocore import exceptions as boto
    from botocore.parsers import ResponseParserError

    if isinstance(error, StreamcoreError):
        return error
    if isinstance(error, boto.ClientError):
        return _of_server(error, shown)
    if isinstance(error, (boto.NoCredentialsError, boto.PartialCredentialsError, boto.ProfileNotFound)):
        return Permanent(
            "there are no credentials",
            where=shown,
            fix="give access_key= and secret_key=, set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "or anonymous=true",
        )
    if isinstance(error, boto.SSLError) or "CERTIFICATE_VERIFY_FAILED" in str(error):
        what = f"the certificate of {where.server} was not accepted"
        return Permanent(what, where=shown, fix="give the authority's file with ca_file=")
    lost = (
        boto.ConnectionError,
        boto.HTTPClientError,
        boto.IncompleteReadError,
        ResponseParserError,
        aiohttp.ClientError,
        asyncio.TimeoutError,
        OSError,
    )
    if isinstance(error, lost):
        return Transient(f"no connection to {where.server} ({type(error).__name__})", where=shown)
    if isinstance(error, boto.BotoCoreError):
        return Permanent(str(error).splitlines()[0], where=shown)
    return Permanent(f"unexpected {type(error).__name__} of the driver", where=shown)


def _of_server(error: Any, shown: str) -> StreamcoreError:
    """By the server's code, or its status where an answer has no body (HEAD)."""
    told = error.response.get("Error", {})
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    code = str(told.get("Code") or status)
    if code in _MISSING:
        return Missing("there is no such object", where=shown)
    if code in _CHANGED:
        return Changed("the object is another one by now", where=shown)
    if code in _TRANSIENT or status >= 500 or status == 429:
        return Transient(f"the server says {code}", where=shown)
    message = str(told.get("Message") or code).splitlines()[0][:200]
    return Permanent(f"{message} ({code})", where=shown, fix=_REMEDIES.get(code))
