"""Logging for a service: one line an event, for people or as JSON, with secrets masked.

Parts log through :mod:`logging` with a short, constant event text and fields in ``extra``::

    log = logging.getLogger(__name__)
    log.info("committed", extra={"topology": "flights", "topic": "flights", "partition": 3, "offset": 100})

console  ``2026-11-23T17:46:13.120Z info  committed topology=flights topic=flights partition=3 offset=100``
json     ``{"ts":"2026-11-23T17:46:13.120Z","level":"info","event":"committed","topology":"flights",…}``

Faust, Mode and aiokafka tell much at level info that is of no use to users: they are heard from warning on.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from typing import Literal, TextIO
from urllib.parse import quote

from streamcore.errors import StreamcoreError
from streamcore.secrets import HIDDEN_TEXT, mask_url

NOISY = ("faust", "mode", "aiokafka", "aiohttp.access", "asyncio")
"""Loggers of libraries that are heard from warning on (from info on at level debug)."""

MODE_MARK = "[^"
"""Mode's services begin their lines so; those of our subclasses come under our modules' names."""

SHORTEST_SECRET = 4
"""Masking every appearance of a shorter text would spoil the log more than it would hide."""

_ORDER = {
    name: place for place, name in enumerate(("topology", "stream", "topic", "partition", "offset", "sink"))
}
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]+)")
_PLAIN = re.compile(r"[^\s\"=]+\Z")


class Redactor:
    """Masks passwords in URLs, ``password=…`` and the like, and the values that it was told."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._known: tuple[str, ...] = ()
        for secret in secrets:
            self.hide(secret)

    def hide(self, secret: str) -> None:
        """Mask *secret* from now on wherever it appears, also in its form for URLs."""
        if len(secret) >= SHORTEST_SECRET:
            forms = {*self._known, secret, quote(secret, safe="")}
            self._known = tuple(sorted(forms, key=len, reverse=True))

    def __call__(self, text: str) -> str:
        """*text* fit to be shown."""
        for secret in self._known:
            text = text.replace(secret, HIDDEN_TEXT)
        return "".join(mask_url(part) for part in _URL.split(text))


class _Lines(logging.Formatter):
    """Turns a record into fields, each redacted, and the fields into a line."""

    def __init__(self, redact: Redactor, *, as_json: bool, tracebacks: bool) -> None:
        super().__init__()
        self._redact = redact
        self._as_json = as_json
        self._tracebacks = tracebacks

    def format(self, record: logging.LogRecord) -> str:
        fields = {name: self._shown(value) for name, value in self._fields(record)}
        if self._as_json:
            return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
        stack = fields.pop("traceback", None)
        head = f"{fields.pop('ts')} {fields.pop('level'):<7} {_one_line(str(fields.pop('event')))}"
        line = " ".join([head, *(f"{name}={_logfmt(value)}" for name, value in fields.items())])
        return line if stack is None else f"{line}\n{stack}"

    def _fields(self, record: logging.LogRecord) -> Iterator[tuple[str, object]]:
        moment = datetime.fromtimestamp(record.created, timezone.utc)
        yield "ts", moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        yield "level", record.levelname.lower()
        yield "event", record.getMessage()
        if not record.name.startswith("streamcore"):
            yield "logger", record.name
        extra = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        yield from sorted(extra.items(), key=lambda field: _ORDER.get(field[0], len(_ORDER)))
        if record.exc_info and record.exc_info[1] is not None:
            yield "error", _describe(record.exc_info[1])
            if self._tracebacks:
                yield "traceback", "".join(traceback.format_exception(record.exc_info[1])).rstrip()

    def _shown(self, value: object) -> object:
        if value is None or isinstance(value, (bool, int, float)):
            return value
        return self._redact(str(value))


def _describe(error: BaseException) -> str:
    """Type, text and the place where it was raised; ours say all of that themselves."""
    if isinstance(error, StreamcoreError):
        return f"{type(error).__name__}: {error}"
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{place}"


def _one_line(text: str) -> str:
    return text if text.isprintable() else text.encode("unicode_escape").decode()


def _logfmt(value: object) -> str:
    text = str(value)
    return text if _PLAIN.match(text) and text.isprintable() else json.dumps(text, ensure_ascii=False)


class _Handler(logging.Handler):
    """Writes to *stream*, or to what ``sys.stderr`` is at that moment: a progress display replaces it."""

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__()
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        try:
            stream = self._stream or sys.stderr
            stream.write(self.format(record) + "\n")
            stream.flush()
        except Exception:  # noqa: BLE001 - a log line must never end the work
            self.handleError(record)


def _is_worth_it(record: logging.LogRecord) -> bool:
    """False for "Starting…" and "Stopping…" of Mode's services."""
    return record.levelno > logging.INFO or not str(record.msg).startswith(MODE_MARK)


def configure(
    *,
    level: Literal["debug", "info", "warning", "error"] = "info",
    format: Literal["console", "json"] = "console",
    secrets: Iterable[str] = (),
    stream: TextIO | None = None,
) -> Redactor:
    """Set logging up for this process; called again it replaces what it did before.

    *secrets* are values to mask; more can be told to the redactor that is returned. Tracebacks are
    written at level debug only. *stream* is standard error when None.
    """
    redactor = Redactor(secrets)
    handler = _Handler(stream)
    handler.setFormatter(_Lines(redactor, as_json=format == "json", tracebacks=level == "debug"))
    if level != "debug":
        handler.addFilter(_is_worth_it)
    root = logging.getLogger()
    for former in [h for h in root.handlers if isinstance(h, _Handler)]:
        root.removeHandler(former)
    root.addHandler(handler)
    number: int = getattr(logging, level.upper())
    root.setLevel(number)
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.INFO if level == "debug" else max(number, logging.WARNING))
    logging.captureWarnings(True)
    return redactor
