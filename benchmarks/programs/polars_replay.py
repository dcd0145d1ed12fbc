"""The embedded replay's work in plain polars, streaming. FILE and WORK are in the environment."""

from __future__ import annotations

import json
import os
import time

import polars as pl

began = time.perf_counter()
late = (
    pl.scan_parquet(os.environ["FILE"])
    .filter(pl.col("distance") > 0)
    .filter(pl.sql_expr("delay > 15"))
    .with_columns(pl.sql_expr("case when delay < 60 then 'late' else 'very late' end").alias("band"))
    .filter(pl.col("origin").str.contains(r"^[A-Z]{3}$"))
)
late.sink_parquet(os.environ["WORK"] + "/late.parquet")
print(json.dumps({"seconds": time.perf_counter() - began}))
