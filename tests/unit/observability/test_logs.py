"""One event is one line, with its fields, and without secrets."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr

import pytest

from streamcore.errors import Transient
from streamcore.observability.logs import NOISY, Redactor, configure

log = logging.getLogger("streamcore.runtime.commits")


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, levels = list(root.handlers), {name: logging.getLogger(name).level for name in ("", *NOISY)}
    yield
    root.handlers[:] = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    logging.captureWarnings(False)


def _json(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_holds_the_fields_with_their_types_and_ours_first() -> None:
    out = io.StringIO()
    configure(format="json", stream=out)
    log.info(
        "committed", extra={"rows": 7, "offset": 100, "topic": "flights", "topology": "f", "partition": 3}
    )
    [line] = _json(out)
    assert list(line) == ["ts", "level", "event", "topology", "topic", "partition", "offset", "rows"]
    assert (line["level"], line["event"], line["partition"], line["rows"]) == ("info", "committed", 3, 7)
    assert str(line["ts"]).endswith("Z")


def test_console_is_one_line_of_words_and_fields() -> None:
    out = io.StringIO()
    configure(stream=out)
    log.warning("sink is slow", extra={"sink": "out late", "rows": 3})
    text = out.getvalue()
    assert text.endswith('Z warning sink is slow sink="out late" rows=3\n')


def test_a_line_break_in_a_message_cannot_forge_a_line() -> None:
    for form in ("console", "json"):
        out = io.StringIO()
        configure(format=form, stream=out)  # type: ignore[arg-type]
        log.info("bad\n2026 error forged", extra={"topic": "a\nb=c"})
        assert len(out.getvalue().splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("dial postgresql://bob:hunter2@db:5432/x now", "dial postgresql://bob:***@db:5432/x now"),
        ("kafka://a:9092,b:9092 and redis://:pw@h/0", "kafka://a:9092,b:9092 and redis://:***@h/0"),
        ("connect password=hunter2 host=db", "connect password=*** host=db"),
        ("nothing to hide", "nothing to hide"),
    ],
)
def test_secrets_of_urls_are_masked_and_the_rest_stays(text: str, shown: str) -> None:
    assert Redactor()(text) == shown


def test_known_values_are_masked_also_as_they_stand_in_urls() -> None:
    redact = Redactor(["s3cr/et!", "s3cr"])
    redact.hide("later-known")
    redact.hide("db")
    assert redact("a s3cr/et! b s3cr%2Fet%21 c later-known d s3cr db") == "a *** b *** c *** d *** db"


def test_nothing_of_a_record_escapes_the_redaction() -> None:
    for form in ("console", "json"):
        out = io.StringIO()
        configure(level="debug", format=form, secrets=["hunter2"], stream=out)  # type: ignore[arg-type]
        try:
            raise ValueError("hunter2 in an error")
        except ValueError:
            log.exception("said %s", "hunter2", extra={"url": "x://u:hunter2@h/", "any": {"k": "hunter2"}})
        assert "hunter2" not in out.getvalue()
        assert "in an error" in out.getvalue()


def test_tracebacks_are_for_debug_only() -> None:
    for level, wanted in (("info", False), ("debug", True)):
        out = io.StringIO()
        configure(level=level, format="json", stream=out)  # type: ignore[arg-type]
        try:
            raise Transient("connection lost", where="db:5432", fix="wait")
        except Transient:
            log.exception("sink failed")
        [line] = _json(out)
        assert line["error"] == "Transient: db:5432: connection lost; wait"
        assert ("traceback" in line) is wanted


def test_a_strangers_error_tells_its_place() -> None:
    out = io.StringIO()
    configure(format="json", stream=out)
    try:
        int("x")
    except ValueError:
        log.exception("failed")
    assert str(_json(out)[0]["error"]).startswith("ValueError: invalid literal")
    assert f"{__file__}:" in str(_json(out)[0]["error"])


def test_libraries_are_heard_from_warning_on_and_named() -> None:
    out = io.StringIO()
    configure(format="json", stream=out)
    for name in NOISY:
        logging.getLogger(f"{name}.deep").info("chatter")
        logging.getLogger(f"{name}.deep").error("broken")
    assert [(line["event"], line["logger"]) for line in _json(out)] == [
        ("broken", f"{name}.deep") for name in NOISY
    ]


def test_configuring_again_replaces() -> None:
    first, second = io.StringIO(), io.StringIO()
    configure(stream=first)
    configure(level="error", stream=second)
    log.warning("no")
    log.error("yes")
    assert first.getvalue() == ""
    assert len(second.getvalue().splitlines()) == 1


def test_standard_error_is_looked_up_when_a_line_is_written() -> None:
    configure()
    display = io.StringIO()
    with redirect_stderr(display):
        log.info("above the progress display")
    assert "above the progress display" in display.getvalue()
    assert sys.stderr is not display
