"""The first rows of a source, to look at and to tell its columns by."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

import polars as pl

from streamcore.batch import PartitionId
from streamcore.contracts import BoundedSource
from streamcore.schema.inferring import narrowed, of_documents

_CHUNK = 1 << 18
_NOBODY = PartitionId("sample", 0, "sample")


@dataclass(frozen=True, slots=True)
class Sample:
    """Rows as columns, in the source's order. ``refused``: of those read, how many are no rows.

    ``known``: the columns as the source knows them before it is read; None: it does not.
    """

    frame: pl.DataFrame
    refused: int
    known: pl.Schema | None

    @property
    def columns(self) -> pl.Schema:
        """The columns as the source knows them, those of texts by what is in them; else those of the rows."""
        found = narrowed(self.frame)
        if self.known is None:
            return found
        texts = all(dtype == pl.String for dtype in self.known.values())
        return pl.Schema({n: found.get(n, t) if texts else t for n, t in self.known.items()})


def sample(source: BoundedSource, rows: int) -> Sample:
    """The first *rows* of *source*, fewer at its end. Raises as its methods do."""
    known = source.columns()
    frames: list[pl.DataFrame] = []
    documents: list[bytes | None] = []
    refused = 0
    for split in source.splits(1):
        with closing(split.open(_NOBODY, 0, split.bookmark)) as reader:
            while rows > sum(frame.height for frame in frames) + len(documents):
                chunk = reader.read(_CHUNK)
                if chunk is None:
                    break
                refused += len(chunk.rejects)
                if chunk.frame is not None:
                    frames.append(chunk.frame)
                else:
                    documents += chunk.values()
    if frames:
        return Sample(pl.concat(frames, how="diagonal_relaxed").head(rows), refused, known)
    frame, no_objects = of_documents(documents[:rows])
    return Sample(frame, refused + no_objects, known)
