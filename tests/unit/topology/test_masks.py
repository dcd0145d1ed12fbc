"""Masks: what is left of a value, that hashes are HMACs of anybody's, and what a mistake says."""

from __future__ import annotations

import hashlib
import hmac

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import streamcore as sc
from streamcore.errors import BadConfig
from streamcore.testing import TopologyDriver
from streamcore.transforms.masks import from_dict
from tests.unit.topology.collecting import Collect

KEY = "sixteen characters"


@pytest.mark.parametrize(
    ("mask", "values", "masked"),
    [
        (sc.masks.Redact(), ["Ann", "", None], ["***", "***", None]),
        (sc.masks.Redact("x"), [1.5, None], ["x", None]),
        (sc.masks.Redact(), [[1], None], ["***", None]),
        (sc.masks.Partial(), ["4000123412341234", "1234", "12345"], ["***1234", "***", "***2345"]),
        (sc.masks.Partial(first=1, last=0, fill="…"), ["Ängström", "Ö", ""], ["Ä…", "…", "…"]),
        (sc.masks.Partial(first=0, last=0), ["abc", "", None], ["***", "***", None]),
        (sc.masks.Hash(KEY), [None, None], [None, None]),
    ],
)
def test_what_is_left(mask: sc.masks.Mask, values: list[object], masked: list[str | None]) -> None:
    found = mask.of(pl.Series("a", values))
    assert (found.to_list(), found.dtype) == (masked, pl.String)
    assert mask.of(pl.Series("a", values)[:0]).to_list() == []


def test_a_hash_is_that_of_the_standard() -> None:
    """RFC 4231, test case 1."""
    found = sc.masks.Hash("\x0b" * 20).of(pl.Series(["Hi There"]))
    assert found.item() == "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"


@given(st.lists(st.none() | st.text(max_size=5) | st.integers(-9, 9).map(str), max_size=20))
def test_a_hash_is_made_of_each_value_by_itself(values: list[str | None]) -> None:
    def one(value: str) -> str:
        return hmac.new(KEY.encode(), value.encode(), hashlib.sha256).hexdigest()

    series = pl.Series(values, dtype=pl.String)
    assert sc.masks.Hash(KEY).of(series).to_list() == [None if v is None else one(v) for v in values]


def test_numbers_have_the_hashes_of_their_texts() -> None:
    mask = sc.masks.Hash(KEY)
    assert mask.of(pl.Series([7, None, -1])).to_list() == mask.of(pl.Series(["7", None, "-1"])).to_list()


def test_rows_are_masked_on_their_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASK_KEY", KEY)
    topology = sc.Topology("people")
    people = topology.stream("people", {"id": "int64", "name": "string", "card": "string"})
    seen = Collect("seen")
    people.mask(
        {"id": sc.masks.Hash("${env:MASK_KEY}"), "name": sc.masks.Redact(), "card": sc.masks.Partial()}
    ).to(seen)
    driver = TopologyDriver(topology)
    driver.push(
        "people",
        [{"id": 1, "name": "Ann", "card": "4000 1234"}, {"id": 2, "name": None, "card": None}],
    )
    rows = driver.rows("seen")
    digest = hmac.new(KEY.encode(), b"1", hashlib.sha256).hexdigest()
    assert rows[0] == {"id": digest, "name": "***", "card": "***1234"}
    assert (rows[1]["name"], rows[1]["card"]) == (None, None)


def test_the_graph_says_how_columns_are_masked_and_not_the_key() -> None:
    topology = sc.Topology("people")
    people = topology.stream("people", {"id": "int64"})
    people.mask({"id": sc.masks.Hash(KEY)}).to(Collect("seen"))
    graph = topology.freeze()
    assert "mask id (hash)" in graph.text()
    assert KEY not in f"{graph.text()}{graph.mermaid()}{graph!r}{sc.masks.Hash(KEY)!r}"


@pytest.mark.parametrize(
    ("masks", "says"),
    [
        ({"nme": sc.masks.Redact()}, "unknown column in mask, got 'nme'.*did you mean 'name'"),
        ({}, "mask names no column"),
        ({"share": sc.masks.Hash(KEY)}, "hash can't mask column 'share', got 'Float64'.*cast_type"),
        ({"share": sc.masks.Partial()}, "partial can't mask column 'share', got 'Float64'.*cast_type"),
        ({"name": sc.masks.Hash("short")}, "less than 16 characters"),
    ],
)
def test_mistakes_are_told_when_the_topology_is_loaded(masks: dict[str, sc.masks.Mask], says: str) -> None:
    people = sc.Topology("people").stream("people", {"name": "string", "share": "float64"})
    with pytest.raises(BadConfig, match=rf"test_masks\.py:\d+: .*{says}"):
        people.mask(masks)


def test_a_key_that_is_not_there_is_told_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MASK_KEY", raising=False)
    mask = sc.masks.Hash("${env:MASK_KEY}")
    mask.check("name", pl.String())
    with pytest.raises(BadConfig, match="MASK_KEY"):
        mask.of(pl.Series(["a"]))
    monkeypatch.setenv("MASK_KEY", "short")
    with pytest.raises(BadConfig, match="less than 16") as raised:
        mask.of(pl.Series(["a"]))
    assert "short" not in str(raised.value).replace("shortest", "")


@pytest.mark.parametrize("given", [{"how": "hash", "key": 1234567890123456}, {"how": "redact", "text": None}])
def test_what_is_no_text_is_told_and_not_shown(given: dict[str, object]) -> None:
    with pytest.raises(BadConfig, match=r"of a mask is a text, got '(int|NoneType)'") as raised:
        from_dict(given)
    assert "1234567890" not in str(raised.value)


@pytest.mark.parametrize(("first", "last"), [(-1, 0), (0, -1), ("1", 0)])
def test_numbers_of_characters_are_checked(first: int, last: int) -> None:
    with pytest.raises(BadConfig, match="number of characters"):
        sc.masks.Partial(first, last)
