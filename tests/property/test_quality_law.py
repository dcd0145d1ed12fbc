"""Laws of quality's states: any cut, and any order of merging, gives what all rows at once give."""

from __future__ import annotations

from functools import reduce

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.batch import hide
from streamcore.quality.rule_counts import RuleChecks, RuleCounts
from streamcore.validation import rules

COLUMNS = pl.Schema({"n": pl.Int64, "s": pl.String})
RULES = [
    rules.not_null("n", severity="warning"),
    rules.range("n", min=-3, max=3),
    rules.email("s"),
    rules.length("s", max=6),
    rules.expression("n > 0"),
]
row = st.tuples(st.none() | st.integers(-5, 5), st.sampled_from([None, "", "a@b.co", "@", "7", "1234567"]))
tables = st.lists(row, max_size=40)


def cuts(draw: st.DrawFn, frame: pl.DataFrame) -> list[pl.DataFrame]:
    """*frame* in pieces, some of which may be empty, in any order."""
    ends = sorted(draw(st.lists(st.integers(0, frame.height), max_size=4)))
    pieces = [frame[a:b] for a, b in zip([0, *ends], [*ends, frame.height], strict=True)]
    return draw(st.permutations(pieces))


@settings(deadline=None)
@given(st.data(), tables)
def test_rule_counts(data: st.DataObject, given_rows: list[tuple[int | None, str | None]]) -> None:
    frame = hide(pl.DataFrame(given_rows, schema=COLUMNS, orient="row"), np.arange(len(given_rows)))
    checks = RuleChecks.of(RULES, COLUMNS, samples=3)
    pieces = [checks.count(piece) for piece in cuts(data.draw, frame)]
    assert reduce(RuleCounts.merge, pieces, RuleCounts(most=3)) == RuleCounts().merge(checks.count(frame))
