"""The summary says what came in, what went where, what was refused and what to do next."""

import io
import json

import pytest
from rich.console import Console

from streamcore.cli.summary import document, show
from streamcore.progress import Progress, Rejected, Summary

SUMMARY = Summary(
    "flights",
    "finished",
    Progress(
        rows_in=200_000,
        bytes_in=9_600_000,
        rows_out={"late": 39_877},
        rejected={Rejected("decode", "json"): 3, Rejected("flights/validate", "range"): 12},
        rules={"range delay": 12, "origin <> destination": 0},
        elapsed=2.0,
    ),
    outputs={"late": "out/late"},
    dead_letter_log="flights.dead-letters",
    group="flights",
)


def test_the_table_holds_every_number():
    console = Console(file=io.StringIO(), width=100, color_system=None)
    show(console, SUMMARY, ["streamcore dlq list flights"])
    lines = [line.split() for line in console.file.getvalue().splitlines()]
    assert lines == [
        ["flights", "finished", "in", "2.00", "s"],
        ["in", "rows", "200,000", "9.60", "MB,", "100", "k", "rows/s"],
        ["out", "late", "39,877", "out/late"],
        ["rejected", "flights/validate", "12", "range"],
        ["rejected", "decode", "3", "json"],
        ["rule", "range", "delay", "12", "rows", "broke", "it"],
        ["rule", "origin", "<>", "destination", "0", "held"],
        ["dead", "letters", "flights.dead-letters", "15"],
        ["next", "streamcore", "dlq", "list", "flights"],
    ]


def test_the_document_is_json_and_holds_the_same():
    shown = json.loads(json.dumps(document(SUMMARY, ["x"])))
    assert shown["status"] == "finished"
    assert (shown["rows_in"], shown["rows_out"], shown["seconds"]) == (200_000, {"late": 39_877}, 2.0)
    assert {"stage": "decode", "code": "json", "rows": 3} in shown["rejected"]
    assert shown["dead_letters"] == {"log": "flights.dead-letters", "rows": 15}
    assert shown["outputs"] == {"late": "out/late"}
    assert shown["next"] == ["x"]


@pytest.mark.parametrize("status", ["already finished", "interrupted"])
def test_an_empty_job_has_a_summary_too(status):
    console = Console(file=io.StringIO(), width=100, color_system=None)
    show(console, Summary("flights", status, Progress()), [])
    assert f"flights {status}" in console.file.getvalue()
