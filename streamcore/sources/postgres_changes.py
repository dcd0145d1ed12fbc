"""Changes of a table of PostgreSQL as rows that came and rows that are gone. Pure, in columns."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np
import polars as pl

from batch_adapters.refused_rows import PartlyRefusedChunk, Refused
from streamcore.batch import Chunk, FrameChunk, PartitionId
from streamcore.contracts.unbounded import Taken
from streamcore.errors import Permanent
from streamcore.sources.changes import runs
from streamcore.sources.pgoutput import (
    DELETE,
    INSERT,
    UPDATE,
    Bools,
    Changes,
    Int64s,
    PgColumn,
    Relation,
    Tuples,
)
from streamcore.sources.postgres_texts import frame_of

_NOWHERE = PartitionId("slot", 0, "slot")
_OPS = {"insert": INSERT, "update": UPDATE, "delete": DELETE}


def parts_of(changes: Changes, ops: Sequence[str], table: str, primary: Collection[str]) -> Iterator[Taken]:
    """The rows of *changes* that *ops* ask for, in their order, by runs of rows that came or are gone.

    *primary* is the primary key, which with replica identity full the log does not tell. A row that got
    another key is gone under the old one. Permanent when a delete does not say of which row.
    """
    new, unchanged = _with_what_is_known(changes)
    told = [_OPS[op] for op in ops]
    put = np.flatnonzero(np.isin(changes.kinds[changes.new_of], told))
    key = _key(changes.relation, primary)
    gone = _gone(changes, new, key) if "delete" in ops else np.empty(0, np.int64)
    if len(gone) and not key:
        raise _keyless(table)
    order = np.concatenate([changes.old_of[gone] * 2, changes.new_of[put] * 2 + 1])
    deleted = np.concatenate([np.ones(len(gone), bool), np.zeros(len(put), bool)])
    places = np.concatenate([gone, put])
    sorted_ = np.argsort(order, kind="stable")
    deleted, places = deleted[sorted_], places[sorted_]
    for start, end in runs(deleted):
        rows = places[start:end]
        if deleted[start]:
            yield Taken(_keys(changes, key, rows), deleted=True)
        else:
            yield Taken(_rows(changes, new, unchanged, rows))


def _texts(changes: Changes, tuples: Tuples) -> pl.DataFrame:
    names = [column.name for column in changes.relation.columns]
    return pl.DataFrame(dict(zip(names, tuples.columns, strict=True)))


def _with_what_is_known(changes: Changes) -> tuple[pl.DataFrame, Bools]:
    """The new rows as texts, and those of which a large value that did not change is not known."""
    texts = _texts(changes, changes.new)
    missing = np.zeros(texts.height, bool)
    if not any(column.any() for column in changes.new.unchanged):
        return texts, missing
    if not changes.relation.full:
        return texts, np.logical_or.reduce(changes.new.unchanged)
    old = _texts(changes, changes.old)
    places = np.searchsorted(changes.old_of, changes.new_of)  # each that has such a value has an old row
    filled = [
        pl.select(
            pl.when(pl.Series(absent))
            .then(old[name].gather(np.where(absent, places, 0)))
            .otherwise(texts[name])
            .alias(name)
        ).to_series()
        if absent.any()
        else texts[name]
        for name, absent in zip(texts.columns, changes.new.unchanged, strict=True)
    ]
    return pl.DataFrame(filled), missing


def _gone(changes: Changes, new: pl.DataFrame, key: Sequence[PgColumn]) -> Int64s:
    """The places in ``old`` of rows that are gone, or have another key now."""
    kinds = changes.kinds[changes.old_of]
    updates = np.flatnonzero(kinds == UPDATE)
    names = [column.name for column in key]
    gone = kinds == DELETE
    if len(updates) and not changes.relation.full:
        gone[updates] = True  # only where the key changed is an old one told
    elif len(updates):
        before = _texts(changes, changes.old).select(names)[updates]
        after = new.select(names)[np.searchsorted(changes.new_of, changes.old_of[updates])]
        same = pl.select(pl.all_horizontal(before[n].eq_missing(after[n]) for n in names)).to_series()
        gone[updates] = ~same.to_numpy()
    return np.flatnonzero(gone)


def _key(relation: Relation, primary: Collection[str]) -> list[PgColumn]:
    """The columns that say which row is gone; without a key all of them, if they are told."""
    told = [column for column in relation.columns if column.in_key]
    if not relation.full:
        return told
    return [column for column in told if column.name in primary] or told


def _keyless(table: str) -> Permanent:
    return Permanent(
        "a row is gone, and the log does not say which",
        where=table,
        fix=f"alter table {table} replica identity full, or give it a primary key; or ops=insert,update",
    )


def _keys(changes: Changes, key: Sequence[PgColumn], rows: Int64s) -> Chunk:
    """The keys of rows that are gone."""
    texts = _texts(changes, changes.old).select(column.name for column in key)[rows]
    frame, _ = frame_of(texts, key)
    return FrameChunk(_NOWHERE, np.arange(len(rows)), frame, first=0, end=len(rows))


def _rows(changes: Changes, new: pl.DataFrame, unchanged: Bools, rows: Int64s) -> Chunk:
    """Rows that came or changed, in their types; refused are those that none holds or that are not whole."""
    texts, absent = new[rows], unchanged[rows]
    frame, refused = frame_of(texts, changes.relation.columns)
    offsets, count = np.arange(len(rows)), len(rows)
    if refused is None and absent.any():
        message = "a large value that did not change is not in the log: alter table … replica identity full"
        refused = Refused(absent, texts.filter(pl.Series(absent)), "unchanged", message)
    elif refused is not None and absent.any():
        both = refused.rows | absent
        refused = Refused(both, texts.filter(pl.Series(both)), refused.code, refused.message)
    if refused is None:
        return FrameChunk(_NOWHERE, offsets, frame, first=0, end=count)
    return PartlyRefusedChunk(_NOWHERE, offsets, frame, refused, first=0, end=count)
