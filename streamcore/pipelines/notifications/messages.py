"""What is sent: the facts of a message, and its text for people, its JSON for programs."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Mapping, Sequence
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any

import orjson
from pydantic import JsonValue

from streamcore.metadata.notices import Notice
from streamcore.pipelines.notifications.channels import Email, Slack, Webhook
from streamcore.pipelines.notifications.templates import filled
from streamcore.secrets import mask_url, resolve

Facts = Mapping[str, JsonValue]
_MOST_RUNS = 20
"""So many runs a message names, of those that were folded into it."""
_TEXTS = {
    "on_failure": "Pipeline {pipeline_name} failed.",
    "on_success": "Pipeline {pipeline_name} has ended well after {seconds} s.",
    "on_retry": "Task {task_id} of pipeline {pipeline_name} failed and is tried again.",
    "on_sla_miss": "Pipeline {pipeline_name} is late.",
}


def facts_of(notices: Sequence[Notice]) -> dict[str, JsonValue]:
    """Those of the newest notice of a message, and how many there are of which runs."""
    newest = max(notices, key=lambda notice: notice.at_us)
    facts = dict(newest.facts)
    if isinstance(error := facts.get("error"), str):
        facts["error"] = _without_secrets(error)
    runs = list(dict.fromkeys(notice.run_id for notice in notices))
    first = min(notices, key=lambda notice: notice.at_us)
    return {
        **facts,
        "count": len(notices),
        "since": first.facts.get("at"),
        "runs": list[JsonValue](runs[-_MOST_RUNS:]),
    }


def text_of(template: str | None, facts: Facts) -> str:
    """The text for people."""
    if template is None:
        lines = [_TEXTS.get(str(facts.get("event")), "Pipeline {pipeline_name}: {status}"), "Run {run_id}"]
        lines += ["Task {task_id}, attempt {attempt}"] if facts.get("task_id") else []
        lines += ["{error}"] if facts.get("error") else []
        template = "\n".join(lines)
    text = filled(template, facts)
    count = facts.get("count")
    if isinstance(count, int) and count > 1:
        text += f"\n\nThis is one message for {count} of its kind since {facts.get('since')}."
    return text


def mail_of(channel: Email, facts: Facts, message_id: str) -> EmailMessage:
    """The mail; its Message-ID is the same whenever it is made of the same message."""
    mail = EmailMessage()
    sender = resolve(channel.sender or "")
    mail["From"] = sender
    mail["To"] = ", ".join(resolve(one) for one in channel.recipients)
    mail["Subject"] = " ".join(filled(channel.subject, facts).split())[:250]
    mail["Date"] = format_datetime(dt.datetime.now(dt.timezone.utc))
    digest = hashlib.sha256(message_id.encode()).hexdigest()[:32]
    mail["Message-ID"] = f"<{digest}@{sender.rpartition('@')[2]}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(text_of(channel.text, facts))
    return mail


def json_of(channel: Webhook, facts: Facts, message_id: str) -> bytes:
    """The body of a webhook."""
    return orjson.dumps({"id": message_id, **facts, **({"data": channel.data} if channel.data else {})})


def slack_of(channel: Slack, facts: Facts) -> bytes:
    """The body for Slack, which reads ``&``, ``<`` and ``>`` as marks."""
    plain: dict[str, Any] = {
        key: _escaped(value) if isinstance(value, str) else value for key, value in facts.items()
    }
    return orjson.dumps({"text": text_of(channel.text, plain)})


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _without_secrets(text: str) -> str:
    """*text* with the passwords of URLs in it hidden."""
    return re.sub(r"\S+", lambda word: mask_url(word[0]), text)
