"""HTTP as an outside system: one origin asked, with credentials, time-outs, retries and a rate.

Only here aiohttp's client is imported. A :class:`HttpClient` asks one origin (scheme, host and port) and no
other: a redirect or link that leads elsewhere is an error, since the credentials would go there too.
Addresses of this machine, of private networks and of clouds' metadata are refused unless they are allowed,
after the name has been resolved.

==============================================  ==========================================================
what happens                                    raised
==============================================  ==========================================================
no connection, no answer in time, cut answer    tried again, then :class:`Transient`
408, 425, 429, 500, 502, 503, 504               tried again, after ``Retry-After`` if it is given, the same
401 with a token that may have expired          a new token, once, then :class:`Permanent`
other answers than 2xx, TLS, refused addresses  :class:`Permanent` with the remedy
==============================================  ==========================================================

No message holds what was answered, a token or a header: where is the URL without its query.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import aiohttp
from yarl import URL

from streamcore.errors import BadConfig, Permanent, StreamcoreError, Transient
from streamcore.systems.http_addresses import GuardedResolver, RefusedAddress, refused_literal
from streamcore.systems.http_auth import Authentication, Token
from streamcore.systems.tls import client_context

_AGAIN = (408, 425, 429, 500, 502, 503, 504)
_REMEDIES = {
    401: "check the credentials",
    403: "these credentials may not read this: ask for the right",
    404: "check the path",
    405: "the server does not take this method there",
    413: "send less at a time",
}
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
_SHORTEST = 0.5
"""Seconds: with less no other attempt is begun."""
_REDIRECTS = 5
_BLOCK = 1 << 18
_TOKEN_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """How long to wait, how often to ask and how much to take. Times are in seconds, sizes in bytes.

    ``seconds`` is for a whole answer. ``give_up``: for a request with all its retries and the pauses between
    them, without those that the server asks for, and never less than ``seconds``. A server that asks
    (``Retry-After``) for more than ``longest_wait`` makes the request fail. ``rate``: requests a second at
    most; None: as they come.
    """

    connect_seconds: float = 10.0
    seconds: float = 60.0
    give_up: float = 90.0
    retries: int = 5
    longest_wait: float = 60.0
    rate: float | None = None
    max_bytes: int = 64 << 20
    allow_private: bool = False
    ca_file: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said. ``headers`` by names in small letters; ``next``: its ``Link`` so called."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    next: str | None = None


def web_address(url: str) -> URL:
    """*url* as an address of HTTP; BadConfig when it is none."""
    try:
        parsed = URL(url)
    except ValueError:
        parsed = URL()
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise BadConfig("not a web address", where=shown(parsed), allowed=["https://host/path"])
    return parsed


def shown(url: URL) -> str:
    """*url* fit for messages: without user, query and fragment."""
    return str(url.with_user(None).with_query(None).with_fragment(None)) if url.host else str(url.path)


class HttpClient:
    """Asks the origin of *base*. For one event loop, one request at a time; :meth:`close` it.

    *sleep* and *clock* (seconds, monotonic) are those of tests.
    """

    def __init__(
        self,
        base: URL,
        auth: Authentication,
        limits: HttpLimits,
        headers: Mapping[str, str] | None = None,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._origin, self._auth, self._limits = base.origin(), auth, limits
        self._headers = {**(headers or {}), **auth.headers()}
        self._sleep, self._clock = sleep, clock
        self._session: aiohttp.ClientSession | None = None
        self._token: Token | None = None
        self._may_ask_at = 0.0
        self._left = limits.give_up
        if auth.given and base.scheme == "http" and not limits.allow_private:
            raise BadConfig(
                "over http:// anyone on the way can read the credentials",
                where=shown(base),
                fix="write https://, or allow_private=true if this is your own network",
            )

    async def request(
        self,
        method: str,
        url: URL,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        accepted: Collection[int] = (),
    ) -> Answer:
        """The answer to *method* at *url*: one of 2xx, or with a status of *accepted*.

        Transient when all retries failed or there is no time for another one, otherwise as the module says.
        """
        self._check(url)
        pause, attempt, renewed = _FIRST_PAUSE, 0, False
        self._left = max(self._limits.give_up, self._limits.seconds)
        while True:
            attempt += 1
            began = self._clock()
            try:
                return await self._once(method, url, body, headers or {}, accepted)
            except _Unauthorised as error:
                if renewed or self._auth.oauth is None:
                    raise error.permanent from None
                renewed, self._token = True, None
            except _Again as error:
                wait = pause * random.uniform(0.7, 1.3) if error.after is None else error.after  # noqa: S311
                self._left -= self._clock() - began + (wait if error.after is None else 0)
                spent = attempt > self._limits.retries or self._left < _SHORTEST
                if spent or wait > self._limits.longest_wait:
                    raise error.transient(attempt, wait, self._limits.longest_wait) from None
                await self._sleep(wait)
                pause = min(2 * pause, _LONGEST_PAUSE)

    async def close(self) -> None:
        """Free the connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    # ------------------------------------------------------------ one request

    def _check(self, url: URL) -> None:
        if url.origin() != self._origin:
            raise Permanent(
                "the server leads to another host, which must not get the credentials",
                where=str(self._origin),
                got=str(url.origin()),
                fix="ask that host itself",
            )
        if not self._limits.allow_private and refused_literal(url.host or ""):
            raise _private(url)

    async def _once(
        self,
        method: str,
        url: URL,
        body: bytes | None,
        headers: Mapping[str, str],
        accepted: Collection[int],
    ) -> Answer:
        sent = {**self._headers, **headers, **await self._bearer()}
        for _ in range(_REDIRECTS + 1):
            await self._pace()
            answer = await self._answer(method, self._auth.signed(url), body, sent)
            if answer.status not in (301, 302, 303, 307, 308) or "location" not in answer.headers:
                break
            if method != "GET":
                raise Permanent("the server redirects what is sent", where=shown(url), got=answer.status)
            url = url.join(URL(answer.headers["location"]))
            self._check(url)
        else:
            raise Permanent(f"more than {_REDIRECTS} redirects", where=shown(url), fix="check the path")
        if 200 <= answer.status < 300 or answer.status in accepted:
            return answer
        raise _refusal(answer, url)

    async def _answer(self, method: str, url: URL, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        """One request and its answer, whatever its status."""
        try:
            async with self._opened().request(
                method, url, data=body, headers=headers, allow_redirects=False, timeout=self._timeout
            ) as response:
                data = await self._body(response, url)
                link = response.links.get("next")
                return Answer(
                    response.status,
                    {name.lower(): value for name, value in response.headers.items()},
                    data,
                    str(link["url"]) if link is not None else None,
                )
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            raise self._translate(error, url) from None

    async def _body(self, response: aiohttp.ClientResponse, url: URL) -> bytes:
        parts, size = [], 0
        async for part in response.content.iter_chunked(_BLOCK):
            parts.append(part)
            size += len(part)
            if size > self._limits.max_bytes:
                raise Permanent(
                    "the answer is too large",
                    where=shown(url),
                    got=f"more than {self._limits.max_bytes} bytes",
                    fix="ask for fewer rows at a time with page_size=, or raise max_page_bytes=",
                )
        return b"".join(parts)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            limits = self._limits
            resolver = None if limits.allow_private else GuardedResolver()
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=self._tls(), resolver=resolver, limit=4),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    @property
    def _timeout(self) -> aiohttp.ClientTimeout:
        """Of one attempt."""
        seconds = min(self._limits.seconds, self._left)
        return aiohttp.ClientTimeout(seconds, sock_connect=self._limits.connect_seconds)

    def _tls(self) -> ssl.SSLContext | bool:
        """True: the system's authorities. Names and certificates are checked either way."""
        path = self._limits.ca_file
        return True if path is None else client_context(str(self._origin), ca=path)

    async def _pace(self) -> None:
        """Wait until the rate allows another request."""
        if self._limits.rate is None:
            return
        now = self._clock()
        begin = max(now, self._may_ask_at)
        self._may_ask_at = begin + 1 / self._limits.rate
        if begin > now:
            await self._sleep(begin - now)

    async def _bearer(self) -> Mapping[str, str]:
        """The header with the token that client credentials give, kept until shortly before its end."""
        oauth = self._auth.oauth
        if oauth is None:
            return {}
        if self._token is None or self._clock() > self._token.until:
            url = web_address(oauth.token_url)
            if not self._limits.allow_private and refused_literal(url.host or ""):
                raise _private(url)
            asked = self._clock()
            answer = await self._answer("POST", url, oauth.form(), oauth.headers())
            if answer.status in _AGAIN:
                raise _refusal(answer, url)
            self._token = oauth.token(answer.status, answer.body[:_TOKEN_BYTES], asked, shown(url))
        return {"Authorization": f"Bearer {self._token.text.get_secret_value()}"}

    # ------------------------------------------------------------ errors

    def _translate(self, error: BaseException, url: URL) -> StreamcoreError | _Again:
        where = shown(url)
        cause = getattr(error, "os_error", None)
        if isinstance(cause, RefusedAddress):
            return _private(url)
        if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
            reason = getattr(error, "certificate_error", None) or cause or error
            text = (
                getattr(reason, "verify_message", "")
                or getattr(reason, "reason", "")
                or "the handshake failed"
            )
            return Permanent(f"TLS: {text}", where=where, fix="give the authority's file with ca_file=")
        if isinstance(error, aiohttp.InvalidURL):
            return Permanent("the server leads to what is no web address", where=where)
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return _Again(f"no connection within {self._limits.connect_seconds:g} s", where)
        if isinstance(error, asyncio.TimeoutError):
            return _Again(f"no whole answer within {self._timeout.total:.3g} s", where)
        if isinstance(error, aiohttp.ClientConnectorDNSError):
            return _Again("the host's name can't be resolved", where)
        if isinstance(error, aiohttp.ClientPayloadError):
            return _Again("the answer was cut off", where)
        reason = getattr(cause, "strerror", None) or type(error).__name__
        return _Again(f"no connection ({reason})", where)


class _Again(Exception):
    """A failure that may pass; ``after``: seconds that the server asks to wait."""

    def __init__(self, what: str, where: str, after: float | None = None, got: object = None) -> None:
        super().__init__(what)
        self.what, self.where, self.after, self.got = what, where, after, got

    def transient(self, attempts: int, wait: float, longest: float) -> Transient:
        """What the caller hears when there are no more attempts."""
        if wait > longest:
            fix = f"the server asks for {wait:.0f} s of patience: raise longest_wait_seconds={longest:g}"
        else:
            fix = "try again later, or raise retries= and give_up_seconds="
        times = f", {attempts} times" if attempts > 1 else ""
        return Transient(f"{self.what}{times}", where=self.where, got=self.got, fix=fix)


class _Unauthorised(Exception):
    """401: the token may have expired."""

    def __init__(self, permanent: Permanent) -> None:
        super().__init__()
        self.permanent = permanent


def _refusal(answer: Answer, url: URL) -> Exception:
    where = shown(url)
    try:
        said = f"{answer.status} {HTTPStatus(answer.status).phrase}"
    except ValueError:
        said = str(answer.status)
    if answer.status in _AGAIN:
        return _Again("the server can't answer now", where, _retry_after(answer.headers), said)
    fix = _REMEDIES.get(answer.status, "see what the API says of this status")
    permanent = Permanent("the server refused the request", where=where, got=said, fix=fix)
    return _Unauthorised(permanent) if answer.status == 401 else permanent


def _private(url: URL) -> Permanent:
    return Permanent(
        "this is an address of this machine or of a private network",
        where=shown(url),
        fix="allow_private=true allows that",
    )


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds; the header holds them, or a date."""
    text = headers.get("retry-after", "").strip()
    if text.isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


def with_parameters(url: URL, parameters: Sequence[tuple[str, str]]) -> URL:
    """*url* with *parameters*, each in the place of those of its name."""
    names = {name for name, _ in parameters}
    kept = [(name, value) for name, value in url.query.items() if name not in names]
    return url.with_query([*kept, *parameters])
