"""A worker whose work is over ends with its code and reason, though a task does not hear that it should."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import asyncio
import sys
import streamcore as sc
from streamcore.errors import Fenced
from streamcore.runtime import worker
from streamcore.settings import Settings

worker.EXIT_GRACE = 0.3

async def deaf():
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass

async def work(topology, settings, stop):
    asyncio.get_running_loop().deaf = asyncio.create_task(deaf())
    await asyncio.sleep(0)
    {ends}

worker.work = work
worker.run_until_told(Settings(), lambda stop: work(None, None, stop))
"""


@pytest.mark.parametrize(
    ("ends", "code", "says"),
    [
        ("raise Fenced('another owner has taken orders/0 over', where='orders/0')", 1, "orders/0"),
        ("raise KeyError('x')", 1, "error: KeyError: 'x'"),
        ("return", 0, ""),
    ],
)
def test_a_task_that_does_not_hear_keeps_no_worker_alive(ends: str, code: int, says: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(ends=ends)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, says in done.stderr) == (code, True), done.stderr
