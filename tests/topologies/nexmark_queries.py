"""Nexmark's topologies, the events that ship with the repository, and the published answers to them."""

from __future__ import annotations

import importlib
import json

import polars as pl

import streamcore as sc
from tests.topologies.conftest import ROOT
from tests.topologies.nexmark_oracle import Answer

DATA = ROOT / "data" / "nexmark"
FILES = {"edge": DATA / "events-edge.jsonl", "100k": DATA / "events-100k.jsonl.zst"}
EDGE_LINES = FILES["edge"].read_bytes().splitlines()
STATELESS = ("q0", "q1", "q2", "q10", "q14", "q21", "q22")
WINDOWED = ("q11", "q15", "q16", "q17")
JOINED = ("q3", "q5", "q7", "q8", "q20")
UPDATING = {"q4": ("category",), "q9": ("id",), "q18": ("bidder", "auction"), "q19": ("auction", "rn")}
"""Queries whose answer is a table, and its key: they write each change of it."""
STATEFUL = (*WINDOWED, *JOINED, *UPDATING)
BUILT = (*STATELESS, *STATEFUL)


def final(query: str, columns: list[str], rows: list[tuple[object, ...]]) -> list[tuple[object, ...]]:
    """What *query* has answered when it wrote *rows*: where that is a table, as the last changes leave it."""
    if query not in UPDATING:
        return rows
    frame = pl.DataFrame(rows, schema=columns, orient="row", infer_schema_length=None)
    last = frame.sort("number").unique(UPDATING[query], keep="last")
    return last.filter(pl.col("op") == "upsert").drop("op", "number").rows()


def published(file: str) -> dict[str, Answer]:
    """The published answers to the events of *file*, by query."""
    figures = json.loads((DATA / f"expected-{file}.json").read_text())
    return {query: Answer(figure["rows"], figure["sum"]) for query, figure in figures.items()}


def topology_of(query: str) -> sc.Topology:
    """The topology of *query*, e.g. "q10"."""
    topology: sc.Topology = importlib.import_module(f"topologies.nexmark.{query}").topology
    return topology
