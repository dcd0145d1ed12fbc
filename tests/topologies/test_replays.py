"""The shipped topologies over the shipped data, through the command line; DuckDB is the oracle."""

import duckdb
import pytest

from tests.topologies.conftest import Project, furnish

BIRDS = ("replay", "topologies.birdstrikes", "--from", "birdstrikes=data/birdstrikes.csv")
FLIGHTS = ("replay", "topologies.flights", "--from", "flights=data/flights-200k.parquet")


@pytest.fixture(scope="module")
def birds(tmp_path_factory):
    """A project in which the bird strikes have been replayed, and how that ended."""
    project = Project(furnish(tmp_path_factory.mktemp("birds")))
    return project, project.run(*BIRDS)


@pytest.fixture(scope="module")
def flights(tmp_path_factory):
    """A project in which the flights have been replayed, and the summary as a document."""
    project = Project(furnish(tmp_path_factory.mktemp("flights")))
    return project, project.document(*FLIGHTS)


def ask(project, query):
    """The rows of an SQL query over files of the project's folder."""
    with duckdb.connect() as connection:
        connection.execute(f"set file_search_path = '{project.folder}'")
        return connection.execute(query).fetchall()


def test_flights_equal_the_same_question_in_sql(flights):
    project, summary = flights
    expected = ask(
        project,
        """select origin, case when delay < 60 then 'late' else 'very late' end as band, count(*), sum(delay)
        from 'data/flights-200k.parquet'
        where delay > 15 and origin <> destination group by all order by all""",
    )
    found = ask(
        project,
        """select origin, band, count(*), sum(delay)
        from read_parquet('out/late/**/*.parquet', hive_partitioning=true) group by all order by all""",
    )
    assert found == expected
    assert summary["status"] == "finished"
    assert summary["rows_in"] == 200_000
    assert sum(summary["rows_out"].values()) == sum(row[2] for row in expected)
    assert summary["rules"] == {"range(delay)": 10}
    assert list(summary["outputs"].values()) == ["out/late"]


def test_birdstrikes_equal_the_same_question_in_sql_and_the_rest_are_dead_letters(birds):
    project, _ = birds
    known = "\"Effect Amount of damage\" in ('None', 'Minor', 'Medium', 'Substantial')"
    rows = "read_csv('data/birdstrikes.csv', header=true)"
    ((good, cost),) = ask(project, f'select count(*), sum("Cost Total $") from {rows} where {known}')
    files = "read_parquet('out/birdstrikes/all/**/*.parquet', hive_partitioning=true)"
    assert ask(project, f"select count(*), sum(cost_total) from {files}") == [(good, cost)]
    assert ask(project, "select distinct damage from 'out/birdstrikes/damaged/*.jsonl' order by 1") == [
        ("Medium",),
        ("Minor",),
        ("Substantial",),
    ]
    letters = project.document("dlq", "list", "birdstrikes")["dead_letters"]
    lines = (project.folder / "data" / "birdstrikes.csv").read_text().splitlines()
    refused = [line for line in lines[1:] if line.split(",")[2] in ("B", "C")]
    assert len(letters) == len(refused) == 10_000 - good
    assert {(x["stage"], x["code"]) for x in letters} == {("birdstrikes/validate", "in_set")}
    assert project.document("dlq", "show", "birdstrikes", letters[0]["place"])["record"] in refused


def test_dead_letters_can_be_chosen_and_a_plan_sends_nothing(birds):
    project, _ = birds
    assert project.document("dlq", "list", "birdstrikes", "--code", "range")["dead_letters"] == []
    plan = project.document("dlq", "redrive", "birdstrikes", "--code", "in_set", "--dry-run")
    assert (len(plan["sent"]), plan["sent_before"]) == (15, 0)


def test_a_finished_replay_says_so_and_again_starts_anew(flights):
    project, _ = flights
    second = project.document(*FLIGHTS)
    assert (second["status"], second["rows_in"]) == ("already finished", 0)
    assert second["next"][0].endswith("--again")
    assert project.document(*FLIGHTS, "--again")["rows_in"] == 200_000


def test_a_dry_run_shows_rows_and_writes_nothing(project):
    shown = project.document(*FLIGHTS, "--dry-run", "--limit", "500")
    assert shown["rows_in"] == 500
    (rows,) = shown["rows"].values()
    assert set(rows[0]) == {"date", "delay", "distance", "origin", "destination", "band"}
    assert sorted(p.name for p in project.folder.iterdir()) == ["data", "topologies"]


def test_limit_reads_so_many_rows(project):
    assert project.document(*FLIGHTS, "--limit", "1234")["rows_in"] == 1234


def test_the_summary_and_the_log_line_for_people(birds):
    _, done = birds
    assert "birdstrikes finished in" in done.stdout
    assert "next  streamcore dlq list birdstrikes" in done.stdout
    assert " replaying topology=birdstrikes " in done.stderr
    assert "\x1b" not in done.stdout + done.stderr


def test_wrong_sources_are_refused_before_anything_is_read(project):
    for source, said in (
        ("data/birdstrikes.csv", "--from takes STREAM=PATH"),
        ("flight=data/birdstrikes.csv", "has no stream 'flight'"),
        ("birdstrikes=data/birdstrike.csv", "no such file or folder"),
    ):
        done = project.run("replay", "topologies.birdstrikes", "--from", source, code=2)
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == 3
    assert not (project.folder / ".streamcore").exists()


def test_topologies_are_listed_and_shown(project):
    listed = project.document("topologies", "list")
    assert {row["topology"] for row in listed} == {"adults", "birdstrikes", "delays", "flights"}
    assert [row["error"] for row in listed] == [None] * 4
    assert project.run("topologies", "show", "topologies.flights").stdout.startswith("topology flights\n")
    assert project.run("topologies", "show", "topologies/flights.py", "--mermaid").stdout.startswith(
        "flowchart"
    )
    nodes = project.document("topologies", "show", "topologies.flights:topology")["nodes"]
    assert "band" in nodes[-1]["columns"]
