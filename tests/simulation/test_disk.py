"""The played disk loses what may be lost and nothing else; the embedded log's directory survives that."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pytest

from streamcore.batch import PartitionId
from streamcore.contracts import Records
from streamcore.sinks.file_seals import SealChain
from streamcore.sinks.folder_storage import FolderStorage
from streamcore.sinks.storage import Output
from streamcore.transport.embedded_blocks import to_batch
from streamcore.transport.embedded_broker import Broker
from tests.simulation.files import Files
from tests.simulation.loop import Killed, Process, VirtualLoop

SEEDS = range(30)


class Machine:
    """A disk below *root*, and a process on it."""

    def __init__(self, root: Path, seed: int) -> None:
        root.mkdir()
        self.loop = VirtualLoop(lambda: 0.001)
        self.files = Files(root, random.Random(seed), lambda _: None)

    def run(self, work: Callable[[], object]) -> Process:
        """Let a new process do *work* now."""
        process = Process(self.loop, "p")

        async def live() -> None:
            work()

        task = process.start(live())
        self.loop.run_until_complete(_over(task))
        if not process.dead:
            task.result()
        return process


async def _over(task: asyncio.Task[None]) -> None:
    await asyncio.wait([task])


@contextmanager
def machine(root: Path, seed: int) -> Iterator[Machine]:
    made = Machine(root, seed)
    try:
        with made.files.played():
            yield made
    finally:
        made.files.restart(power=False)
        made.loop.close()


def _written(path: Path, content: bytes, *, file: bool, folder: bool) -> None:
    with open(path, "wb") as opened:
        opened.write(content)
        opened.flush()
        if file:
            os.fsync(opened.fileno())
    if folder:
        fd = os.open(path.parent, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)


@pytest.mark.parametrize(("file", "folder"), [(True, True), (True, False), (False, True)])
def test_a_file_is_there_for_good_when_it_and_its_name_were_fsynced(
    tmp_path: Path, file: bool, folder: bool
) -> None:
    found = set()
    for seed in SEEDS:
        path = tmp_path / str(seed) / "file"
        with machine(path.parent, seed) as made:
            made.run(lambda path=path: _written(path, b"x" * 20, file=file, folder=folder))  # type: ignore[misc]
            made.files.restart(power=True)
            found.add(path.read_bytes() if path.exists() else None)
    assert b"x" * 20 in found
    assert (len(found) == 1) == (file and folder)
    assert (None in found) == (not folder)


def test_a_kill_alone_loses_nothing(tmp_path: Path) -> None:
    for seed in SEEDS:
        path = tmp_path / str(seed) / "file"
        with machine(path.parent, seed) as made:
            made.run(lambda path=path: _written(path, b"x", file=False, folder=False))  # type: ignore[misc]
            made.files.restart(power=False)
            assert path.read_bytes() == b"x"


def test_a_process_dies_before_a_call_and_does_nothing_more(tmp_path: Path) -> None:
    def work() -> None:
        try:
            (root / "a").mkdir()
            (root / "b").mkdir()
        finally:
            with pytest.raises(Killed):
                (root / "c").mkdir()

    root = tmp_path / "root"
    with machine(root, 0) as made:
        made.files.dies_in = 2
        assert made.run(work).dead
        assert os.listdir(root) == ["a"]


def _sealed(folder: Path, owner: str) -> int:
    """Take a partition over and write one more range into a hive folder; where that began."""
    chain = SealChain(FolderStorage(folder), "topology", "sink", PartitionId("t", 0, "id"), owner)
    start = chain.take_over(0)

    def write(file: BinaryIO) -> None:
        file.write(b"row")

    chain.add(start + 1, 1, [Output(f"a=1/b=2/{start}", write)], lambda _: None)
    return start


def test_files_that_were_sealed_outlast_the_power_wherever_the_process_before_died(tmp_path: Path) -> None:
    """Names of folders that a killed process made, and did not fsync, are made durable by the next one."""
    call, died = 0, True
    while died:
        call += 1
        root = tmp_path / str(call)
        with machine(root, call) as made:
            folder, ends = root / "out", list[int]()
            made.files.dies_in = call
            died = made.run(lambda folder=folder: _sealed(folder, "first")).dead  # type: ignore[misc]
            made.files.restart(power=False)
            made.run(lambda folder=folder, ends=ends: ends.append(_sealed(folder, "second") + 1))  # type: ignore[misc]
            made.files.restart(power=True)
            found = {path.name for path in folder.glob("a=1/b=2/*")}
            assert found == {str(start) for start in range(ends[0])}, call
    assert call > 20


def _records(first: int, count: int) -> pa.RecordBatch:
    values = pa.array([b"%d" % n for n in range(first, first + count)], pa.binary())
    return to_batch(Records(values, np.zeros(count, np.int64)))


def test_a_log_that_was_synced_is_there_after_any_power_loss(tmp_path: Path) -> None:
    """Its folders too, and what was appended since may be there in any part: the log begins all the same."""
    kept = set()
    for seed in SEEDS:
        root = tmp_path / str(seed)
        with machine(root, seed) as made:
            ends: list[int] = []

            def first(root: Path = root) -> None:
                broker = Broker(f"embedded://power{root}/log", segment_bytes=400)
                broker.create("t", 2)
                for number in range(6):
                    broker.append("t", 0, _records(number, 1))
                broker.topic("t").logs[0].sync()  # type: ignore[union-attr]
                for number in range(6, 9):
                    broker.append("t", 0, _records(number, 1))

            def again(root: Path = root, ends: list[int] = ends) -> None:
                broker = Broker(f"embedded://power{root}/log", segment_bytes=400)
                log = broker.topic("t").logs[0]  # type: ignore[union-attr]
                chunk = log.read(0, 1 << 20)
                assert chunk is not None
                assert chunk.values() == [b"%d" % n for n in range(log.end)]
                ends.append(log.end)

            made.run(first)
            for _ in range(2):
                made.files.restart(power=True)
                made.run(again)
            assert ends[0] == ends[1] >= 6
            kept.add(ends[0])
    assert len(kept) > 1


def _appended(root: Path) -> int:
    """Open the log, append one record, make it durable; the log's end."""
    broker = Broker(f"embedded://power{root}/log")
    broker.create("t", 1)
    broker.append("t", 0, _records(0, 1))
    log = broker.topic("t").logs[0]  # type: ignore[union-attr]
    log.sync()
    return log.end


def test_a_log_that_was_synced_outlasts_the_power_wherever_the_process_before_died(tmp_path: Path) -> None:
    call, died = 0, True
    while died:
        call += 1
        root = tmp_path / str(call)
        with machine(root, call) as made:
            ends: list[int] = []
            made.files.dies_in = call
            died = made.run(lambda root=root: _appended(root)).dead  # type: ignore[misc]
            made.files.restart(power=False)
            for _ in range(2):
                made.run(lambda root=root, ends=ends: ends.append(_appended(root)))  # type: ignore[misc]
                made.files.restart(power=True)
            assert ends[1] == ends[0] + 1, call
    assert call > 20
