"""Files in S3 under faults: lost replies, kill -9, zombies, uploads that somebody aborted."""

from __future__ import annotations

import asyncio
import io
import random
import signal
import time
from collections.abc import Callable
from functools import partial
from typing import BinaryIO

import polars as pl
import pytest

from streamcore.batch import PartitionId
from streamcore.contracts import FlushReason
from streamcore.errors import Fenced, Permanent, Transient
from streamcore.sinks import Parquet
from streamcore.sinks.bucket_storage import PART_BYTES, BucketStorage, bucket_storage
from streamcore.sinks.file_seals import SealChain
from streamcore.sinks.storage import Output
from streamcore.systems import s3_client
from streamcore.testing.sink_world import (
    COLUMNS,
    ORDERS,
    World,
    assert_same_rows,
    batches_of,
    deliver,
    frame_of,
    until_done,
)
from tests.conformance.s3_targets import BucketTarget, ProxiedBucket
from tests.conformance.sink_targets import read_parquet
from tests.faults.sink_worker import FENCED_EXIT
from tests.faults.test_sink_faults import ROWS, Worker
from tests.services.s3 import S3Server

PARTITION = PartitionId("orders", 3, "c/1")
LOST = {
    "the beginning of an upload": b"POST /{bucket}/out/rows/",
    "a part": b"partNumber=1",
    "a seal": b"PUT /{bucket}/out/rows/_seals/",
    "the end of an upload": b"<CompleteMultipartUpload",
}


def target_of(server: S3Server) -> BucketTarget:
    return BucketTarget(server, Parquet, "**/*.parquet", read_parquet)


# ---- the network


@pytest.mark.parametrize("what", LOST)
async def test_a_lost_reply_neither_loses_nor_doubles(s3: S3Server, what: str) -> None:
    target = ProxiedBucket(s3, Parquet, "**/*.parquet", read_parquet)
    await target.start()
    world = World(target, COLUMNS)
    try:
        writer = await world.writer()
        await writer.open({ORDERS: 0})
        await deliver(writer, batches_of(frame_of(range(50)), [20], ORDERS))
        target.proxy.lose_reply_to(LOST[what].replace(b"{bucket}", target.bucket.encode()))
        assert await writer.flush(FlushReason.END) == {ORDERS: 50}
        assert target.proxy.lost == 1
        await deliver(writer, batches_of(frame_of(range(50, 60)), [], ORDERS, first=50))
        assert await writer.flush(FlushReason.END) == {ORDERS: 60}
        assert_same_rows(await target.rows(), frame_of(range(60)))
        heir = await world.writer("heir")
        assert await heir.open({ORDERS: 0}) == {ORDERS: 60}
        assert target.uploads() == [], "an upload whose id was lost is litter, which the next owner removes"
        with pytest.raises(Fenced):
            await deliver(writer, batches_of(frame_of(range(60, 61)), [], ORDERS, first=60), FlushReason.END)
    finally:
        for one in world.writers:
            await one.close()
        await target.close()


async def test_a_server_that_does_not_answer_is_transient_and_nothing_is_lost(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = ProxiedBucket(s3, Parquet, "**/*.parquet", read_parquet)
    await target.start()
    world = World(target, COLUMNS)
    try:
        writer = await world.writer()
        await writer.open({ORDERS: 0})
        await deliver(writer, batches_of(frame_of(range(30)), [], ORDERS))
        target.proxy.freeze()
        monkeypatch.setattr(s3_client, "DEADLINE", 0.5)
        for _ in range(2):
            with pytest.raises(Transient, match="did not answer within"):
                await writer.flush(FlushReason.END)
        target.proxy.thaw()
        monkeypatch.setattr(s3_client, "DEADLINE", 20)
        assert await until_done(partial(writer.flush, FlushReason.END)) == {ORDERS: 30}
        assert_same_rows(await target.rows(), frame_of(range(30)))
    finally:
        for one in world.writers:
            await one.close()
        await target.close()


# ---- kill -9 and SIGSTOP


def ids_in(target: BucketTarget) -> list[int]:
    keys = [key for key in target.keys("out/rows/") if "/_seals/" not in key]
    frames = [pl.read_parquet(io.BytesIO(target.body(key)), columns=["id"]) for key in keys]
    return sorted(pl.concat(frames)["id"].to_list())


@pytest.mark.parametrize(
    "point",
    [
        "files.after_seal:1",
        pytest.param("files.before_seal:3", marks=pytest.mark.slow),
        pytest.param("files.after_outputs:2", marks=pytest.mark.slow),
    ],
)
def test_objects_after_kill_9_at_a_crash_point(s3: S3Server, point: str) -> None:
    target = target_of(s3)
    dead = Worker(point, sink="files", target=target.uri(), cut=170, owner="dead").end()
    assert dead == -signal.SIGKILL, "a run that ended before its fault is invalid"
    assert Worker(sink="files", target=target.uri(), cut=313, owner="heir").end() == 0
    assert ids_in(target) == list(range(ROWS))
    assert target.uploads() == [], "what the dead owner left aside is cleared away"


@pytest.mark.chaos
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(5))
def test_objects_after_kill_9_at_random(s3: S3Server, seed: int) -> None:
    target, dice, killed = target_of(s3), random.Random(seed), 0
    for life in range(4):
        worker = Worker(sink="files", target=target.uri(), cut=dice.randint(30, 90), owner=f"life-{life}")
        worker.wait_for("open")
        time.sleep(dice.random() * 0.3)
        worker.signal(signal.SIGKILL)
        killed += worker.end() == -signal.SIGKILL
    assert killed, "a run that ended before its fault is invalid"
    assert Worker(sink="files", target=target.uri(), cut=300, owner="last").end() == 0
    assert ids_in(target) == list(range(ROWS))
    assert target.uploads() == []


@pytest.mark.slow
@pytest.mark.parametrize("point", ["files.before_seal", "files.after_seal"])
def test_a_zombie_that_stood_still_writes_nothing_after_the_takeover(s3: S3Server, point: str) -> None:
    target = target_of(s3)
    zombie = Worker(sink="files", target=target.uri(), cut=500, owner="zombie", stop_at=point)
    zombie.wait_for("stopped")
    assert Worker(sink="files", target=target.uri(), cut=700, owner="heir").end() == 0
    assert ids_in(target) == list(range(ROWS))
    zombie.signal(signal.SIGCONT)
    assert zombie.end() == FENCED_EXIT
    assert ids_in(target) == list(range(ROWS))


# ---- uploads


def chain(target: BucketTarget, owner: str) -> SealChain:
    return SealChain(bucket_storage(target.uri()), "topology", "sink", PARTITION, owner)


def alive(name: str) -> None:
    """A crash point at which nothing happens."""


class Died(BaseException):
    pass


def dies_at(point: str) -> Callable[[str], None]:
    def crash_point(name: str) -> None:
        if name == point:
            raise Died

    return crash_point


def test_a_large_output_goes_in_parts_and_arrives_whole(s3: S3Server) -> None:
    target = target_of(s3)
    owner = chain(target, "one")
    owner.take_over(0)
    block = bytes(range(256)) * 4096
    count = 2 * PART_BYTES // len(block) + 3

    def write(file: object) -> None:
        for _ in range(count):
            file.write(block)  # type: ignore[attr-defined]

    names = [
        owner.output_name(".bin"),
        f"a=1/{owner.output_name('.bin')}",
        f"a=2/{owner.output_name('.bin')}",
    ]
    contents = [write, lambda file: file.write(b"x") and None, lambda file: None]
    owner.add(7, 1, [Output(*pair) for pair in zip(names, contents, strict=True)], alive)
    assert [target.body(f"out/rows/{name}") for name in names] == [block * count, b"x", b""]
    assert chain(target, "two").take_over(0) == 7


@pytest.mark.parametrize("near", [0, 5, 100_000, 30_000_000, 30_000_001, 9_000_000_000])
def test_the_last_seal_is_found_from_any_position(s3: S3Server, near: int) -> None:
    target = target_of(s3)
    owner = chain(target, "one")
    owner.take_over(5)
    assert chain(target, "empty").take_over(near) == 5
    owner = chain(target, "two")
    owner.take_over(near)
    for end in (100_000, 30_000_000):
        owner.add(end, 0, [], alive)
    assert chain(target, "three").take_over(near) == 30_000_000


def test_an_owner_whose_upload_an_heir_took_away_is_fenced(s3: S3Server) -> None:
    target = target_of(s3)
    owner = chain(target, "one")
    owner.take_over(0)
    block = b"x" * PART_BYTES

    def write(file: BinaryIO) -> None:
        file.write(block)
        chain(target, "heir").take_over(0)
        file.write(block)

    with pytest.raises(Fenced):
        owner.add(4, 1, [Output(owner.output_name(".txt"), write)], alive)
    assert target.uploads() == []


@pytest.mark.parametrize(("heir_came", "told"), [(True, Fenced), (False, Transient)])
def test_a_connection_that_breaks_while_parts_are_sent_may_mean_an_heir(
    s3: S3Server, heir_came: bool, told: type[Exception]
) -> None:
    """The server closes it under the body of a part whose upload is gone."""
    target = target_of(s3)
    owner = chain(target, "one")
    owner.take_over(0)

    def write(file: BinaryIO) -> None:
        file.write(b"x" * PART_BYTES)
        if heir_came:
            chain(target, "heir").take_over(0)
        raise Transient("no connection")

    with pytest.raises(told):
        owner.add(4, 1, [Output(owner.output_name(".txt"), write)], alive)
    assert target.uploads() == []


def test_a_seal_that_an_heir_makes_at_the_last_moment_wins(s3: S3Server) -> None:
    """After all that a late owner looks at: only the condition of its put keeps it from sealing."""
    target = target_of(s3)
    owner = chain(target, "one")
    owner.take_over(0)

    def heir_comes(point: str) -> None:
        if point == "files.before_seal":
            assert chain(target, "heir").take_over(0) == 0

    output = Output(owner.output_name(".txt"), lambda file: file.write(b"late") and None)
    with pytest.raises(Fenced):
        owner.add(4, 1, [output], heir_comes)
    assert chain(target, "last").take_over(0) == 0
    assert not [key for key in target.keys("out/rows/") if key.endswith(".txt")]


def test_a_slow_heir_does_not_abort_what_a_later_owner_is_writing(s3: S3Server) -> None:
    target = target_of(s3)
    chain(target, "dead").take_over(0)
    slow, later = chain(target, "slow"), chain(target, "later")
    clean = slow._finish_sealed

    def late(mark: object) -> None:
        later.take_over(0)
        output = Output(later.output_name(".txt"), lambda file: file.write(b"later") and None)
        with pytest.raises(Died):
            later.add(4, 1, [output], dies_at("files.after_seal"))
        clean(mark)  # type: ignore[arg-type]

    slow._finish_sealed = late  # type: ignore[method-assign]
    slow.take_over(0)
    with pytest.raises(Fenced):
        slow.add(2, 1, [Output(slow.output_name(".txt"), lambda file: file.write(b"slow") and None)], alive)
    assert chain(target, "last").take_over(0) == 4
    assert [target.body(k) for k in target.keys("out/rows/") if k.endswith(".txt")] == [b"later"]
    assert target.uploads() == []


def test_a_sealed_upload_that_somebody_aborted_is_an_error(s3: S3Server) -> None:
    target = target_of(s3)
    owner = chain(target, "one")
    owner.take_over(0)
    output = Output(owner.output_name(".txt"), lambda file: file.write(b"rows") and None)
    with pytest.raises(Died):
        owner.add(4, 1, [output], dies_at("files.after_seal"))
    for upload in s3.client.list_multipart_uploads(Bucket=target.bucket)["Uploads"]:
        s3.client.abort_multipart_upload(Bucket=target.bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    with pytest.raises(Permanent, match=r"neither waiting nor completed: rows are lost"):
        owner.add(4, 1, [output], alive)


async def test_a_server_that_overwrites_in_spite_of_the_condition_is_refused(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamcore.systems.s3.Bucket.create", lambda self, key, content: True)
    storage: BucketStorage = bucket_storage(target_of(s3).uri())
    with pytest.raises(Permanent, match="overwrites in spite of If-None-Match"):
        await asyncio.to_thread(storage.prepare, "owner")
