"""Hands a message over, once. It is sent at least once by whoever calls: each time with the same id.

A webhook gets the headers of Standard Webhooks (standardwebhooks.com): ``webhook-id``, ``webhook-timestamp``
and, with a secret, ``webhook-signature``: ``v1,`` and the base64 of HMAC-SHA256 over ``id.timestamp.body``.
``Idempotency-Key`` is the id too.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
from collections.abc import Mapping

from streamcore.errors import BadConfig, StreamcoreError
from streamcore.pipelines.notifications.channels import Channel, Email, Slack, Webhook, signing_key
from streamcore.pipelines.notifications.messages import Facts, json_of, mail_of, slack_of
from streamcore.secrets import Secret, resolve
from streamcore.systems.http import HttpClient, HttpLimits, web_address
from streamcore.systems.http_auth import Authentication
from streamcore.systems.smtp import PORTS, MailServer, send_mail

log = logging.getLogger("streamcore.pipelines")
SECONDS = 20.0
"""The longest wait for an answer."""


async def send(channel: Channel, facts: Facts, message_id: str, now: float) -> None:
    """Send it by *channel*, which has its defaults. *now*: seconds since 1970, for the signature.

    Transient, Permanent, BadConfig: it was not sent, as far as can be told.
    """
    if isinstance(channel, Email):
        await _mail(channel, facts, message_id)
    elif isinstance(channel, Webhook):
        body = json_of(channel, facts, message_id)
        headers = {name: value.reveal() for name, value in channel.headers.items()}
        secret = channel.secret.reveal() if channel.secret is not None else None
        headers.update(signed(body, message_id, round(now), secret))
        await _post(channel.url, body, headers, channel.allow_private is True, channel.ca_file)
    elif isinstance(channel, Slack):
        body = slack_of(channel, facts)
        await _post(channel.url, body, {}, channel.allow_private is True, channel.ca_file)


def signed(body: bytes, message_id: str, timestamp: int, secret: str | None) -> Mapping[str, str]:
    """The headers that say which message it is, and who sent it."""
    headers = {"webhook-id": message_id, "Idempotency-Key": message_id, "webhook-timestamp": str(timestamp)}
    if secret is None:
        return headers
    what = f"{message_id}.{timestamp}.".encode() + body
    code = hmac.new(signing_key(secret), what, hashlib.sha256).digest()
    return {**headers, "webhook-signature": f"v1,{base64.b64encode(code).decode()}"}


async def _mail(channel: Email, facts: Facts, message_id: str) -> None:
    security = channel.security or "starttls"
    server = MailServer(
        host=resolve(channel.server or ""),
        port=channel.port or PORTS[security],
        security=security,
        user=None if channel.user is None else resolve(channel.user),
        password=channel.password,
        ca_file=channel.ca_file,
        seconds=SECONDS,
    )
    try:
        mail = mail_of(channel, facts, message_id)
    except ValueError as error:  # an address with a line break, behind a reference
        raise BadConfig(f"the mail can't be made: {type(error).__name__}", fix="check its fields") from None
    refused = await send_mail(server, mail)
    if refused:
        log.warning("%s took a mail, but refused %s of its recipients", server.shown, len(refused))


async def _post(
    url: Secret, body: bytes, headers: Mapping[str, str], allow_private: bool, ca_file: str | None
) -> None:
    address = web_address(url.reveal().strip())
    limits = HttpLimits(
        seconds=SECONDS, retries=0, max_bytes=1 << 20, allow_private=allow_private, ca_file=ca_file
    )
    client = HttpClient(address, Authentication(), limits, {"Content-Type": "application/json", **headers})
    try:
        await client.request("POST", address, body=body)
    except StreamcoreError as error:  # the path may be the secret, as Slack's is
        where = str(address.origin())
        raise type(error)(error.what, where=where, got=error.got, fix=error.fix) from None
    finally:
        await client.close()
