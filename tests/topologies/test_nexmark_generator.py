"""The generator of Nexmark events: the same seed gives the same bytes, in the reference's proportions."""

import hashlib

import orjson
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.testing import TopologyDriver
from tests.topologies.nexmark_oracle import QUERIES, answer, answers
from tests.topologies.nexmark_queries import BUILT, EDGE_LINES, final, topology_of
from topologies.nexmark import generator
from topologies.nexmark.events import KINDS, NexmarkEvent
from topologies.nexmark.generator import START, events, json_lines, main

MANY = 200_000


@pytest.fixture(scope="module")
def many():
    """Enough events for shares to be within half a percent."""
    return events(MANY, seed=7, events_a_second=1000)


@pytest.fixture(scope="module")
def oracle(tmp_path_factory):
    """The oracle's answers to 20,000 events, 200 seconds of them, that the command wrote."""
    path = tmp_path_factory.mktemp("nexmark") / "events.jsonl.zst"
    main(["--events", "20000", "--seed", "5", "--events-a-second", "100", str(path)])
    return answers(path)


@settings(max_examples=30, deadline=None)
@given(
    first=st.integers(0, 10**12),
    count=st.integers(0, 300),
    seed=st.integers(0, 2**64 - 1),
    data=st.data(),
)
def test_an_event_depends_on_its_number_and_the_seed_only(first, count, seed, data):
    whole = events(count, seed, first=first)
    start = data.draw(st.integers(0, count))
    end = data.draw(st.integers(start, count))
    assert whole[start:end].equals(events(end - start, seed, first=first + start))


def test_a_seed_gives_the_same_bytes_for_good():
    lines = json_lines(events(1000, seed=1))
    assert (
        hashlib.sha256(lines).hexdigest()
        == "ea09ac384a381fd707cd737bfb91930f00f83477227b393fcbf00153a3074508"
    )


def test_another_seed_gives_other_events_at_the_same_times():
    one, two = events(1000, seed=1), events(1000, seed=2)
    assert one.select("event", "id", "date_time").equals(two.select("event", "id", "date_time"))
    same = {
        name: (one[name] == two[name]).mean() for name in ("url", "extra", "price", "credit_card", "expires")
    }
    assert all(share < 0.02 for share in same.values()), same


def test_of_fifty_events_one_is_a_person_and_three_are_auctions(many):
    kinds = many["event"].to_list()
    assert kinds == (["person"] + ["auction"] * 3 + ["bid"] * 46) * (MANY // 50)


def test_ids_count_up_and_time_runs_evenly(many):
    people, auctions = (
        many.filter(pl.col("event") == kind)["id"].to_list() for kind in ("person", "auction")
    )
    assert people == list(range(1000, 1000 + MANY // 50))
    assert auctions == list(range(1000, 1000 + MANY * 3 // 50))
    assert many["date_time"].to_list() == list(range(START, START + MANY))
    assert events(3, 1, start=5, events_a_second=2)["date_time"].to_list() == [5, 505, 1005]


def test_shares_are_those_of_the_reference(many):
    place = pl.int_range(pl.len())
    newest = {"person": place // 50, "auction": place // 50 * 3 + 2}  # when a bid happens
    hot = {kind: 1000 + number // 100 * 100 for kind, number in newest.items()}
    bids = pl.col("event") == "bid"
    shares = many.with_columns(hot_auction=hot["auction"], hot_person=hot["person"]).select(
        hot_auctions=(pl.col("auction") == pl.col("hot_auction")).filter(bids).mean(),
        hot_bidders=(pl.col("bidder") == pl.col("hot_person") + 1).filter(bids).mean(),
        hot_sellers=(pl.col("seller") == pl.col("hot_person")).filter(pl.col("event") == "auction").mean(),
        hot_channels=pl.col("channel").is_in(["Apple", "Baidu", "Facebook", "Google"]).filter(bids).mean(),
        told=pl.col("url").str.contains("&channel_id=").filter(bids).mean(),
        cheap=(pl.col("price") < 10_000).filter(bids).mean(),
        dear=(pl.col("price") >= 1_000_000).filter(bids).mean(),
    )
    expected = {
        "hot_auctions": 0.5 + 0.5 / 111 * 0.9,  # a cold one may be the hot one by chance
        "hot_bidders": 0.75,
        "hot_sellers": 0.75,
        "hot_channels": 0.5,
        "told": 0.45,
        "cheap": 1 / 3,
        "dear": 1 / 3,
    }
    assert shares.to_dicts()[0] == pytest.approx(expected, abs=0.012)


def test_bids_and_auctions_name_what_is_near(many):
    place = pl.int_range(pl.len())
    person, auction = 1000 + place // 50, 1000 + place // 50 * 3 + 2
    offsets = many.select(
        auction=pl.when(pl.col("auction") % 100 != 0).then(pl.col("auction") - auction),
        bidder=pl.when(pl.col("bidder") % 100 != 1).then(pl.col("bidder") - person),
        seller=pl.when(pl.col("seller") % 100 != 0).then(pl.col("seller") - person),
    )[MANY // 2 :]
    reach = {name: (offsets[name].min(), offsets[name].max()) for name in offsets.columns}
    assert reach == {"auction": (-100, 10), "bidder": (-999, 10), "seller": (-999, 10)}


def test_sizes_are_those_of_the_reference(many):
    sizes = {
        kind: many.filter(pl.col("event") == kind)["extra"].str.len_bytes() for kind in ("auction", "bid")
    }
    assert (sizes["bid"].min(), sizes["bid"].max()) == (54, 81)
    assert sizes["bid"].mean() == pytest.approx(67.5, abs=0.1)
    assert sizes["auction"].mean() == pytest.approx(500 - 100 - 20 - 7 * 8, abs=2)
    horizon = (many["expires"] - many["date_time"]).drop_nulls()
    assert horizon.min() >= 1
    assert horizon.max() <= 2 * 1666
    assert horizon.mean() == pytest.approx(1666, rel=0.02)


def test_a_document_has_the_fields_of_its_kind_in_their_order_as_those_in_data_have():
    made = [orjson.loads(line) for line in json_lines(events(100, seed=1)).splitlines()]
    assert {tuple(document) for document in made} == {("event", *columns) for columns in KINDS.values()}
    assert {tuple(orjson.loads(line)) for line in EDGE_LINES} == {tuple(document) for document in made}


def test_every_event_passes_the_model():
    lines = json_lines(events(3000, seed=2)).splitlines()
    assert len(lines) == 3000
    for line in lines:
        event = orjson.loads(line)
        assert NexmarkEvent.model_validate(event).model_dump(include=event.keys()) == event
    driver = TopologyDriver(topology_of("q0"))
    driver.push("events", lines)
    assert not driver.dead_letters
    assert driver.frame(*driver.graph.sinks).height == 3000 * 46 // 50


def test_every_query_has_an_answer(oracle):
    assert oracle.keys() == QUERIES.keys()
    assert not [query for query, (rows, _) in oracle.items() if not rows]


@pytest.mark.parametrize("query", BUILT)
def test_topologies_give_the_oracles_answers_to_generated_events(query, oracle):
    driver = TopologyDriver(topology_of(query))
    frame = events(20_000, seed=5, events_a_second=100)
    for start in range(0, frame.height, 7001):
        driver.push("events", frame[start : start + 7001])
    driver.end()
    found = driver.frame(*driver.graph.sinks)
    assert answer(final(query, found.columns, found.rows())) == oracle[query]


@pytest.mark.parametrize("suffix", generator.SUFFIXES)
def test_a_file_has_the_same_events_in_whatever_blocks_it_is_written(suffix, tmp_path, monkeypatch):
    monkeypatch.setattr(generator, "BLOCK", 70)
    main(["--events", "1000", "--seed", "1", str(tmp_path / f"some{suffix}")])
    read = pl.read_parquet if suffix == ".parquet" else pl.read_ndjson
    some = read(tmp_path / f"some{suffix}")
    assert some.select(NexmarkEvent.model_fields.keys()).equals(events(1000, seed=1))
    main(["--events", "1000", "--seed", "1", str(tmp_path / f"same{suffix}")])
    assert (tmp_path / f"same{suffix}").read_bytes() == (tmp_path / f"some{suffix}").read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


def test_no_event_is_an_empty_file(tmp_path):
    main(["--events", "0", "--seed", "1", str(tmp_path / "none.jsonl")])
    assert (tmp_path / "none.jsonl").read_bytes() == b""
    assert events(0, seed=1).columns == list(NexmarkEvent.model_fields)
    assert json_lines(events(0, seed=1)) == b""


@pytest.mark.parametrize(
    "arguments",
    [("--events", "5", "--seed", "1", "events.csv"), ("--events", "-5", "--seed", "1", "events.jsonl")],
)
def test_what_cannot_be_written_is_refused(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main([*arguments])
    assert "error" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
