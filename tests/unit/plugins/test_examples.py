"""Properties have no deadline: a busy machine that stands still for a moment is no failure."""

from __future__ import annotations

import time

from hypothesis import given, settings
from hypothesis import strategies as st


@settings(max_examples=1)
@given(st.just(0.25))
def test_an_example_that_takes_longer_than_hypothesis_would_wait_passes(seconds: float) -> None:
    time.sleep(seconds)
