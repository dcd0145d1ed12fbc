"""A worker of pipelines on Kafka as a process, with a short lease: ``python -m … BROKER STORE NAME``."""

from __future__ import annotations

import sys
from pathlib import Path

from streamcore.pipelines.worker import work
from streamcore.runtime.worker import run_until_told
from streamcore.settings import Settings

LEASE_SECONDS = 3.0


def settings(broker: str, store: str, name: str) -> Settings:
    """Those of the workers of one test."""
    return Settings.model_validate(
        {
            "broker": {"url": broker},
            "metadata": {"url": store},
            "pipelines": {"name": name, "partitions": 6},
            "state": {"dir": Path("state")},
            "http": {"port": 0},
            "runtime": {"commit_interval_s": 0.2},
            "kafka": {"session_timeout_s": 6.0},
        }
    )


if __name__ == "__main__":
    given = settings(*sys.argv[1:])
    sys.exit(run_until_told(given, lambda stop: work(given, stop, LEASE_SECONDS)))
