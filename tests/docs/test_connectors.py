"""The tables of options on the connectors' pages, and the list of connectors, are those of the code; those of
types are those that ``tests/conformance/test_type_tables.py`` and ``test_sql_type_tables.py`` show to be so.

``STREAMCORE_UPDATE_DOCS=1 python -m pytest tests/docs/test_connectors.py`` writes the list, and types, anew.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from batch_adapters.catalogue import FORMATS, PLACES, SYSTEMS
from streamcore.cli.connectors import live, sinks, sources
from streamcore.sources.catalogue import KINDS
from tests.conformance.mongo_types import MONGODB, MONGODB_SOURCE
from tests.conformance.postgres_found_types import POSTGRES_SOURCE
from tests.conformance.postgres_types import POSTGRES
from tests.conformance.redis_types import REDIS
from tests.conformance.sqlite_types import SQLITE, SQLITE_SOURCE
from tests.conformance.type_tables import Line

PAGES = Path(__file__).parents[2] / "docs" / "connectors"


@pytest.mark.parametrize("system", sorted(SYSTEMS))
def test_the_options_of_a_page_are_those_of_its_source(system: str) -> None:
    assert options_of(SYSTEMS[system].page) == {
        name: field.description for name, field in SYSTEMS[system].options.model_fields.items()
    }


@pytest.mark.parametrize("place", sorted(PLACES.keys() - {"file"}))
def test_the_options_of_a_page_are_those_of_its_place(place: str) -> None:
    assert options_of(place) == PLACES[place].options


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_the_options_of_a_format_are_those_of_its_files(name: str) -> None:
    heading = {"csv": "CSV", "json": "JSON"}.get(name, name.title())
    assert options_of("files", heading) == {
        option: field.description for option, field in FORMATS[name].options.model_fields.items()
    }


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_options_of_what_never_ends_are_those_of_its_kind(kind: str) -> None:
    assert options_of("live", KINDS[kind].heading) == {
        name: field.description for name, field in KINDS[kind].options.model_fields.items()
    }


def options_of(page: str, heading: str = "Options") -> dict[str, str]:
    """The table below the *heading*."""
    text = (PAGES / f"{page}.md").read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", text, re.M))


BEGIN, END = "<!-- connectors: generated -->\n", "<!-- connectors: end -->"


def index() -> str:
    """What ``streamcore connect list`` shows, with links."""
    mark = {True: "yes", False: "", None: "by format"}
    lines = ["| bounded source | written | in parts | goes on after a crash | knows its columns | needs |"]
    lines += ["|---|---|---|---|---|---|"]
    for row in sources():
        cells = [f"[{row.name}]({row.page}.md)", " ".join(f"`{uri}`" for uri in row.uris)]
        cells += [mark[able] for able in (row.splits, row.resumes, row.columns)]
        lines.append(f"| {' | '.join(cells)} | {f'`streamcore[{row.needs}]`' if row.needs else ''} |")
    lines += ["", "| source without an end | written | option |", "|---|---|---|"]
    for way in live():
        uris = " ".join(f"`{uri}`" for uri in way.uris)
        page = f"live.md#{way.heading.lower().replace(' ', '-')}"
        lines.append(f"| [{way.name}]({page}) | {uris} | {f'`{way.by}=`' if way.by else ''} |")
    lines += ["", "| sink | written | exactly once | updates | deletes |", "|---|---|---|---|---|"]
    for sink in sinks():
        uris = " ".join(f"`{uri}`" for uri in sink.uris)
        cells = [f"`sc.sinks.{sink.name}`", uris, sink.exactly_once, mark[sink.upsert], mark[sink.delete]]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def test_the_list_of_connectors_is_the_catalogue() -> None:
    text = (PAGES / "README.md").read_text()
    before, _, rest = text.partition(BEGIN)
    check("README", f"{before}{BEGIN}\n{index()}\n\n{END}{rest.partition(END)[2]}")


def check(page: str, current: str) -> None:
    """That *page* is *current*, or is from now on."""
    path = PAGES / f"{page}.md"
    if os.environ.get("STREAMCORE_UPDATE_DOCS"):
        path.write_text(current)
    assert path.read_text() == current


@pytest.mark.parametrize(
    ("page", "head", "lines"),
    [
        ("mongodb", "| in the stream | in MongoDB | read back as |", MONGODB),
        ("mongodb", "| MongoDB | JSON | read it as |", MONGODB_SOURCE),
        ("redis", "| in the stream | text in Redis | read back as |", REDIS),
        ("postgresql", "| PostgreSQL | in the stream |", POSTGRES_SOURCE),
        (
            "postgresql",
            "| in the stream | column that is made | read back as | columns that it fits |",
            POSTGRES,
        ),
        ("sqlite", "| declared | in the stream |", SQLITE_SOURCE),
        (
            "sqlite",
            "| in the stream | column that is made | read back as | columns that it fits, by affinity |",
            SQLITE,
        ),
    ],
)
def test_the_types_of_a_page_are_those_that_are_sent_and_found(
    page: str, head: str, lines: Sequence[Line]
) -> None:
    text = (PAGES / f"{page}.md").read_text()
    before, there, rest = text.partition(f"{head}\n|{'---|' * (head.count('|') - 1)}\n")
    assert there
    rows = "".join(f"| {' | '.join(line.cells)} |\n".replace("|  |", "| |") for line in lines)
    behind = rest.partition("\n\n")[2]
    check(page, f"{before}{there}{rows}\n{behind}")
