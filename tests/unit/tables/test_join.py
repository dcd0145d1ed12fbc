"""What can't be joined is said when the topology is loaded."""

from __future__ import annotations

import polars as pl
import pytest

import streamcore as sc
from streamcore.contracts import SinkAbilities
from streamcore.errors import BadConfig
from streamcore.graph import Graph
from streamcore.testing import TopologyDriver
from tests.unit.topology.collecting import Collect


class Upserting(Collect):
    abilities = SinkAbilities(append=False, upsert=True, delete=True)


LEFT = {"id": "int64", "at": "int64", "name": "string", "f": "float64"}
RIGHT = {"of": "int64", "seen": "int64", "word": "string"}


def streams() -> tuple[sc.Topology, sc.Stream, sc.Stream]:
    topology = sc.Topology("t")
    left = topology.stream("left", LEFT, event_time="at")
    return topology, left, topology.stream("right", RIGHT, event_time="seen")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"on": {"idd": "of"}}, "did you mean 'id'"),
        ({"on": {"id": "off"}}, "did you mean 'of'"),
        ({"on": {}}, "needs columns that must be equal"),
        ({"on": {"id": "word"}}, "can't be compared"),
        ({"on": {"f": "word"}}, "can't be compared"),
        ({"on": {"id": "of"}, "within": ("5s", "1s")}, "ends before it begins"),
        ({"on": {"id": "of"}, "within": "soon"}, "no duration"),
        ({"on": {"id": "of"}, "where": "seen > att"}, "att"),
        ({"on": {"id": "of"}, "how": "left"}, "needs within"),
        ({"on": {"id": "of"}, "how": "full"}, "a full join of two streams needs within"),
        ({"on": {"id": "of"}, "how": "outer", "within": "1s"}, "no such join, got 'outer'"),
        ({"on": {"id": "of"}, "how": "full", "as_of": "1s"}, "no full join of rows as of a time"),
        ({"on": {"id": "of"}, "window": sc.session("1s")}, "joined in sessions"),
        ({"on": {"id": "of"}, "window": sc.tumbling("1s"), "within": "1s"}, "within does not go with window"),
        ({"on": {"id": "of"}, "window": sc.tumbling("0.5ms")}, "whole milliseconds"),
        ({"on": {"id": "of"}, "as_of": "1h", "within": "1h"}, "within does not go with as_of"),
        ({"on": {"id": "of"}, "as_of": "1h", "where": "seen > at"}, "where does not go with as_of"),
        ({"on": {"id": "of"}, "as_of": "-1s"}, "can't lie behind"),
        ({"on": {"id": "of"}, "as_of": "soon"}, "no duration"),
        ({"on": {"id": "off"}, "as_of": True}, "did you mean 'of'"),
    ],
)
def test_joins_that_are_none_are_refused_with_the_line(given, says):
    _, left, right = streams()
    with pytest.raises(BadConfig, match=says) as refused:
        left.join(right, **given)
    assert __file__ in str(refused.value.where)


def test_both_sides_must_not_have_a_column_of_the_same_name():
    _, left, right = streams()
    with pytest.raises(BadConfig, match=r"both sides.*'name'"):
        left.join(right.rename({"word": "name"}), on={"id": "of"})
    left.join(right.rename({"of": "id"}), on="id")


@pytest.mark.parametrize("name", ["_hash", "_n", "_side", "_key0", "right:_n"])
def test_names_that_the_join_needs_are_refused(name):
    _, left, right = streams()
    with pytest.raises(BadConfig, match="needs this column's name"):
        left.join(right.rename({"word": name}), on={"id": "of"})


def test_a_join_within_a_time_needs_times_on_both_sides():
    topology, left, right = streams()
    timeless = topology.stream("timeless", {"of": "int64"})
    with pytest.raises(BadConfig, match="the right of a join within a time has no event time"):
        left.join(timeless, on={"id": "of"}, within="1s")
    with pytest.raises(BadConfig, match="the left of a join within a time has no event time"):
        left.drop("at").join(right, on={"id": "of"}, within="1s")
    renamed = right.rename({"seen": "then"})
    assert renamed.node.source.event_time == "then"
    left.join(renamed, on={"id": "of"}, within="1s")


def test_an_as_of_join_needs_times_on_both_sides_and_no_table():
    topology, left, right = streams()
    timeless = topology.stream("timeless", {"of": "int64"})
    with pytest.raises(BadConfig, match="the right of a join within a time has no event time"):
        left.join(timeless, on={"id": "of"}, as_of=True)
    table = right.by("of").aggregate(n="count(*)")
    with pytest.raises(
        BadConfig, match=r"as_of does not go with a table.*the stream that the table is made of"
    ):
        left.join(table, on={"id": "of"}, as_of="1h")


def test_a_table_has_no_full_join_with_a_stream():
    _, left, right = streams()
    table = right.by("of").aggregate(n="count(*)")
    with pytest.raises(BadConfig, match="no full join of a stream with a table"):
        left.join(table, on={"id": "of"}, how="full")
    with pytest.raises(BadConfig, match="window does not go with a table"):
        left.join(table, on={"id": "of"}, window=sc.tumbling("1s"))


def test_the_rows_of_a_full_join_have_a_key_and_no_order_in_time():
    topology, left, right = streams()
    short = topology.stream("short", {"id": "int32", "seen": "int64"}, event_time="seen")
    whole = left.join(short, on="id", within="1s", how="full")
    assert dict(whole.columns)["id"] == pl.Int64
    other = short.join(left.rename({"id": "of"}), on={"id": "of"}, within="1s", how="full")
    assert other.columns["id"] == pl.Int32
    other.to(Collect("other"))
    right.to(Collect("rest"))
    with pytest.raises(BadConfig, match="has no event time"):
        whole.window(sc.tumbling("1s")).aggregate(n="count(*)")
    whole.to(Collect("out"))
    driver = TopologyDriver(topology)
    driver.push(
        "left",
        [{"id": 1 << 40, "at": 1_000, "name": "a", "f": 0.5}, {"id": 1, "at": 1_000, "name": "b", "f": 1.5}],
    )
    driver.push("short", [{"id": 1, "seen": 500}, {"id": 2, "seen": 700}, {"id": None, "seen": 800}])
    driver.end()
    found = [(row["id"], row["at"], row["seen"]) for row in driver.rows("out")]
    assert found[0] == (1, 1_000, 500)
    assert sorted(found[1:], key=repr) == sorted(
        [(1 << 40, 1_000, None), (2, None, 700), (None, None, 800)], key=repr
    )


def test_a_right_join_is_the_left_one_with_its_sides_changed():
    topology, left, right = streams()
    late = left.join(right, on={"id": "of"}, within=("0s", "5s"), where="f > 1", how="right")
    assert late.node.source.event_time == "seen"
    late.to(Collect("out"))
    driver = TopologyDriver(topology)
    driver.push(
        "left", [{"id": 1, "at": 1_000, "name": "a", "f": 1.5}, {"id": 2, "at": 1_000, "name": "b", "f": 0.5}]
    )
    driver.push("right", [{"of": 1, "seen": 6_000, "word": "in"}, {"of": 1, "seen": 6_001, "word": "out"}])
    driver.push("right", [{"of": 2, "seen": 6_002, "word": "where"}])
    driver.end()
    assert [(row["name"], row["word"]) for row in driver.rows("out")] == [
        ("a", "in"),
        (None, "out"),
        (None, "where"),
    ]


@pytest.mark.parametrize("how", ["inner", "left", "right", "full"])
@pytest.mark.parametrize("kind", [sc.tumbling("10s"), sc.hopping("10s", every="4s", offset="1s")])
def test_rows_of_the_same_window_meet_once_for_each_window(kind, how):
    topology, left, right = streams()
    left.join(right, on={"id": "of"}, window=kind, how=how).to(Collect("out"))
    driver = TopologyDriver(topology)
    lefts, rights = (
        [(1, 500), (1, 9_500), (2, 9_900), (2, 20_000)],
        [(1, 10_500), (1, 9_000), (2, 12_000), (3, 9_000)],
    )
    driver.push("left", [{"id": id, "at": at, "name": "a", "f": 0.0} for id, at in lefts[:3]])
    rows = [{"of": of, "seen": seen, "word": "w"} for of, seen in rights]
    driver.push("right", [{"of": 1, "seen": None, "word": "w"}, rows[1], rows[3], driver.CONFIRM, rows[0]])
    driver.push("right", [driver.CRASH, rows[2]])
    driver.push("left", [{"id": id, "at": at, "name": "a", "f": 0.0} for id, at in lefts[3:]])
    driver.end()
    every, first = kind.every // 1_000, kind.offset // 1_000
    expected = []
    for start in range(first - 5 * every, 30_000, every):
        mine = [row for row in lefts if start <= row[1] < start + 10_000]
        theirs = [row for row in rights if start <= row[1] < start + 10_000]
        expected += [(start, *a, *b) for a in mine for b in theirs if a[0] == b[0]]
        if how in ("left", "full"):
            expected += [(start, *a, None, None) for a in mine if a[0] not in {b[0] for b in theirs}]
        if how in ("right", "full"):
            expected += [(start, None, None, *b) for b in theirs if b[0] not in {a[0] for a in mine}]
    found = [
        tuple(row[name] for name in ("window_start", "id", "at", "of", "seen")) for row in driver.rows("out")
    ]
    assert sorted(found, key=repr) == sorted(expected, key=repr)
    assert [refused.code for refused in driver.dead_letters] == ["no_time"]


@pytest.mark.parametrize("how", ["inner", "left"])
def test_each_row_gets_the_newest_one_at_its_time_whichever_comes_first(how):
    topology, left, right = streams()
    seen = left.join(right, on={"id": "of"}, as_of="10s", how=how)
    seen.to(Collect("out"))
    seen.window(sc.tumbling("10s")).aggregate(n="count(*)", words="count(word)").to(Collect("windows"))
    driver = TopologyDriver(topology)
    driver.push("left", [{"id": 1, "at": at, "name": "a", "f": 0.0} for at in (1_000, 5_000, 16_000)])
    driver.push("left", [{"id": None, "at": 16_500, "name": "a", "f": 0.0}])
    assert driver.rows("out") == []
    right_rows = [{"of": 1, "seen": seen, "word": str(seen)} for seen in (2_000, 4_000, 6_000, 17_000)]
    driver.push("right", [*right_rows[:2], driver.CONFIRM, driver.CRASH, *right_rows[2:]])
    driver.push("left", [{"id": 2, "at": 30_000, "name": "a", "f": 0.0}])
    driver.push("right", [driver.CUT, {"of": 9, "seen": 40_000, "word": "-"}])
    driver.end()
    found = [(row["id"], row["at"], row["word"]) for row in driver.rows("out")]
    alone = [(1, 1_000, None), (None, 16_500, None), (2, 30_000, None)]
    pairs = [(1, 5_000, "4000"), (1, 16_000, "6000")]
    assert found == sorted([*pairs, *(alone if how == "left" else [])], key=lambda row: row[1])
    windows = {row["window_start"]: (row["n"], row["words"]) for row in driver.rows("windows")}
    assert windows == (
        {0: (2, 1), 10_000: (2, 1), 30_000: (1, 0)} if how == "left" else {0: (1, 1), 10_000: (1, 1)}
    )


def test_a_table_is_joined_by_its_key_and_with_a_table_when_it_is_on_the_left():
    _, left, right = streams()
    table = right.by("of").aggregate(n="count(*)")
    with pytest.raises(BadConfig, match="joined by its key"):
        left.join(table, on={"id": "n"})
    with pytest.raises(BadConfig, match="on the left of a join needs one on the right"):
        table.join(left, on={"of": "id"})
    with pytest.raises(BadConfig, match="two streams"):
        left.join(table, on={"id": "of"}, within="1s")


def test_two_tables_are_joined_by_a_key():
    _, left, right = streams()
    a, b = left.by("id").aggregate(n="count(*)"), right.by("of").aggregate(m="count(*)")
    with pytest.raises(BadConfig, match="by the key of that one, got 'm', allowed: of"):
        a.join(b, on={"id": "m"})
    for given in ({"within": "1s"}, {"as_of": True}, {"where": "n > m"}, {"window": sc.tumbling("1s")}):
        with pytest.raises(BadConfig, match="does not go with two tables"):
            a.join(b, on={"id": "of"}, **given)
    assert a.join(b, on={"id": "of"}, how="right").node.source.key == ("of",)


@pytest.mark.parametrize("how", ["inner", "left", "full"])
def test_a_join_of_two_tables_is_a_table(how):
    topology, left, right = streams()
    a = left.by("id").aggregate(total="sum(f)").filter("total < 10")
    b = right.by("of").top(1, order="seen desc")
    both = a.join(b, on={"id": "of"}, how=how)
    both.to(Upserting("out"))
    both.by("word").aggregate(n="count(*)").to(Upserting("words"))
    driver = TopologyDriver(topology)
    rows = [{"id": id, "at": 0, "name": "", "f": f} for id, f in ((1, 3.0), (2, 4.0), (1, 5.0), (2, 6.0))]
    driver.push("left", [*rows[:2], driver.CONFIRM, rows[2]])
    driver.push("right", [{"of": of, "seen": 1, "word": word} for of, word in ((1, "a"), (2, "b"), (3, "c"))])
    driver.push("right", [driver.CRASH, {"of": 1, "seen": 2, "word": "d"}])
    driver.push("left", rows[3:])  # it no longer passes the filter
    found = {row["id"]: (row["total"], row["of"], row["word"]) for row in driver.rows("out")}
    alone = {2: (None, 2, "b"), 3: (None, 3, "c")}
    assert found == {1: (8.0, 1, "d"), **(alone if how == "full" else {})}
    words = {row["word"]: row["n"] for row in driver.rows("words")}
    assert words == ({"d": 1, "b": 1, "c": 1} if how == "full" else {"d": 1})


def test_streams_of_two_topologies_do_not_meet():
    _, left, _ = streams()
    _, _, right = streams()
    with pytest.raises(BadConfig, match="same topology"):
        left.join(right, on={"id": "of"})


@pytest.mark.parametrize("what", ["window", "union", "branch", "late", "map", "validate", "first"])
def test_what_counts_on_rows_that_are_only_added_can_not_follow_a_table(what):
    _, _, right = streams()
    table = right.by("of").aggregate(n="count(*)")
    steps = {
        "window": lambda: table.window(sc.tumbling("1s")),
        "union": lambda: table.union(table),
        "branch": lambda: table.branch(a="n > 1"),
        "late": table.late,
        "map": lambda: table.map(dict),
        "validate": lambda: table.validate(sc.rules.not_null("n")),
        "first": lambda: table.by("n").first(),
    }
    with pytest.raises(BadConfig, match="can't follow a table"):
        steps[what]()


def test_the_key_of_a_table_stays_up_to_its_sink():
    _, _, right = streams()
    table = right.by("of", "word").aggregate(n="count(*)")
    with pytest.raises(BadConfig, match="key must stay"):
        table.select("n", "of")
    with pytest.raises(BadConfig, match="key of a table"):
        table.add_column("of", "1")
    assert table.rename({"of": "to"}).drop("n").node.source.key == ("to", "word")


def test_a_sink_that_can_not_update_refuses_a_table():
    _, _, right = streams()
    table = right.by("of").aggregate(n="count(*)")
    with pytest.raises(BadConfig, match="can only append"):
        table.to(Collect("out"))
    with pytest.raises(BadConfig, match="another key"):
        table.to(sc.sinks.Topic("out", key="n"))
    table.to(sc.sinks.Topic("out"))
    table.changelog().to(Collect("out"))


def test_changelog_needs_a_table_and_free_names():
    _, left, right = streams()
    with pytest.raises(BadConfig, match="follows a table"):
        left.changelog()
    with pytest.raises(BadConfig, match="is there already"):
        right.by("of").aggregate(op="count(*)").changelog()


def test_a_row_that_no_longer_passes_a_filter_leaves_the_table():
    topology = sc.Topology("t")
    right = topology.stream("right", RIGHT)
    right.by("of").aggregate(n="count(*)").filter("n < 2").rename({"n": "times"}).to(Upserting("few"))
    driver = TopologyDriver(topology)
    driver.push("right", [{"of": 1, "seen": 0, "word": "a"}, {"of": 2, "seen": 0, "word": "a"}])
    assert [row["of"] for row in driver.rows("few")] == [1, 2]
    driver.push("right", [{"of": 1, "seen": 0, "word": "a"}])
    assert driver.rows("few") == [{"of": 2, "times": 1}]


def test_the_first_row_of_a_key_passes_again_after_a_while():
    topology = sc.Topology("t")
    right = topology.stream("right", RIGHT, event_time="seen", max_lateness="1d")
    right.by("of").first(within="10s").to(Collect("out"))
    driver = TopologyDriver(topology)
    times = [0, 5_000, 10_001, 12_000]
    driver.push("right", [{"of": 1, "seen": at, "word": "a"} for at in times])
    assert [row["seen"] for row in driver.rows("out")] == [0, 10_001]


AIRPORTS = pl.DataFrame({"code": [1, 2, None], "city": ["Oslo", None, "nowhere"]})


@pytest.mark.parametrize(
    ("how", "rows"), [("left", [(1, "Oslo"), (3, None), (2, None)]), ("inner", [(1, "Oslo"), (2, None)])]
)
def test_a_lookup_adds_the_columns_of_a_reference(how, rows):
    topology = sc.Topology("t")
    topology.stream("right", RIGHT).lookup(AIRPORTS, on={"of": "code"}, how=how).to(Collect("out"))
    driver = TopologyDriver(topology)
    driver.push("right", [{"of": of, "seen": 0, "word": "a"} for of in (1, 3, 2)])
    assert [(row["of"], row["city"]) for row in driver.rows("out")] == rows


def test_a_reference_has_one_row_a_key_and_columns_of_its_own():
    _, left, right = streams()
    with pytest.raises(BadConfig, match=r"several rows of a key.*code=1"):
        right.lookup(pl.concat([AIRPORTS, AIRPORTS]), on={"of": "code"})
    with pytest.raises(BadConfig, match="did you mean 'code'"):
        right.lookup(AIRPORTS, on={"of": "cod"})
    with pytest.raises(BadConfig, match="both sides"):
        left.lookup(AIRPORTS.rename({"city": "name"}), on={"id": "code"})


def test_an_order_without_a_payment_comes_out_when_its_time_is_over():
    topology = sc.Topology("t")
    left = topology.stream("left", {"id": "int64", "at": "int64"}, event_time="at")
    right = topology.stream("right", RIGHT, event_time="seen")
    left.join(right, on={"id": "of"}, within=("0s", "10s"), how="left").to(Collect("out"))
    driver = TopologyDriver(topology)
    driver.push("left", [{"id": 1, "at": 0}, {"id": 2, "at": 1_000}, {"id": 3, "at": 9_000}])
    driver.push("right", [{"of": 2, "seen": 3_000, "word": "paid"}])
    assert [(row["id"], row["word"]) for row in driver.rows("out")] == [(2, "paid")]
    driver.push("right", [{"of": 9, "seen": 12_000, "word": "x"}])
    driver.push("left", [driver.CRASH, {"id": 4, "at": 12_000}])
    assert [(row["id"], row["word"]) for row in driver.rows("out")] == [(2, "paid"), (1, None)]
    driver.end()
    assert [row["id"] for row in driver.rows("out")] == [2, 1, 3, 4]


def test_the_graph_of_a_join_can_be_printed():
    topology, left, right = streams()
    left.join(right, on={"id": "of"}, where="seen > at").to(Collect("out"))
    graph: Graph = topology.freeze()
    assert "join on id = of where seen > at" in graph.text()
    assert "right of a join" in graph.mermaid()
