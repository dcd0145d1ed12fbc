"""Changes of MongoDB as rows that came and rows that are gone. Pure.

A row is a document, whole, as JSON. A document that is gone is told by its ``_id``, as the JSON of a row says
it: a number or a text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl

from batch_adapters.documents import DocumentPage, RefusedDocument
from batch_adapters.key_ranges import Key
from streamcore.batch import FrameChunk, PartitionId
from streamcore.contracts.unbounded import Taken
from streamcore.sources.changes import runs
from streamcore.systems.mongo_changes import Event
from streamcore.systems.mongo_documents import ID, RefusedBson, Reply, id_text, plain

_NOWHERE = PartitionId("changes", 0, "changes")
_PUT = "put"
_TYPES: dict[type, type[pl.DataType]] = {bool: pl.Boolean, int: pl.Int64, float: pl.Float64}


def page_of(reply: Reply) -> DocumentPage:
    """The documents of *reply*."""
    refused = {place: RefusedDocument(*why) for place, why in reply.refused.items()}
    return DocumentPage(reply.texts, reply.ids, _key, refused)


def _key(value: object) -> Key:
    return (id_text(value),)


def parts_of(events: Sequence[Event], field: str | None, images: bool) -> Iterator[Taken]:
    """The rows of *events* in their order, by runs of rows that came or are gone.

    With *field* each is given the name of its collection. Without *images* an update of a document that was
    gone when the server looked it up is no row: that it is gone is told behind it.
    """
    told = [e for e in events if images or e.kind == "delete" or e.document is not None]
    kinds = [_PUT if event.kind != "delete" else type(plain(event.key)).__name__ for event in told]
    for start, end in runs(np.array(kinds, dtype=object)):
        run = told[start:end]
        yield _rows(run, field) if kinds[start] == _PUT else _gone(run, field)


def _rows(run: Sequence[Event], field: str | None) -> Taken:
    reply = Reply([], [], {})
    documents = [event.document or {ID: event.key} for event in run]
    if field is not None:
        documents = [{**one, field: event.collection} for one, event in zip(documents, run, strict=True)]
    broken = {place: event.bson for place, event in enumerate(run) if event.broken}
    reply.add(documents, (), broken)
    for place, event in enumerate(run):
        if event.document is None:
            message = "the server has no image of the document behind this change any more"
            reply.texts[place], reply.refused[place] = b"", RefusedBson("no_image", message, event.bson)
    refused = dict(sorted(reply.refused.items()))
    return Taken(page_of(reply._replace(refused=refused)).chunk(_NOWHERE, 0))


def _gone(run: Sequence[Event], field: str | None) -> Taken:
    keys = [plain(event.key) for event in run]
    columns = {ID: pl.Series(ID, keys, _TYPES.get(type(keys[0]), pl.String))}
    if field is not None:
        columns[field] = pl.Series(field, [event.collection for event in run], pl.String)
    frame = pl.DataFrame(columns)
    return Taken(FrameChunk(_NOWHERE, np.arange(len(run)), frame, first=0, end=len(run)), deleted=True)
