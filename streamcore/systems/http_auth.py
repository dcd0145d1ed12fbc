"""Who asks over HTTP: bearer token, API key, user and password, OAuth2 client credentials (RFC 6749, 4.4)."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import quote, urlencode

import orjson
from yarl import URL

from streamcore.errors import BadConfig, Permanent
from streamcore.secrets import Secret

_LEEWAY = 0.1
"""A token is renewed when this share of its life is left, at most a minute."""
_USUAL_LIFE = 300.0


class Token(NamedTuple):
    """An access token. ``until``: the time, of the clock that was given, at which to ask for another one."""

    text: Secret
    until: float


@dataclass(frozen=True, slots=True)
class ClientCredentials:
    """An OAuth2 client that gets its tokens at ``token_url``."""

    token_url: str
    client_id: str
    client_secret: Secret
    scope: str | None = None

    def form(self) -> bytes:
        """The body of the token request."""
        asked = {"grant_type": "client_credentials"} | ({"scope": self.scope} if self.scope else {})
        return urlencode(asked).encode()

    def headers(self) -> Mapping[str, str]:
        """The client's own credentials as HTTP basic, which every server must take (2.3.1)."""
        pair = f"{quote(self.client_id, safe='')}:{quote(self.client_secret.get_secret_value(), safe='')}"
        return {"Authorization": _basic(pair), "Content-Type": "application/x-www-form-urlencoded"}

    def token(self, status: int, body: bytes, now: float, where: str) -> Token:
        """The token of an answer; Permanent when it holds none."""
        try:
            said = orjson.loads(body)
        except orjson.JSONDecodeError:
            said = None
        said = said if isinstance(said, dict) else {}
        text, life = said.get("access_token"), said.get("expires_in", _USUAL_LIFE)
        if status != 200 or not isinstance(text, str) or not text:
            code = said.get("error")
            raise Permanent(
                "the token server gave no token",
                where=where,
                got=f"{status} {code}" if isinstance(code, str) and code.isidentifier() else status,
                fix="check client_id, client_secret and scope",
            )
        seconds = float(life) if isinstance(life, int | float) else _USUAL_LIFE
        return Token(Secret(text), now + seconds - min(60.0, seconds * _LEEWAY))


@dataclass(frozen=True, slots=True)
class Authentication:
    """At most one of these ways; ``repr()`` shows none of it.

    ``key_header``, ``key_param``: where ``api_key`` goes; a header unless a parameter is named.
    """

    bearer: Secret | None = None
    api_key: Secret | None = None
    key_header: str = "X-API-Key"
    key_param: str | None = None
    user: str | None = None
    password: Secret | None = None
    oauth: ClientCredentials | None = None

    def __post_init__(self) -> None:
        ways = {
            "bearer_token": self.bearer,
            "api_key": self.api_key,
            "user:password@": self.user,
            "client_id": self.oauth,
        }
        given = [name for name, value in ways.items() if value is not None]
        if len(given) > 1:
            raise BadConfig("several ways to authenticate", got=", ".join(given), fix="give one of them")
        for secret in (self.bearer, self.api_key):
            if secret is not None and not _fits_a_header(secret.get_secret_value()):
                raise BadConfig(
                    f"the {given[0]} is empty or holds characters that no header can",
                    fix="check the variable or file that holds it",
                )

    @property
    def given(self) -> bool:
        """Whether there are credentials."""
        return any(way is not None for way in (self.bearer, self.api_key, self.user, self.oauth))

    def headers(self) -> Mapping[str, str]:
        """Those of every request, except an OAuth2 token."""
        if self.bearer is not None:
            return {"Authorization": f"Bearer {self.bearer.get_secret_value()}"}
        if self.user is not None:
            password = "" if self.password is None else self.password.get_secret_value()
            return {"Authorization": _basic(f"{self.user}:{password}")}
        if self.api_key is not None and self.key_param is None:
            return {self.key_header: self.api_key.get_secret_value()}
        return {}

    def signed(self, url: URL) -> URL:
        """*url* with the API key, where that is a parameter."""
        if self.api_key is None or self.key_param is None:
            return url
        return url.update_query({self.key_param: self.api_key.get_secret_value()})

    def unsigned(self, url: URL) -> URL:
        """*url* without that parameter."""
        return url if self.key_param is None else url.without_query_params(self.key_param)


def _basic(pair: str) -> str:
    return "Basic " + base64.b64encode(pair.encode()).decode()


def _fits_a_header(text: str) -> bool:
    return bool(text) and text.isprintable() and text.isascii()
