"""Sketches: how near they are, that their hash is the published one, and that nothing of it may change."""

from __future__ import annotations

import math
import random
from decimal import Decimal

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.aggregates.aggregation import Aggregation
from streamcore.aggregates.hashing import hash64, murmur64, murmur64_of_bytes


def result(text: str, values: pl.Series, pieces: int = 1) -> object:
    aggregation = Aggregation.of({"r": text}, pl.Schema({"x": values.dtype}))
    frame = pl.DataFrame({"x": values, "k": pl.repeat(0, len(values), eager=True)})
    parts = [frame[i::pieces].group_by("k").agg(aggregation.partial()) for i in range(pieces)]
    return pl.concat(parts).group_by("k").agg(aggregation.merge()).select(aggregation.final()).item()


def test_the_hash_is_murmurhash64a():
    """SMHasher's VerificationTest, whose value for MurmurHash64A is 0x1F0D3804."""
    hashes = [murmur64_of_bytes(pa.array([bytes(range(n))], pa.large_binary()), 256 - n) for n in range(256)]
    assert (
        int(murmur64_of_bytes(pa.array([np.concatenate(hashes).tobytes()]).cast(pa.large_binary()))[0])
        % (1 << 32)
        == 0x1F0D3804
    )


def test_values_of_many_lengths_and_words_hash_as_one_by_one():
    draw = random.Random(1)
    values = [draw.randbytes(draw.choice([0, 1, 7, 8, 9, 30])) for _ in range(60)]
    together = murmur64_of_bytes(pa.array(values, pa.large_binary()))
    assert together.tolist() == [int(murmur64_of_bytes(pa.array([v], pa.large_binary()))[0]) for v in values]
    words = np.arange(9, dtype=np.uint64) * np.uint64(7**20)
    assert (
        murmur64(words).tolist()
        == murmur64_of_bytes(
            pa.array([int(w).to_bytes(8, "little") for w in words], pa.large_binary())
        ).tolist()
    )


@pytest.mark.parametrize(("values", "hashes"), [
    (pl.Series(["a", None, "x" * 3000]), [510903276987443985, None, 14925116908908498672]),
    (pl.Series([1, None, 3]), [10357027354812746030, None, 5173830478357570162]),
    (pl.Series([0.0, -0.0, math.nan]), [8217090173679840641, 8217090173679840641, 917249727526214928]),
    (pl.Series([True]), [10357027354812746030]),
    (pl.Series([Decimal("1.00")]), [5819012208615744075]),
    (pl.Series(["a"], dtype=pl.Categorical), [510903276987443985]),
    (pl.Series([], dtype=pl.String), []),
])  # fmt: skip
def test_hashes_stay_what_they_are(values: pl.Series, hashes: list[int | None]):
    """They are part of kept state: a change would break what is stored."""
    assert hash64(values).to_list() == hashes


@pytest.mark.parametrize("count", [0, 1, 2, 100, 1_000, 10_000, 200_000])
@pytest.mark.parametrize("precision", [8, 12])
def test_distinct_values_are_counted_within_four_standard_errors(count: int, precision: int):
    text = f"approx_count_distinct(x, {precision})"
    values = pl.Series([f"user {i}" for i in range(count)] * 2 or [None], dtype=pl.String)
    estimate = result(text, values, pieces=3)
    assert estimate == pytest.approx(count, rel=4 * 1.04 / math.sqrt(1 << precision), abs=0.5)


def test_estimates_are_not_biased():
    """The mean of 40 groups of 3,000 is nearer than one of them has to be."""
    aggregation = Aggregation.of({"r": "approx_count_distinct(x, 8)"}, pl.Schema({"x": pl.Int64}))
    frame = pl.DataFrame({"x": range(120_000)}).with_columns(k=pl.col("x") // 3_000)
    estimates = frame.group_by("k").agg(aggregation.partial()).select(aggregation.final())["r"]
    assert estimates.mean() == pytest.approx(3_000, rel=4 * 1.04 / 16 / math.sqrt(40))


FLOATS = st.floats(allow_subnormal=False) | st.sampled_from([0.0, -0.0, 1.0, 100.0])


@settings(deadline=None, max_examples=60)
@given(st.lists(FLOATS, min_size=1, max_size=30), st.sampled_from([0, 0.25, 0.5, 0.99, 1]))
def test_a_quantile_is_within_its_error_of_the_value_at_its_rank(values: list[float], q: float):
    estimate = result(f"quantile(x, {q})", pl.Series(values, dtype=pl.Float64), pieces=2)
    exact = sorted(values, key=lambda v: (math.isnan(v), v))[math.floor(q * (len(values) - 1))]
    assert estimate == pytest.approx(exact, rel=1 / 256, abs=0, nan_ok=True)


def test_the_median_of_equal_values_is_exact():
    assert result("median(x)", pl.Series([100, 100, None]), pieces=3) == 100.0


def test_a_quantile_of_nothing_is_null():
    assert result("median(x)", pl.Series([None], dtype=pl.Int64)) is None
