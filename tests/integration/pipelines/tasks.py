"""Functions that pipelines of the tests call."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import time
from pathlib import Path

from streamcore.pipelines.kinds.contract import TaskContext, TaskResult, TaskSkipped


async def nothing() -> None:
    """Does nothing."""


async def append(path: str, line: str) -> None:
    """Add *line* to a file."""
    with Path(path).open("a") as file:
        file.write(f"{line}\n")


async def sleep(seconds: float) -> None:
    """Take a while, in the loop."""
    await asyncio.sleep(seconds)


def block(seconds: float) -> None:
    """Take a while, and hold the thread."""
    time.sleep(seconds)


def fail_until(path: str, times: int) -> dict[str, object]:
    """Fail so many times, counted in a file."""
    file = Path(path)
    count = int(file.read_text()) if file.exists() else 0
    file.write_text(str(count + 1))
    if count < times:
        raise RuntimeError(f"failure {count + 1}")
    return {"rows": count, "message": "at last"}


def skip() -> None:
    """Nothing to do."""
    raise TaskSkipped("no new files")


def write(path: str, context: TaskContext) -> TaskResult:
    """Write a file and pass it on by its name."""
    Path(path).write_text(f"{context.effect_id}\n")
    print(f"wrote {path}")
    return TaskResult(datasets={"lines": {"type": "file", "file_path": path}}, rows=1, bytes=10)


def read(source: dict[str, str], context: TaskContext) -> dict[str, object]:
    """Read what a task before has written."""
    assert context.upstream == ("lines",)
    assert context.inputs["lines"] == source
    return {"message": Path(source["file_path"]).read_text().strip()}


def die() -> None:
    """End the process without a word."""
    os._exit(7)


def give_data() -> list[int]:
    """Data instead of a reference."""
    return [1, 2, 3]


async def fail_oddly() -> None:
    """With a text that neither PostgreSQL nor UTF-8 can hold."""
    raise RuntimeError("a\0b\ud800c")


def leave_open(folder: str) -> None:
    """Files that nobody closes, and an exit handler that writes one: all of them are there at the end."""
    file = Path(folder, "global").open("w")  # noqa: SIM115 - that is the point
    file.write("left open")
    globals()["left_open"] = file
    atexit.register(Path(folder, "handler").write_text, "at exit")


def leave_a_thread(seconds: float) -> None:
    """A thread that goes on when the function has returned."""
    threading.Thread(target=time.sleep, args=(seconds,)).start()


def die_behind() -> None:
    """End with a success, and the process with none."""
    atexit.register(os._exit, 7)


def leave_a_daemon(pid_file: str) -> None:
    """Die without a word, but for a process out of the group, which holds all that was open."""
    if os.fork() == 0:
        os.setsid()
        Path(pid_file).write_text(str(os.getpid()))
        time.sleep(3600)
    while not Path(pid_file).exists():
        time.sleep(0.01)
    print("begun")
    os._exit(7)
