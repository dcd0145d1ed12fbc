"""Dead letters from the command line: times, filters, records as text."""

import datetime as dt
import io
import json
import time

import click
import polars as pl
import pytest

from streamcore.batch import PartitionId
from streamcore.cli.app import run
from streamcore.cli.dlq import Moment, _original
from streamcore.deadletter.record import DeadLetter


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-31", dt.datetime(2026, 1, 31, tzinfo=dt.timezone.utc)),
        ("2026-01-31T12:00:00Z", dt.datetime(2026, 1, 31, 12, tzinfo=dt.timezone.utc)),
        ("2026-01-31T12:00:00+02:00", dt.datetime(2026, 1, 31, 10, tzinfo=dt.timezone.utc)),
    ],
)
def test_times_are_utc_unless_they_say_otherwise(text, moment):
    assert Moment().convert(text, None, None) == moment.timestamp()


def test_a_duration_is_so_long_ago(monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 100_000.0)
    ago = {text: 100_000 - Moment().convert(text, None, None) for text in ("30s", "5m", "2h", "1d")}
    assert ago == {"30s": 30, "5m": 300, "2h": 7200, "1d": 86_400}


@pytest.mark.parametrize("text", ["soon", "2026-13-01", "5y", "-1h"])
def test_other_texts_are_no_times(text):
    with pytest.raises(click.BadParameter, match="is no time"):
        Moment().convert(text, None, None)


def letter(value, encoding="bytes"):
    source = PartitionId("t", 0, "id")
    said = ("decode", "json", "m", encoding, 1, 0.0, None)
    return DeadLetter("i", "s", source, 1, 0, *said, value, b"", None, 0, 0)


def arrow(row):
    out = io.BytesIO()
    pl.DataFrame([row]).write_ipc_stream(out)
    return out.getvalue()


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (letter('{"ü":1}'.encode()), '{"ü":1}'),
        (letter(b"\xff\x00"), "ff 00"),
        (letter(b"\x1b[2J"), "1b 5b 32 4a"),  # a record can't command the terminal
        (letter(None), "(tombstone: a record without a value)"),
        (letter(b""), ""),
        (letter(b"x" * 5000), "x" * 4096 + "\n… 904 bytes more"),
        (letter(("x" * 4095 + "ü").encode()), "x" * 4095 + "\ufffd\n… 1 bytes more"),
        (letter(arrow({"a": 1}), "arrow"), '{"a":1}'),
    ],
)
def test_the_record_is_shown_as_text(found, text):
    assert _original(found) == text


def test_a_topology_that_never_ran_here_is_told(tmp_path, capsys):
    assert run(["dlq", "list", "nothing", "--state-dir", str(tmp_path)]) == 2
    assert "topology 'nothing' never ran here" in capsys.readouterr().err


def test_modules_that_cannot_be_loaded_are_listed_with_their_error(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "topologies"
    folder.mkdir()
    (folder / "broken.py").write_text("import streamcore as sc\nt = sc.Topology('bad name')\n")
    (folder / "empty.py").write_text("")
    assert run(["topologies", "list", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["module"] == "topologies/broken.py"
    assert "broken.py:2" in row["error"]
    assert run(["topologies", "list"]) == 0
    assert "broken.py" in capsys.readouterr().out
    assert run(["topologies", "list", "elsewhere"]) == 2
