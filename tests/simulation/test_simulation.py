"""The deterministic simulation as a test: seeds that must hold, and planted mistakes that must be caught.

Each runs in processes of its own, since a seed is the same only where Python's hashes are.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.simulation.__main__ import CATCHING
from tests.simulation.mutants import MISTAKES, seeds_for

RUNS = 300


def simulated(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONHASHSEED": "0", "POLARS_MAX_THREADS": "1"}
    command = [sys.executable, "-m", "tests.simulation", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.mark.timeout(600)
def test_seeds_hold() -> None:
    done = simulated("--runs", str(RUNS))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{RUNS} runs, 0 failed" in done.stdout


@pytest.mark.timeout(300)
def test_planted_mistakes_are_caught() -> None:
    done = simulated("--mutants", "replay")
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_mistake_has_a_seed_that_catches_it() -> None:
    caught = json.loads(CATCHING.read_text())
    assert caught.keys() == MISTAKES.keys()
    assert all(seed in seeds_for(name) for name, seed in caught.items())


def test_a_seed_is_the_same_in_another_process() -> None:
    for seed in ("7", "12", "9"):  # of each kind
        first, second = (simulated("--seed", seed).stdout for _ in range(2))
        assert first == second
        assert "digest" in first
