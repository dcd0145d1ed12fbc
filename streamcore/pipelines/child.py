"""The process of one attempt: ``python -m streamcore.pipelines.child FD MODULE…``, by :mod:`.children`.

It writes ``{}`` to the socket FD when it has imported all MODULEs, and reads one line: the task. Then it
writes ``{"progress": [rows, bytes]}`` while it works, and at the end ``{"result": …}``, or ``{"error": text,
"type": class}``. What it prints is its log.

Then it ends as any Python process does: threads are waited for, exit handlers run, files that the task left
open are flushed. The orchestrator waits for that, and ends it when it may not go on.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import sys
import time
import traceback
from contextlib import suppress
from dataclasses import asdict
from importlib import import_module
from typing import Any

import orjson

from streamcore.errors import StreamcoreError
from streamcore.metadata.writing import storable
from streamcore.pipelines.kinds.catalogue import KINDS
from streamcore.pipelines.kinds.contract import TaskContext, TaskResult
from streamcore.pipelines.models import TaskType

PROGRESS_SECONDS = 0.25


def main() -> None:
    """Wait for a task, do it, say how it went."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    channel = socket.socket(fileno=int(sys.argv[1]))
    for module in sys.argv[2:]:
        with suppress(ImportError):  # the task that needs it says what is missing
            import_module(module)
    channel.sendall(b"{}\n")  # it is ready
    with channel.makefile("rb") as lines:
        line = lines.readline()
    if not line:
        return  # it wasn't needed
    sys.path.insert(0, "")
    gc.freeze()  # to tear down what was imported ahead would take the end a tenth of a second
    answer = _done(orjson.loads(line), channel)
    channel.sendall(orjson.dumps(answer) + b"\n")


def _done(job: dict[str, Any], channel: socket.socket) -> dict[str, Any]:
    try:
        result = asyncio.run(_run(job, channel))
    except StreamcoreError as error:
        return {"error": storable(str(error)), "type": _sort(error)}
    except Exception as error:  # noqa: BLE001 - whatever a task raises is told
        traceback.print_exc()
        return {"error": storable(f"{type(error).__name__}: {error}"), "type": "Permanent"}
    return {"result": asdict(result)}


def _sort(error: StreamcoreError) -> str:
    """The first class of the tree that the orchestrator tells apart."""
    known = ("BadConfig", "TaskFailed", "TaskSkipped")
    return next((kind.__name__ for kind in type(error).__mro__ if kind.__name__ in known), "Permanent")


async def _run(job: dict[str, Any], channel: socket.socket) -> TaskResult:
    kind = KINDS[TaskType(job["task_type"])]
    context = TaskContext(
        pipeline_id=job["pipeline_id"],
        run_id=job["run_id"],
        task_id=job["task_id"],
        attempt=job["attempt"],
        inputs=job["inputs"],
        upstream=tuple(job["upstream"]),
        report=_Reporter(channel),
        log=lambda line: print(line, flush=True),
    )
    return await kind.run(kind.options.model_validate(job["parameters"]), context)


class _Reporter:
    """Tells progress a few times a second."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel, self._next = channel, 0.0

    def __call__(self, rows: int | None, bytes: int | None) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + PROGRESS_SECONDS
            self._channel.sendall(orjson.dumps({"progress": [rows, bytes]}) + b"\n")


if __name__ == "__main__":
    main()
