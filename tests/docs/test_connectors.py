"""The tables of options on the connectors' pages are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from batch_adapters.catalogue import PLACES, SYSTEMS

PAGES = Path(__file__).parents[2] / "docs" / "connectors"


@pytest.mark.parametrize("system", sorted(SYSTEMS))
def test_the_options_of_a_page_are_those_of_its_source(system: str) -> None:
    assert options_of(SYSTEMS[system].page) == {
        name: field.description for name, field in SYSTEMS[system].options.model_fields.items()
    }


@pytest.mark.parametrize("place", sorted(PLACES.keys() - {"file"}))
def test_the_options_of_a_page_are_those_of_its_place(place: str) -> None:
    assert options_of(place) == PLACES[place].options


def options_of(page: str) -> dict[str, str]:
    """The table below "Options"."""
    text = (PAGES / f"{page}.md").read_text().partition("## Options")[2].partition("\n## ")[0]
    return dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", text, re.M))
