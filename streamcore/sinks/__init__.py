"""Where rows go: the catalogue of sinks, ``sc.sinks.…``."""

from streamcore.sinks.files import Csv, JsonLines, Parquet

__all__ = ["Csv", "JsonLines", "Parquet"]
