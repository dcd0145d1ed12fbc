"""Laws of validation: cuts change nothing, and the order of rules decides the code only."""

from __future__ import annotations

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.batch import OFFSET, Rejects, hide
from streamcore.validation import Rule, Validate, rules

COLUMNS = pl.Schema({"n": pl.Int64, "s": pl.String})
RULES = [
    rules.not_null("n", severity="warning"),
    rules.range("n", min=-3, max=3),
    rules.email("s", on_fail="flag"),
    rules.regex("s", "@", on_fail="drop"),
    rules.in_set("n", [0, 1, 2, 3], severity="warning"),
    rules.length("s", max=6),
    rules.type("s", "int64", severity="warning"),
    rules.expression("cast(s as int) < 5 or n > 0", on_fail="drop"),
]
chosen = st.lists(st.sampled_from(RULES), min_size=1, unique_by=lambda rule: rule.id)
row = st.tuples(
    st.none() | st.integers(-5, 5), st.sampled_from([None, "", "a@b.co", "@", "7", "x", "1234567"])
)
tables = st.lists(row, max_size=30)


def framed(rows: list[tuple[int | None, str | None]]) -> pl.DataFrame:
    return hide(pl.DataFrame(rows, schema=COLUMNS, orient="row"), np.arange(len(rows)))


@settings(deadline=None)
@given(chosen, tables, st.integers(0, 30))
def test_cuts_change_nothing(some: list[Rule], rows: list[tuple[int | None, str | None]], cut: int) -> None:
    step = Validate.of(some, COLUMNS, flag_column="flags")
    frame = framed(rows)
    whole = step.apply(frame, "node")
    parts = [step.apply(frame[:cut], "node"), step.apply(frame[cut:], "node")]
    assert pl.concat([p.frame for p in parts]).equals(whole.frame)
    assert Rejects.join([p.rejects for p in parts]).frame.equals(whole.rejects.frame)
    total = {k: sum(p.counts.get(k, 0) for p in parts) for k in {**parts[0].counts, **parts[1].counts}}
    assert total == whole.counts


@settings(deadline=None)
@given(st.data(), chosen, tables)
def test_order_changes_only_the_code(
    data: st.DataObject, some: list[Rule], rows: list[tuple[int | None, str | None]]
) -> None:
    one = Validate.of(some, COLUMNS).apply(framed(rows), "node")
    other = Validate.of(data.draw(st.permutations(some)), COLUMNS).apply(framed(rows), "node")
    assert one.frame.equals(other.frame)
    assert one.rejects.frame[OFFSET].equals(other.rejects.frame[OFFSET])
    assert one.counts == other.counts


@settings(deadline=None)
@given(chosen, tables)
def test_every_row_passes_is_refused_or_is_counted_as_failing(
    some: list[Rule], rows: list[tuple[int | None, str | None]]
) -> None:
    result = Validate.of(some, COLUMNS).apply(framed(rows), "node")
    gone = len(rows) - result.frame.height - len(result.rejects)
    assert 0 <= gone <= sum(result.counts.values())
    assert not set(result.frame[OFFSET]) & set(result.rejects.frame[OFFSET])
