"""An orchestrator as a process of its own, for tests that kill it: ``python -m … STORE RUN``."""

from __future__ import annotations

import asyncio
import sys

from streamcore.pipelines.orchestrator import PipelineOrchestrator

LEASE_SECONDS = 2.0


async def main(store: str, run_id: str) -> None:
    """Execute what nobody owns, until *run_id* has ended."""
    async with PipelineOrchestrator(store, lease_seconds=LEASE_SECONDS) as orchestrator:
        await orchestrator.wait(run_id)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
