"""Formats of files: the suffixes that tell them, their options, and how one file is opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from pydantic import BaseModel

from batch_adapters.avro import AvroFile, AvroOptions
from batch_adapters.csv import CsvFile, CsvOptions
from batch_adapters.excel import ExcelFile, ExcelOptions
from batch_adapters.files import InputFile
from batch_adapters.json import JsonFile, JsonOptions
from batch_adapters.parquet import ParquetFile, ParquetOptions
from batch_adapters.text_stream import COMPRESSION_SUFFIXES
from streamcore.contracts import BoundedSource, SourceAbilities
from streamcore.errors import BadConfig, did_you_mean


@dataclass(frozen=True, slots=True)
class FileFormat:
    """A format of files: the suffixes that tell it, its options, and how one file is opened.

    ``compressed``: whether ``.gz`` and ``.zst`` may follow the suffix. ``presets``: options that a
    suffix implies. ``abilities``: of files that are not compressed. ``extra``: what has to be installed.
    """

    suffixes: tuple[str, ...]
    options: type[BaseModel]
    open: Callable[[InputFile, Mapping[str, object]], BoundedSource]
    compressed: bool = True
    presets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    abilities: SourceAbilities = field(default_factory=SourceAbilities)
    extra: str | None = None


FORMATS: Mapping[str, FileFormat] = {
    "csv": FileFormat(
        (".csv", ".tsv"),
        CsvOptions,
        lambda file, options: CsvFile(file, CsvOptions.model_validate(options)),
        presets={".tsv": {"delimiter": "\t"}},
    ),
    "json": FileFormat(
        (".json", ".ndjson", ".jsonl"),
        JsonOptions,
        lambda file, options: JsonFile(file, JsonOptions.model_validate(options)),
        presets={".ndjson": {"layout": "lines"}, ".jsonl": {"layout": "lines"}},
        abilities=SourceAbilities(columns=False),
    ),
    "parquet": FileFormat(
        (".parquet", ".pq"),
        ParquetOptions,
        lambda file, options: ParquetFile(file, ParquetOptions.model_validate(options)),
        compressed=False,
    ),
    "avro": FileFormat(
        (".avro",),
        AvroOptions,
        lambda file, options: AvroFile(file, AvroOptions.model_validate(options)),
        compressed=False,
    ),
    "excel": FileFormat(
        (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods"),
        ExcelOptions,
        lambda file, options: ExcelFile(file, ExcelOptions.model_validate(options)),
        compressed=False,
        abilities=SourceAbilities(splits=False),
        extra="excel",
    ),
}


def suffix_of(path: str) -> tuple[str, bool]:
    """The suffix that tells the format, and whether one of compression follows it."""
    name = PurePosixPath(path.lower()).name
    for ending in COMPRESSION_SUFFIXES:
        if name.endswith(ending):
            return PurePosixPath(name[: -len(ending)]).suffix, True
    return PurePosixPath(name).suffix, False


def format_of(paths: Sequence[str], pattern: str, wanted: str | None) -> str:
    """The one format of all *paths*."""
    if wanted is not None:
        if wanted not in FORMATS:
            raise BadConfig("unknown format", got=wanted, allowed=FORMATS, fix=did_you_mean(wanted, FORMATS))
        return wanted
    by_suffix = {suffix: name for name, entry in FORMATS.items() for suffix in entry.suffixes}
    found: dict[str, str] = {}
    for path in paths:
        suffix, compressed = suffix_of(path)
        name = by_suffix.get(suffix)
        if name is None:
            hint = did_you_mean(suffix, by_suffix)
            raise BadConfig(
                "cannot tell the file's format by its name",
                where=path,
                got=suffix or PurePosixPath(path).name,
                allowed=by_suffix,
                fix=f"{f'{hint} or ' if hint else ''}give format=",
            )
        if compressed and not FORMATS[name].compressed:
            raise BadConfig(f"{name} files are not read compressed", where=path, fix="decompress it first")
        found.setdefault(name, path)
    if len(found) > 1:
        raise BadConfig(
            "files of several formats",
            where=pattern,
            got=", ".join(f"{name} ({PurePosixPath(path).name})" for name, path in sorted(found.items())),
            fix="name the files of one format, e.g. with *.csv, or give format=",
        )
    return next(iter(found))
