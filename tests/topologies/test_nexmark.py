"""Nexmark: our oracle gives the published answers, and so does each topology, however it is cut."""

import asyncio
import json
import time
from collections import Counter

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batch_adapters.catalogue import open_source
from streamcore.runtime.replay import ReplayOptions, replay
from streamcore.settings import Settings
from streamcore.testing import TopologyDriver
from tests.topologies.nexmark_oracle import answer, answers, checksum
from tests.topologies.nexmark_queries import (
    BUILT,
    EDGE_LINES,
    FILES,
    STATELESS,
    final,
    published,
    topology_of,
)
from topologies.nexmark.events import KINDS, NexmarkEvent


def rows_of(query, folder, columns):
    """The answer to *query* in *columns* of what a Parquet sink wrote; folder names stay texts."""
    with duckdb.connect() as connection:
        files = "read_parquet(?, hive_partitioning = true, hive_types_autocast = false)"
        text = f"select {', '.join(columns)} from {files}"
        return final(query, columns, connection.execute(text, [f"{folder}/**/*.parquet"]).fetchall())


@pytest.mark.parametrize("file", FILES)
def test_the_oracle_gives_the_published_answers(file):
    assert answers(FILES[file]) == published(file)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("query", BUILT)
def test_a_replay_gives_the_published_answer(query, file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    topology = topology_of(query)
    options = ReplayOptions(Settings.model_validate({"state": {"dir": tmp_path / "state"}}))
    sources = {"events": open_source(str(FILES[file]))}
    summary = asyncio.run(replay(topology, sources, options, lambda progress: None))
    ((sink, folder),) = summary.outputs.items()
    assert folder == f"out/nexmark/{query}"
    columns = topology.freeze().nodes[sink].columns.names()
    assert answer(rows_of(query, folder, columns)) == published(file)[query]
    assert not summary.progress.rejected


def test_each_bid_gets_what_the_side_input_says_of_its_auction():
    driver = TopologyDriver(topology_of("q13"))
    driver.push("events", list(EDGE_LINES))
    rows = driver.rows("parquet:out/nexmark/q13")
    bids = [event for line in EDGE_LINES if (event := json.loads(line))["event"] == "bid"]
    assert [row["auction"] for row in rows] == [bid["auction"] for bid in bids]
    assert all(row["value"] == str(row["auction"] % 10_000) for row in rows)


def test_each_bid_counts_in_the_ten_seconds_of_the_clock_in_which_it_came():
    driver = TopologyDriver(topology_of("q12"), now=1_800_000_003.0, partitions=2)
    came = Counter()
    for number, line in enumerate(EDGE_LINES):
        driver.push("events", [line], partition=number % 2)
        event = json.loads(line)
        if event["event"] == "bid":
            came[event["bidder"], int(driver.now) // 10 * 10] += 1
        driver.advance(0.7)
        if number == 40:
            driver.crash()
    driver.advance(10)
    rows = driver.rows("parquet:out/nexmark/q12")
    found = {(row["bidder"], int(row["window_start"].timestamp())): row["bids"] for row in rows}
    assert found == came
    assert len(found) == len(rows)


def test_a_replay_of_q12_counts_each_bid_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ReplayOptions(Settings.model_validate({"state": {"dir": tmp_path / "state"}}))
    sources = {"events": open_source(str(FILES["100k"]))}
    began = time.time()
    asyncio.run(replay(topology_of("q12"), sources, options, lambda progress: None))
    with duckdb.connect() as connection:
        found = connection.execute(
            "select sum(bids), count(*) = count(distinct (bidder, window_start)),"
            " bool_and(epoch(window_end - window_start) = 10 and epoch(window_start) % 10 = 0),"
            " min(epoch(window_end)) > ? and max(epoch(window_start)) <= ?"
            " from read_parquet('out/nexmark/q12/**/*.parquet')",
            [began, time.time()],
        ).fetchone()
    assert found == (published("100k")["q0"].rows, True, True, True)


def test_the_command_line_replays_a_query(project):
    events = "events=data/nexmark/events-edge.jsonl"
    summary = project.document("replay", "topologies.nexmark.q10", "--from", events)
    assert (summary["rows_in"], summary["rows_out"]) == (73, {"parquet:out/nexmark/q10": 64})
    folders = {path.parent.name for path in project.folder.glob("out/nexmark/q10/day=*/*/*.parquet")}
    assert {"minute=00%3A00", "minute=06%3A59", "minute=23%3A59"} <= folders


def test_all_topologies_of_the_folder_are_listed_without_a_mistake(project):
    listed = project.document("topologies", "list", "topologies/nexmark")
    assert {row["topology"] for row in listed} == {f"nexmark-{query}" for query in (*BUILT, "q12", "q13")}
    assert not [row["error"] for row in listed if row["error"]]


@pytest.mark.parametrize("query", BUILT)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    cuts=st.lists(
        st.tuples(
            st.integers(0, len(EDGE_LINES)),
            st.sampled_from([TopologyDriver.CUT, TopologyDriver.CONFIRM, TopologyDriver.CRASH]),
        ),
        max_size=12,
    )
)
def test_another_cut_changes_nothing(query, cuts):
    events = list(EDGE_LINES)
    for place, marker in sorted(cuts, key=lambda cut: -cut[0]):
        events.insert(place, marker)
    driver = TopologyDriver(topology_of(query))
    driver.push("events", events)
    driver.end()
    frame = driver.frame(*driver.graph.sinks)
    assert answer(final(query, frame.columns, frame.rows())) == published("edge")[query]
    assert not driver.dead_letters


ODD_BIDS = st.fixed_dictionaries(
    {
        "event": st.sampled_from(["bid", "bid", "bid", "auction"]),
        "auction": st.integers(0, 500),
        "bidder": st.integers(0, 5),
        # the bounds of q14 lie after 1,101,321 and 55,066,079
        "price": st.integers(0, 10**12) | st.integers(1101320, 1101323) | st.integers(55066078, 55066081),
        "channel": st.sampled_from(["Apple", "GOOGLE", "facebook", "baidu", "channel-1", "apple ", ""]),
        "url": st.lists(st.sampled_from(["&", "channel_id=", "/", "?", "5", "é"])).map("".join),
        "date_time": st.integers(0, 253_402_300_799_999),
        "extra": st.text("abcCé "),
    }
)


@settings(max_examples=25, deadline=None)
@given(events=st.lists(ODD_BIDS, min_size=1, max_size=25))
def test_odd_bids_are_answered_as_the_oracle_answers_them(events, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "odd.jsonl"
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    expected = answers(path, STATELESS)
    for query in STATELESS:
        driver = TopologyDriver(topology_of(query))
        driver.push("events", events)
        assert (query, answer(driver.frame(*driver.graph.sinks).rows())) == (query, expected[query])


def test_the_checksum_knows_how_often_a_row_is_there_but_not_their_order():
    rows = [(1, "a"), (2, None), (2, None)]
    assert checksum(rows) == checksum(rows[::-1])
    assert len({checksum(some) for some in ([], rows, rows[:2], rows[1:], [(1, "a"), (2, ""), (2, "")])}) == 5


def test_every_column_of_the_model_belongs_to_a_kind():
    assert {"event", *(column for columns in KINDS.values() for column in columns)} == set(
        NexmarkEvent.model_fields
    )


@pytest.mark.parametrize(
    "event",
    [
        {"event": "offer", "auction": 1, "price": 1, "date_time": 0},
        {"event": "bid", "auction": 1, "price": 1},
        {"event": "bid", "auction": 1, "price": 1, "date_time": -1},
        {"event": "bid", "auction": 1, "price": 1, "date_time": 2**62},
        {"event": "bid", "auction": "one", "price": 1, "date_time": 0},
    ],
    ids=["unknown kind", "no time", "time before 1970", "time no calendar has", "auction is no number"],
)
def test_what_is_no_event_is_a_dead_letter_and_stops_nothing(event):
    driver = TopologyDriver(topology_of("q10"))
    driver.push("events", [event, {**event, "event": "bid", "auction": 1, "date_time": 0}])
    (sink,) = driver.graph.sinks
    assert [(row["day"], row["minute"]) for row in driver.rows(sink)] == [("1970-01-01", "00:00")]
    assert len(driver.dead_letters) == 1
