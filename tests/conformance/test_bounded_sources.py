"""Every bounded source of the catalogue keeps the laws of its contract."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import cramjam
import fastavro
import polars as pl
import xlsxwriter

from batch_adapters.catalogue import FORMATS, open_source
from streamcore.contracts import BoundedSource
from streamcore.testing.sources import (
    FileSourceConformance,
    ReadRecord,
    SourceContent,
    StreamedSourceConformance,
)

STRINGS = {"id": pl.String(), "name": pl.String()}


def csv_text(content: SourceContent, bad: str, gap: str) -> str:
    """Rows as CSV, *gap* in the names instead of a space, *bad* as bad record."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    if content.rows:
        writer.writerow(["id", "name"])
    for i, row in enumerate(content.good(), 1):
        writer.writerow([row["id"], str(row["name"]).replace(" ", gap)])
        if content.bad_every and i % content.bad_every == 0:
            out.write(bad)
    return out.getvalue()


class CsvLaws(StreamedSourceConformance):
    """CSV in some shape of file."""

    file = "rows.csv"
    bad_code = "ragged"
    known_columns = STRINGS
    bad = "1,2,3\r\n"
    gap = " "

    def write(self, folder: Path, content: SourceContent) -> None:
        (folder / self.file).write_bytes(self.encode(csv_text(content, self.bad, self.gap)))

    def encode(self, text: str) -> bytes:
        return text.encode()

    def open(self, folder: Path) -> BoundedSource:
        return open_source(folder / self.file, min_split_bytes=1000, delimiter=",")

    def row_of(self, record: ReadRecord) -> Mapping[str, object]:
        number, name = record.value  # type: ignore[misc]  # a row of two columns
        return {"id": int(number), "name": name.replace(self.gap, " ")}


class TestCsv(CsvLaws):
    splits_of_four = 4


class TestCsvOfStrayQuotes(CsvLaws):
    bad_code = "quote"
    bad = '7,"x"y\r\n'
    splits_of_four = 4


class TestCsvOfQuotedNewlines(CsvLaws):
    splits_of_four = 4
    gap = "\n"


class TestCsvInUtf16(CsvLaws):
    def encode(self, text: str) -> bytes:
        return text.encode("utf-16")


class TestCsvInGzip(CsvLaws):
    file = "rows.csv.gz"

    def encode(self, text: str) -> bytes:
        return gzip.compress(text.encode())


class TestCsvInZstd(CsvLaws):
    file = "rows.csv.zst"

    def encode(self, text: str) -> bytes:
        return bytes(cramjam.zstd.compress(text.encode()))


class JsonLaws(StreamedSourceConformance):
    """JSON documents in some shape of file."""

    file = "rows.json"

    def documents(self, content: SourceContent) -> list[str]:
        return [json.dumps(row) for row in content.good()]

    def open(self, folder: Path) -> BoundedSource:
        return open_source(folder / self.file, min_split_bytes=1000, max_record_bytes=100)

    def row_of(self, record: ReadRecord) -> Mapping[str, object]:
        assert isinstance(record.value, bytes)
        row: Mapping[str, object] = json.loads(record.value)
        return row


class TestJsonLines(JsonLaws):
    file = "rows.ndjson"
    bad_code = "too_large"
    splits_of_four = 4

    def write(self, folder: Path, content: SourceContent) -> None:
        lines = self.documents(content)
        if content.bad_every:
            lines = [
                line + ("\n" + "x" * 101 if i % content.bad_every == 0 else "")
                for i, line in enumerate(lines, 1)
            ]
        (folder / self.file).write_text("".join(line + "\n" for line in lines))


class TestJsonArray(JsonLaws):
    bad_code = None

    def write(self, folder: Path, content: SourceContent) -> None:
        (folder / self.file).write_text("[" + ",\n  ".join(self.documents(content)) + "]\n")


class TestParquet(StreamedSourceConformance):
    known_columns = {"id": pl.Int64(), "name": pl.String()}
    splits_of_four = 4

    def write(self, folder: Path, content: SourceContent) -> None:
        schema = {"id": pl.Int64, "name": pl.String}
        pl.DataFrame(content.good(), schema=schema).write_parquet(folder / "rows.parquet", row_group_size=97)

    def open(self, folder: Path) -> BoundedSource:
        return open_source(folder / "rows.parquet")

    def row_of(self, record: ReadRecord) -> Mapping[str, object]:
        number, name = record.value  # type: ignore[misc]  # a row of two columns
        return {"id": number, "name": name}


class TestAvro(StreamedSourceConformance):
    known_columns = {"id": pl.Int64(), "name": pl.String()}
    splits_of_four = 4
    codec = "null"
    bookmarked = True

    def write(self, folder: Path, content: SourceContent) -> None:
        fields = [{"name": "id", "type": "long"}, {"name": "name", "type": "string"}]
        schema = {"type": "record", "name": "Row", "fields": fields}
        with (folder / "rows.avro").open("wb") as file:
            fastavro.writer(file, schema, content.good(), codec=self.codec, sync_interval=300)

    def open(self, folder: Path) -> BoundedSource:
        return open_source(folder / "rows.avro", min_split_bytes=100)

    def row_of(self, record: ReadRecord) -> Mapping[str, object]:
        number, name = record.value  # type: ignore[misc]  # a row of two columns
        return {"id": number, "name": name}


class TestAvroDeflated(TestAvro):
    codec = "deflate"


class TestExcel(FileSourceConformance):
    known_columns = {"id": pl.Int64(), "name": pl.String()}

    def write(self, folder: Path, content: SourceContent) -> None:
        with xlsxwriter.Workbook(folder / "rows.xlsx") as book:
            sheet = book.add_worksheet()
            if content.rows:
                sheet.write_row(0, 0, ["id", "name"])
            for i, row in enumerate(content.good(), 1):
                sheet.write_row(i, 0, row.values())

    def open(self, folder: Path) -> BoundedSource:
        return open_source(folder / "rows.xlsx")

    def row_of(self, record: ReadRecord) -> Mapping[str, object]:
        number, name = record.value  # type: ignore[misc]  # a row of two columns
        return {"id": number, "name": name}


class TestManyFiles(CsvLaws):
    """A folder of three files: their splits in the order of their names."""

    splits_of_one, splits_of_four = 3, 3

    def write(self, folder: Path, content: SourceContent) -> None:
        third = content.rows // 3
        starts = [0, third, 2 * third, content.rows]
        for i, (start, end) in enumerate(pairwise(starts)):
            part = SourceContent(end - start, content.start + start, content.bad_every)
            (folder / f"{i}.csv").write_text(csv_text(part, self.bad, self.gap), newline="")

    def open(self, folder: Path) -> BoundedSource:
        return open_source(folder, min_split_bytes=1000, delimiter=",")


def test_every_format_of_the_catalogue_is_under_the_suite() -> None:
    covered = {"avro", "csv", "json", "parquet", "excel"}
    assert covered == set(FORMATS)
