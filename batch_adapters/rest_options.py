"""Options of sources that are REST collections, and what they say of requests and credentials."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from batch_adapters.rest_marks import LagText
from streamcore.errors import BadConfig
from streamcore.secrets import Secret
from streamcore.systems.http import HttpLimits
from streamcore.systems.http_auth import Authentication, ClientCredentials

_SIZE_NAMES = {"page": "page_size", "offset": "limit", "cursor": "limit", "link": "per_page"}


class RestOptions(BaseModel):
    """Options of a REST source. The URL's other parameters are sent to the server."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    rows_path: str | None = Field(
        None, description="Where the rows are: data.items; '.': the answer is one row. Else the only array."
    )
    pagination: Literal["auto", "none", "page", "offset", "cursor", "link"] = Field(
        "auto", description="How there are more pages; auto: by a Link header, where the server sends one."
    )
    page_size: int | None = Field(None, gt=0, description="Rows to ask for at a time.")
    page_size_param: str | None = Field(
        None,
        description="Its parameter. [page_size for page, limit for offset and cursor, per_page for link]",
    )
    page_param: str = Field("page", description="page: the parameter with the page's number.")
    first_page: int = Field(1, ge=0, description="page: the number of the first page.")
    offset_param: str = Field("offset", description="offset: the parameter with the number of rows to skip.")
    cursor_param: str = Field("cursor", description="cursor: the parameter with the cursor.")
    cursor_path: str | None = Field(
        None, description="cursor: where the next one is in the answer: meta.next_cursor."
    )
    next_path: str | None = Field(
        None, description="link: where the next page's URL is in the answer. Else the Link header."
    )
    since: str | None = Field(None, description="Only what is newer: the value of since_param.")
    since_param: str = Field("since", description="The parameter that since goes into: updated_after.")
    bearer_token: Secret | None = Field(None, description="Sent as Authorization: Bearer.")
    api_key: Secret | None = Field(None, description="Sent in api_key_header, or api_key_param.")
    api_key_header: str = Field("X-API-Key", description="The header of the API key.")
    api_key_param: str | None = Field(None, description="The parameter of the API key, instead of a header.")
    token_url: str | None = Field(None, description="OAuth2 client credentials: where tokens are given.")
    client_id: str | None = Field(None, description="OAuth2: the client's name.")
    client_secret: Secret | None = Field(None, description="OAuth2: the client's secret.")
    scope: str | None = Field(None, description="OAuth2: what the token is to be good for.")
    timeout_seconds: float = Field(60.0, gt=0, description="For a whole answer; 10 s to connect.")
    give_up_seconds: float = Field(
        90.0, gt=0, description="For a request with its retries, without pauses that the server asks for."
    )
    retries: int = Field(5, ge=0, description="How often a failed request is tried again, with back-off.")
    longest_wait_seconds: float = Field(60.0, gt=0, description="Retry-After up to so long is waited for.")
    requests_per_second: float | None = Field(None, gt=0, description="Ask no more often than that.")
    max_page_bytes: int = Field(64 << 20, gt=0, description="Largest answer that is taken, decompressed.")
    allow_private: bool = Field(
        False,
        description="Ask hosts of this machine and of private networks too, and take http:// for secrets.",
    )
    ca_file: str | None = Field(
        None, description="PEM file of the authorities to trust, instead of the system's."
    )

    @model_validator(mode="after")
    def _fit_together(self) -> RestOptions:
        if self.pagination == "cursor" and not self.cursor_path:
            raise BadConfig(
                "pagination=cursor needs the place of the next cursor",
                where="cursor_path",
                fix="give cursor_path=meta.next_cursor, as the API has it",
            )
        oauth = (self.token_url, self.client_id, self.client_secret)
        if any(oauth) and not all(oauth):
            raise BadConfig(
                "OAuth2 needs token_url, client_id and client_secret",
                where="token_url",
                fix="give all three of them",
            )
        return self

    @property
    def size_param(self) -> str | None:
        """The parameter of the page's size; None when no size is asked for."""
        if self.page_size is None:
            return None
        return self.page_size_param or _SIZE_NAMES.get(self.pagination, "per_page")

    def authentication(self, user: str | None, password: str | None) -> Authentication:
        """Who asks; *user* and *password* are those of the URL."""
        oauth = None
        if self.token_url and self.client_id and self.client_secret:
            oauth = ClientCredentials(self.token_url, self.client_id, self.client_secret, self.scope)
        return Authentication(
            bearer=self.bearer_token,
            api_key=self.api_key,
            key_header=self.api_key_header,
            key_param=self.api_key_param,
            user=user,
            password=None if password is None else Secret(password),
            oauth=oauth,
        )

    @property
    def limits(self) -> HttpLimits:
        """How long to wait and how much to take."""
        return HttpLimits(
            seconds=self.timeout_seconds,
            give_up=self.give_up_seconds,
            retries=self.retries,
            longest_wait=self.longest_wait_seconds,
            rate=self.requests_per_second,
            max_bytes=self.max_page_bytes,
            allow_private=self.allow_private,
            ca_file=self.ca_file,
        )


class IncrementalRestOptions(RestOptions):
    """Options of REST collections that can be read in runs."""

    mark: str | None = Field(
        None,
        description="A member of each row that grows with each change: each run reads only what came since "
        "the last one.",
    )
    lag: LagText | None = Field(
        None,
        description="With mark=: it is asked from so far behind the highest one: of times 1m, of numbers 0.",
    )
