"""The ways of a notification, their fields, and what is asked of them before a pipeline is registered.

A field that is empty here and set in the section ``notifications`` of the settings is taken from there.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Field, JsonValue, ValidationError

from streamcore.errors import BadConfig, did_you_mean
from streamcore.pipelines.models import Config, NotificationConfig, Seconds
from streamcore.pipelines.notifications.templates import Template
from streamcore.pipelines.references import resolved
from streamcore.secrets import Secret, resolve
from streamcore.settings.model import Notifications
from streamcore.systems.http import web_address
from streamcore.systems.http_addresses import refused_literal

FOLD_SECONDS = 600.0
"""So long the same pipeline is quiet about the same event, but for its successes."""
_ADDRESS = re.compile(r"[^\s@,;<>]+@[^\s@,;<>]+\Z")
_SECRET_PREFIX = "whsec_"  # noqa: S105 - how Standard Webhooks marks a secret


def _address(text: str) -> str:
    if "${" not in text and not _ADDRESS.match(text):
        raise ValueError("must be an address such as name@example.com")
    return text


Address: TypeAlias = Annotated[str, AfterValidator(_address)]


class Channel(Config):
    """What all ways have."""

    type: str
    fold_within: Seconds | None = Field(
        None,
        ge=0,
        description="So many seconds after a message, further ones of the pipeline and event are one message "
        "with a count; 600 when not set, but for on_success.",
    )
    after: Seconds | None = Field(
        None, gt=0, description="Of on_sla_miss: seconds after its time at which a run must have ended."
    )


class Email(Channel):
    """Mail over SMTP."""

    type: Literal["email"]
    recipients: tuple[Address, ...] = Field(min_length=1, description="Addresses.")
    subject: Template = Field("Pipeline {pipeline_name}: {status}", description="One line.")
    text: Template | None = Field(None, description="The mail; a few lines about the run when not set.")
    server: str | None = None
    port: int | None = Field(None, ge=1, le=65_535)
    security: Literal["starttls", "tls", "none"] | None = None
    user: str | None = None
    password: Secret | None = None
    sender: Address | None = None
    ca_file: str | None = None


class Webhook(Channel):
    """JSON by POST, signed as Standard Webhooks say when there is a ``secret``."""

    type: Literal["webhook"]
    url: Secret
    secret: Secret | None = Field(None, description="Key of the signature, HMAC-SHA256.")
    headers: dict[str, Secret] = Field(default_factory=dict, description="Further headers.")
    data: dict[str, JsonValue] = Field(default_factory=dict, description="Sent along as it is.")
    allow_private: bool | None = None
    ca_file: str | None = None


class Slack(Channel):
    """A text for an incoming webhook of Slack, or of those that take the same JSON."""

    type: Literal["slack"]
    url: Secret
    text: Template | None = Field(None, description="The text; a few lines about the run when not set.")
    allow_private: bool | None = None
    ca_file: str | None = None


CHANNELS: Mapping[str, type[Channel]] = {"email": Email, "webhook": Webhook, "slack": Slack}


def channel_of(given: Mapping[str, JsonValue]) -> Channel:
    """The way that these fields ask for. BadConfig: no such type, pydantic's ValidationError: its fields.

    References to the environment are resolved where a field is no text; a text keeps them until it is sent.
    """
    model = model_of(given.get("type"))
    try:
        return model.model_validate(given)
    except ValidationError as error:
        places = {one["loc"][0] for one in error.errors() if one["loc"]}
    return model.model_validate(
        {key: resolved(value) if key in places else value for key, value in given.items()}
    )


def model_of(type: object) -> type[Channel]:
    """The fields of the way *type*; BadConfig when there is none."""
    if isinstance(type, str) and type in CHANNELS:
        return CHANNELS[type]
    raise BadConfig(
        "there is no such type of notification" if type else "the type of a notification is missing",
        got=type or None,
        allowed=CHANNELS,
        fix=did_you_mean(str(type), CHANNELS),
    )


def with_defaults(channel: Channel, defaults: Notifications) -> Channel:
    """*channel* with its empty fields from the settings."""
    empty = {
        name: value
        for name in type(channel).model_fields
        if getattr(channel, name) is None and (value := getattr(defaults, name, None)) is not None
    }
    if isinstance(channel, Email) and channel.server is not None:  # a login is for its own server
        empty = {name: value for name, value in empty.items() if name in ("sender", "ca_file")}
    return channel.model_copy(update=empty)


def nobody(channel: Channel) -> bool:
    """Whether there is nobody to tell: all addresses are empty, as ``${NAME:}`` is where NAME is not set."""
    if isinstance(channel, Email):
        return not any(resolve(one).strip() for one in channel.recipients)
    return isinstance(channel, Webhook | Slack) and not channel.url.reveal().strip()


def wrong(channel: Channel) -> Iterator[tuple[str, BadConfig]]:
    """The field, and what is wrong with it, of a *channel* with its defaults."""
    if isinstance(channel, Email):
        yield from _wrong_mail(channel)
    elif isinstance(channel, Webhook | Slack):
        try:
            _check_address(channel.url.reveal(), channel.allow_private is True)
            if isinstance(channel, Webhook) and channel.secret is not None:
                signing_key(channel.secret.reveal())
        except BadConfig as error:
            yield "url" if "address" in error.what else "secret", error


def _wrong_mail(channel: Email) -> Iterator[tuple[str, BadConfig]]:
    for name, setting in (("server", "server"), ("sender", "sender")):
        if not getattr(channel, name):
            fix = f"add {name}, or set notifications.{setting} in the settings"
            yield name, BadConfig(f"e-mail needs a {name}", fix=fix)
    if (channel.user is None) != (channel.password is None):
        yield "user", BadConfig("user and password go together", fix="give both or neither")
    if channel.security == "none" and channel.user is not None:
        fix = "use starttls or tls, or no user"
        yield "security", BadConfig("without encryption anyone on the way can read the password", fix=fix)


def _check_address(url: str, allow_private: bool) -> None:
    address = web_address(url.strip())
    if not allow_private and refused_literal(address.host or ""):
        raise BadConfig(
            "this is an address of this machine or of a private network",
            fix="allow_private: true allows that",
        )
    if address.scheme == "http" and not allow_private:
        raise BadConfig(
            "to an address of http:// anyone on the way can read it",
            fix="write https://, or allow_private: true on your own network",
        )


def signing_key(secret: str) -> bytes:
    """The key in *secret*: base64 behind ``whsec_`` as Standard Webhooks write it, or the text itself."""
    if not secret:
        raise BadConfig("the secret is empty", fix="check the variable or file that holds it")
    if not secret.startswith(_SECRET_PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(_SECRET_PREFIX), validate=True)
    except binascii.Error:
        raise BadConfig("behind whsec_ the secret must be base64") from None


def fold_seconds(channel: Channel, event: str) -> float:
    """How long *event* is folded after a message."""
    if channel.fold_within is not None:
        return channel.fold_within
    return 0.0 if event == "on_success" else FOLD_SECONDS


def sla_seconds(config: NotificationConfig | None) -> float | None:
    """The seconds that a run has, as the notification ``on_sla_miss`` says; None: it has time.

    Also when that can't be told here, since a variable is gone: a run goes on all the same.
    """
    if config is None:
        return None
    try:
        return channel_of(config.model_dump()).after
    except (BadConfig, ValidationError):
        return None
