"""File sinks under faults: no row lost, none doubled, whoever dies, and when. See also test_table_faults."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from streamcore.contracts import FlushReason
from streamcore.errors import Permanent
from streamcore.sinks import Csv, JsonLines, Parquet
from streamcore.sinks.files import _FileSink
from streamcore.testing.sink_world import (
    COLUMNS,
    ORDERS,
    SinkTarget,
    World,
    assert_same_rows,
    batches_of,
    deliver,
    frame_of,
)
from tests.conformance.sink_targets import FolderTarget, read_parquet

ROWS = 3000


class Worker:
    """One life of ``sink_worker``."""

    def __init__(self, crash: str = "", **spec: object) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.sink_worker", json.dumps({"rows": ROWS, **spec})],
            env={**os.environ, "STREAMCORE_CRASH_POINT": crash, "POLARS_MAX_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )

    def wait_for(self, word: str) -> None:
        assert self._process.stdout is not None
        assert any(line.startswith(word) for line in self._process.stdout), f"it ended without {word!r}"

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self) -> int:
        """Its exit code; negative for a signal."""
        self._process.communicate(timeout=60)
        return self._process.returncode


# ---- kill -9


def ids_in(folder: Path) -> list[int]:
    return sorted(pl.read_parquet(folder / "**/*.parquet", columns=["id"])["id"].to_list())


@pytest.mark.parametrize("point", ["files.before_seal:3", "files.after_seal:1", "files.after_outputs:2"])
def test_files_after_kill_9_at_a_crash_point(tmp_path: Path, point: str) -> None:
    target = str(tmp_path / "out")
    dead = Worker(point, sink="files", target=target, cut=170, owner="dead").end()
    assert dead == -signal.SIGKILL, "a run that ended before its fault is invalid"
    assert Worker(sink="files", target=target, cut=113, owner="heir").end() == 0
    assert ids_in(tmp_path / "out") == list(range(ROWS))
    litter = [path for path in (tmp_path / "out").rglob(".*") if path.is_file()]
    assert not litter, "what the dead owner left aside is cleared away"


@pytest.mark.chaos
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(8))
def test_files_after_kill_9_at_random(tmp_path: Path, seed: int) -> None:
    target, dice, killed = str(tmp_path / "out"), random.Random(seed), 0
    for life in range(5):
        worker = Worker(sink="files", target=target, cut=dice.randint(3, 40), owner=f"life-{life}")
        worker.wait_for("open")
        time.sleep(dice.random() * 0.15)
        worker.signal(signal.SIGKILL)
        killed += worker.end() == -signal.SIGKILL
    assert killed, "a run that ended before its fault is invalid"
    assert Worker(sink="files", target=target, cut=200, owner="last").end() == 0
    assert ids_in(tmp_path / "out") == list(range(ROWS))


async def with_world(target: SinkTarget, test: Callable[[World], object]) -> None:
    world = World(target, COLUMNS)
    await target.start()
    try:
        await test(world)  # type: ignore[misc]
    finally:
        for writer in world.writers:
            await writer.close()
        await target.close()


# ---- the disk


@pytest.mark.parametrize("kind", [Parquet, Csv, JsonLines])
async def test_a_full_disk_stops_with_the_path_and_confirms_nothing(
    kind: type[_FileSink], monkeypatch: pytest.MonkeyPatch
) -> None:
    """/dev/full gives the kernel's own ENOSPC to the file that polars writes to."""
    target = FolderTarget(kind, "**/*.*", read_parquet)
    assert isinstance(target.sink, _FileSink)
    format = type(target.sink.format)
    wanted = format.write

    async def test(world: World) -> None:
        writer = await world.writer()
        await writer.open({ORDERS: 0})
        await deliver(writer, batches_of(frame_of(range(9000)), [], ORDERS))
        with monkeypatch.context() as patch, open("/dev/full", "wb") as full:
            patch.setattr(format, "write", lambda self, frame, _, to=full: wanted(self, frame, to))
            with pytest.raises(Permanent, match=r"No space left.*make room") as caught:
                await writer.flush(FlushReason.END)
        assert str(target.folder) in str(caught.value)
        assert await target.positions() == {ORDERS: 0}
        assert not [
            path for path in target.folder.rglob("*") if path.is_file() and path.stat().st_size > 1000
        ]
        assert await writer.flush(FlushReason.END) == {ORDERS: 9000}

    await with_world(target, test)


@pytest.mark.parametrize("after", range(6))
async def test_a_failing_fsync_is_never_ignored(after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    target = FolderTarget(Parquet, "**/*.parquet", read_parquet)

    async def test(world: World) -> None:
        writer = await world.writer("worker-1")
        await writer.open({ORDERS: 0})
        await deliver(writer, batches_of(frame_of(range(9)), [], ORDERS))
        left, fsync = [after], os.fsync

        def failing(descriptor: int) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            fsync(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", failing)
            if after < 5:  # outputs, their folder, the seal, its folder, the outputs' folder
                with pytest.raises(Permanent, match="Input/output error"):
                    await writer.flush(FlushReason.END)
            else:
                assert await writer.flush(FlushReason.END) == {ORDERS: 9}
        heir = await world.writer("worker-2")
        start = (await heir.open({ORDERS: 0}))[ORDERS]
        await deliver(heir, batches_of(frame_of(range(start, 9)), [], ORDERS, first=start), FlushReason.END)
        assert_same_rows(await target.rows(), frame_of(range(9)))

    await with_world(target, test)
