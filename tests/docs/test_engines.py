"""The tables of fields in docs/ingestion.md are those of the configurations."""

from __future__ import annotations

import re
from pathlib import Path

import streamcore as sc

PAGE = Path(__file__).parents[2] / "docs" / "ingestion.md"


def test_the_fields_of_the_page_are_those_of_the_configurations() -> None:
    told = set(re.findall(r"^\| `(\w+)` \| [^|]+ \| ([A-Z][^|]*) \|$", PAGE.read_text(), re.M))
    kinds = (sc.BatchIngestionConfig, sc.BatchProcessingConfig, sc.StreamProcessingConfig)
    fields = {
        (name, " ".join((field.description or "").split()))
        for kind in kinds
        for name, field in kind.model_fields.items()
    }
    assert told == fields
