"""An ingestion in a process of its own. Both sides talk in lines of JSON; nothing is pickled.

The parent writes one line to the child's standard input, what to do, and keeps it open: its end says that the
parent is gone, and ends the child. The child answers on its standard output with lines of progress and, last,
the metrics or the error. SIGTERM makes it stop as cancelling does.
"""

from __future__ import annotations

import asyncio
import dataclasses
import signal
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, BinaryIO

import orjson

from streamcore.errors import BadConfig, Fenced, Permanent, StreamcoreError, TopicChanged, Transient
from streamcore.progress import OnProgress, Progress

_ERRORS = {kind.__name__: kind for kind in (BadConfig, Fenced, Permanent, TopicChanged, Transient)}
_LINE_LIMIT = 1 << 20
_GRACE = 10.0
"""Seconds beyond the time to drain after which a child that was told to stop is killed."""


async def in_own_process(
    task: Mapping[str, object], on_progress: OnProgress, drain_seconds: float
) -> Mapping[str, Any]:
    """What the child answers for *task*; raises what it raises. Cancelled, it ends the child."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "streamcore.engines.own_process",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LINE_LIMIT,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        with suppress(ConnectionError):
            process.stdin.write(orjson.dumps(task, default=str) + b"\n")
            await process.stdin.drain()
        async for line in process.stdout:
            answer = orjson.loads(line)
            if "progress" in answer:
                on_progress(Progress(**answer["progress"]))
            elif "error" in answer:
                raise _error(answer["error"])
            else:
                return dict(answer["done"])
        raise Permanent(
            "the process of the ingestion ended before its work",
            got=f"exit code {await process.wait()}",
            fix="call again: it is taken up where it was",
        )
    finally:
        process.stdin.close()
        await _ended(process, drain_seconds + _GRACE)


async def _ended(process: asyncio.subprocess.Process, seconds: float) -> None:
    """Wait until *process* has ended, which was told to."""
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(asyncio.shield(process.wait()), seconds)
    except asyncio.TimeoutError:
        process.kill()
        await process.wait()


def _error(told: Mapping[str, Any]) -> StreamcoreError:
    kind = next((_ERRORS[name] for name in told["kinds"] if name in _ERRORS), Permanent)
    return kind(told["what"], where=told["where"], got=told["got"], allowed=told["allowed"], fix=told["fix"])


# ---------------------------------------------------------------- the child


def main() -> None:
    """Do what the first line of the standard input says."""
    task = orjson.loads(sys.stdin.buffer.readline())
    answers = sys.stdout.buffer
    sys.stdout = sys.stderr  # what is printed on the way is no answer
    try:
        _answer(answers, done=asyncio.run(_work(task, answers)))
    except asyncio.CancelledError:
        sys.exit(1)
    except StreamcoreError as error:
        fields = {name: getattr(error, name) for name in ("what", "where", "fix")}
        got = None if error.got is None else str(error.got)
        allowed = None if error.allowed is None else [str(value) for value in error.allowed]
        kinds = [kind.__name__ for kind in type(error).__mro__]
        _answer(answers, error={"kinds": kinds, **fields, "got": got, "allowed": allowed})
    except Exception as error:  # noqa: BLE001 - told to the parent
        what = f"{type(error).__name__}: {error}"
        nothing = dict.fromkeys(("where", "got", "allowed", "fix"))
        _answer(answers, error={**nothing, "kinds": [], "what": what})


async def _work(task: Mapping[str, Any], answers: BinaryIO) -> dict[str, Any]:
    from streamcore.engines.ingestion import BatchIngestionConfig, BatchIngestionEngine
    from streamcore.engines.processing import BatchProcessingConfig
    from streamcore.settings import Settings

    settings = None if task["settings"] is None else Settings.model_validate(task["settings"])
    engine = BatchIngestionEngine(
        BatchIngestionConfig(**task["config"]),
        settings,
        processing=BatchProcessingConfig(**task["processing"]),
    )

    def told(progress: Progress) -> None:
        counts = {name: getattr(progress, name) for name in ("rows_in", "bytes_in", "rows_out", "elapsed")}
        _answer(answers, progress=counts)

    work = asyncio.ensure_future(
        engine.ingest_data(task["source"], task["destination"], run_id=task["run_id"], on_progress=told)
    )
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, work.cancel)
    threading.Thread(target=_until_alone, args=(loop, work), daemon=True).start()
    return dataclasses.asdict(await work)


def _until_alone(loop: asyncio.AbstractEventLoop, work: asyncio.Future[Any]) -> None:
    """Cancel *work* when the parent is gone."""
    sys.stdin.buffer.read()
    with suppress(RuntimeError):  # the loop is closed: it has ended
        loop.call_soon_threadsafe(work.cancel)


def _answer(answers: BinaryIO, **answer: object) -> None:
    answers.write(orjson.dumps(answer) + b"\n")
    answers.flush()


if __name__ == "__main__":
    main()
