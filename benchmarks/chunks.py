"""What a chunk of few rows costs; see ``programs/streamcore_chunks.py``."""

from __future__ import annotations

import json
import os
import subprocess
import sys


def chunks() -> dict[str, str]:
    """CPU of a call and sizes, by what they are of; polars on one core unless told otherwise."""
    command = [sys.executable, "-m", "benchmarks.programs.streamcore_chunks"]
    done = subprocess.run(
        command, env={"POLARS_MAX_THREADS": "1", **os.environ}, capture_output=True, check=True
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found
