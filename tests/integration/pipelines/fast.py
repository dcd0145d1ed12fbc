"""An orchestrator with a fast clock, as a process of its own: ``python -m … STORE BEGAN``."""

from __future__ import annotations

import asyncio
import sys
import time

from streamcore.pipelines.orchestrator import PipelineOrchestrator

SPEED = 60
START = 1_700_000_000.0 // 86_400 * 86_400
LEASE_SECONDS = 5.0 * SPEED


def clock(began: float) -> float:
    """The fast time, which was START at *began*."""
    return START + (time.time() - began) * SPEED


async def main(store: str, began: str) -> None:
    """Run what is due, until killed."""
    fast = PipelineOrchestrator(store, lease_seconds=LEASE_SECONDS, clock=lambda: clock(float(began)))
    async with fast:
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
