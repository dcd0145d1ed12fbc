"""The tables of options on the connectors' pages are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from batch_adapters.postgres import PostgresOptions
from batch_adapters.sqlite import SqliteOptions

PAGES = Path(__file__).parents[2] / "docs" / "connectors"


@pytest.mark.parametrize(("page", "options"), [("postgresql", PostgresOptions), ("sqlite", SqliteOptions)])
def test_the_options_of_a_page_are_those_of_its_source(page: str, options: type[BaseModel]) -> None:
    text = (PAGES / f"{page}.md").read_text().partition("## Options")[2].partition("\n## ")[0]
    shown = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", text, re.M))
    assert shown == {name: field.description for name, field in options.model_fields.items()}
