"""Rows a second to and from S3: ``python -m benchmarks.objects``, on a server of its own.

The rows of :mod:`benchmarks.sinks` as Parquet (zstd, level 1) by the sink, beside plain pyarrow on its own
S3 client (in C++), whose table is ready before its clock starts and which writes one object and no seal; and
the same object read by the source and by pyarrow.
"""

from __future__ import annotations

import asyncio

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq

from batch_adapters.catalogue import open_source
from benchmarks.sinks import ROWS, batches, into, measured, rows
from benchmarks.sources import read
from streamcore.sinks import Parquet
from tests.services import s3
from tests.services.s3 import ACCESS_KEY, SECRET_KEY, S3Server

RUNS = 5


async def main(server: S3Server) -> None:
    frame = rows()
    table, parts = frame.to_arrow(), batches(frame)
    bucket = server.fresh_bucket()["BUCKET"]
    files = pyarrow.fs.S3FileSystem(
        access_key=ACCESS_KEY,
        secret_key=SECRET_KEY,
        scheme="http",
        endpoint_override=server.endpoint.removeprefix("http://"),
        region="us-east-1",
    )

    async def plain() -> None:
        name = f"{bucket}/plain.parquet"
        pq.write_table(table, name, filesystem=files, compression="zstd", compression_level=1)

    fresh = (server.uri(f"{bucket}/ours{number}") for number in range(99))
    make = into(lambda: Parquet(next(fresh)), parts, frame.schema)
    shares = []
    for _ in range(RUNS):
        base = await measured("pyarrow, write_table", plain, best_of=1)
        shares.append(await measured("Parquet sink in S3", make, best_of=1) / base)
    print(f"{'':42} {sorted(shares)[RUNS // 2]:12.0%} of pyarrow, median of {RUNS}")
    await reading(server, bucket, files)


async def reading(server: S3Server, bucket: str, files: pa.fs.S3FileSystem) -> None:
    async def plain() -> None:
        for _ in pq.ParquetFile(f"{bucket}/plain.parquet", filesystem=files).iter_batches():
            pass

    async def ours() -> None:
        (split,) = open_source(server.uri(f"{bucket}/plain.parquet")).splits(1)
        assert await asyncio.to_thread(read, split) == ROWS

    base = await measured("pyarrow, iter_batches", plain)
    print(f"{'':42} {await measured('source', ours) / base:12.0%} of pyarrow")


if __name__ == "__main__":
    running = s3.start()
    try:
        asyncio.run(main(running))
    finally:
        running.close()
