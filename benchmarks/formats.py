"""What a row of W1 costs by format, and fastavro's rows beside ours: ``python -m benchmarks formats``."""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Callable

import fastavro

from benchmarks.seeding import users
from streamcore.batch import PartitionId, RecordChunk
from streamcore.contracts import Format
from streamcore.formats import Avro, Json, decoder_for
from streamcore.formats.avro_schema import schema_of
from streamcore.schema import StreamSchema

ROWS = 20_000
_RUNS = 7


def _best(run: Callable[[], object]) -> float:
    """CPU us a row, the least of some runs."""
    took = []
    for _ in range(_RUNS):
        began = time.process_time()
        run()
        took.append(time.process_time() - began)
    return min(took) / ROWS * 1e6


def costs(form: Format) -> tuple[float, float]:
    """CPU us a row of decoding to checked columns, and of encoding."""
    frame = users(0, ROWS)
    schema = StreamSchema.from_columns(frame.schema)
    chunk = RecordChunk(PartitionId("users", 0, "x"), range(ROWS), form.encode(frame).to_pylist())
    decoder = decoder_for(form, schema)
    assert decoder.decode(chunk).frame.height == ROWS
    return _best(lambda: decoder.decode(chunk)), _best(lambda: form.encode(frame))


def fastavro_rows() -> float:
    """CPU us of reading one record into a dictionary."""
    frame = users(0, ROWS)
    schema = fastavro.parse_schema(json.loads(schema_of(frame.schema)))
    values = Avro().encode(frame).to_pylist()
    return _best(lambda: [fastavro.schemaless_reader(io.BytesIO(value), schema, None) for value in values])


if __name__ == "__main__":
    assert os.environ.get("POLARS_MAX_THREADS") == "1", "as a worker has it"
    rows = fastavro_rows()
    for form in (Avro(), Json()):
        decode, encode = costs(form)
        print(f"{form.name}: decode {decode:.2f}, encode {encode:.2f} us a row", flush=True)
        if isinstance(form, Avro):
            print(f"fastavro's rows: {rows:.2f} us, {rows / decode:.1f} times ours", flush=True)
