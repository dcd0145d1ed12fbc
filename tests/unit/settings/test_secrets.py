"""Secrets: references resolve late and in one pass, and no way of printing shows the text."""

import copy
import json
import traceback

import orjson
import pytest
from pydantic import BaseModel

from streamcore.errors import BadConfig
from streamcore.secrets import Secret, mask_url, references, resolve

PASSWORD = "correct-horse"


@pytest.fixture(autouse=True)
def variables(monkeypatch):
    monkeypatch.setenv("SC_PW", PASSWORD)
    monkeypatch.delenv("SC_NONE", raising=False)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("${env:SC_PW}", PASSWORD),
        ("${SC_PW}", PASSWORD),
        ("${SC_PW:other}", PASSWORD),
        ("${SC_NONE:a:b://c}", "a:b://c"),  # the text after the first colon
        ("${SC_NONE:}", ""),
        ("kafka://u:${env:SC_PW}@${SC_NONE:h}:1", f"kafka://u:{PASSWORD}@h:1"),
        ("no reference, $HOME and {x}", "no reference, $HOME and {x}"),
    ],
)
def test_references_resolve(text, result):
    assert resolve(text) == result


def test_a_password_in_a_url_may_hold_any_character(monkeypatch):
    monkeypatch.setenv("SC_PW", "p@ss/w:r?d%")
    monkeypatch.setenv("SC_URL", "kafka://u:a%40b@h:1?x=y")
    assert resolve("kafka://u:${env:SC_PW}@h:1") == "kafka://u:p%40ss%2Fw%3Ar%3Fd%25@h:1"
    assert resolve("${env:SC_URL}") == "kafka://u:a%40b@h:1?x=y"


def test_what_a_reference_gives_is_not_resolved_again(monkeypatch):
    monkeypatch.setenv("SC_LOOP", "${SC_LOOP}")
    assert resolve("${SC_LOOP}") == "${SC_LOOP}"


@pytest.mark.parametrize(
    ("content", "result"), [("pw\n", "pw"), ("pw\r\n", "pw"), ("pw\n\n", "pw\n"), ("", "")]
)
def test_a_file_loses_one_line_break_only(tmp_path, content, result):
    file = tmp_path / "pw"
    file.write_text(content, newline="")
    assert resolve(f"${{file:{file}}}") == result


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("${env:SC_NONE}", "SC_NONE is not set"),
        ("${SC_NONE}", "SC_NONE is not set"),
        ("${env:SC_NONE:hunter2}", "does not name an environment variable"),
        ("${bad-name:hunter2}", "does not name an environment variable"),
        ("${}", "does not name an environment variable"),
        ("${SC_NONE:hunter2", "not closed"),
        ("${SC_NONE:${SC_PW:hunter2}}", "not closed or nested"),
        ("${file:/no/such/file}", "No such file"),
        ("${file:/}", "can't be read"),
    ],
)
def test_bad_references_say_what_is_wrong_without_the_default(text, said):
    with pytest.raises(BadConfig, match=said) as caught:
        resolve(text)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"x" * 70_000])
def test_a_file_that_is_no_secret_is_refused_without_its_content(tmp_path, content):
    file = tmp_path / "pw"
    file.write_bytes(content)
    with pytest.raises(BadConfig, match="secret") as caught:
        resolve(f"${{file:{file}}}")
    assert "xxx" not in str(caught.value)


class Holder(BaseModel):
    secret: Secret


def test_no_way_of_printing_shows_a_secret():
    secret = Secret(PASSWORD)
    holder = Holder(secret=PASSWORD)
    shown = [
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret:>20}",
        f"{secret!r:>30}",
        "%s %r" % (secret, secret),  # noqa: UP031
        repr([secret]),
        repr(copy.deepcopy(secret)),
        repr(holder),
        str(holder.model_dump()),
        holder.model_dump_json(),
        "".join(traceback.format_exception(ValueError(secret))),
    ]
    assert not [text for text in shown if PASSWORD in text]
    assert str(secret) == "***"
    for dump in (json.dumps, orjson.dumps):
        with pytest.raises(TypeError):
            dump(secret)
    with pytest.raises(TypeError):
        "prefix" + secret


def test_a_secret_is_resolved_when_it_is_revealed(monkeypatch):
    secret = Holder(secret="${env:SC_PW}").secret
    monkeypatch.setenv("SC_PW", "rotated")
    assert secret.reveal() == "rotated"


def test_only_a_reference_without_a_default_may_be_shown():
    assert Secret("${env:X}").reference == "${env:X}"
    assert Secret("${X:hunter2}").reference is None
    assert Secret("a${env:X}").reference is None
    assert references("${X:hunter2} ${file:/a:b} ${env:Y}") == ["${X}", "${file:/a:b}", "${env:Y}"]


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("postgresql://u:p@h:5432/db", "postgresql://u:***@h:5432/db"),
        ("postgresql://u@h/db", "postgresql://u@h/db"),
        ("postgresql://u:p@ss/w:rd@h/db", "postgresql://u:***@h/db"),
        ("postgresql://u:${env:PG_PW}@h/db", "postgresql://u:${env:PG_PW}@h/db"),
        ("postgresql://${env:PG_USER}:p@h/db", "postgresql://${env:PG_USER}:***@h/db"),
        ("postgresql://u:${PW:hunter2}@h/db", "postgresql://u:***@h/db"),
        (
            "postgresql://h/db?user=u&password=p&sslmode=require",
            "postgresql://h/db?user=u&password=***&sslmode=require",
        ),
        ("host=h password='a b' user=u", "host=h password=*** user=u"),
        ("https://ghp_token@h/x", "https://***@h/x"),
        ("https://h:8443/a@b.csv", "https://h:8443/a@b.csv"),
        ("kafka://u:p@h1:1,h2:2", "kafka://u:***@h1:1,h2:2"),
        ("kafka://h1:1,h2:2", "kafka://h1:1,h2:2"),
        ("s3://b/p.csv?X-Amz-Signature=abc&x=1", "s3://b/p.csv?X-Amz-Signature=***&x=1"),
        ("data/*.csv", "data/*.csv"),
        ("embedded", "embedded"),
    ],
)
def test_urls_are_shown_without_passwords(url, masked):
    assert mask_url(url) == masked
