"""A MySQL table as the sink finds it at start, and how rows get into it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from streamcore.batch import DELETES
from streamcore.errors import BadConfig, Permanent
from streamcore.sinks.column_checks import ColumnChecks
from streamcore.sinks.keyed_table import ServerTable, met, not_made
from streamcore.sinks.mysql_columns import ColumnPair, TableColumn
from streamcore.systems.mysql import Session, constant, identifier
from streamcore.systems.sql import RefusedRows

_STATEMENT_BYTES, _SLICE_ROWS, _SPARE = 4 * 2**20, 50_000, 4_096
_RANGES_BYTES = 64 * 2**10
"""Of a statement that is a list of conditions: with too many of them MySQL looks at the whole table."""
_LENGTHS = {"char", "varchar"}


class _Statement(NamedTuple):
    """*start*, rows with something *between* them, *end*. ``most``: bytes of its rows, at most."""

    start: str
    row: pl.Expr
    end: str
    between: str = ","
    most: int = _STATEMENT_BYTES


def _newer(column: str, version: str | None) -> str:
    """What *column* is set to. Set one after the other, the version last: it is that of before until then."""
    if version is None:
        return f"values({column})"
    name = identifier(version)
    return f"if({name} is null or values({name}) >= {name}, values({column}), {column})"


class Table:
    """``checks`` finds rows that can't be stored; :meth:`write` stores the others."""

    def __init__(self, sink: ServerTable, pairs: Sequence[ColumnPair]) -> None:
        self._keys, self._where, self._merge = sink.keys, sink.name, sink.merge
        schema = pl.Schema({pair.table.name: pair.dtype for pair in pairs})
        self.checks = ColumnChecks(pairs, sink.keys, sink.merge.checks(schema))
        names = schema.names()
        self._constants = {pair.table.name: pair.constant() for pair in pairs}
        self._insert = f"insert into {sink.target} ({_list(names)}) values "
        self._then = ""
        self._delete = f"delete from {sink.target} where ({_list(sink.keys)}) in ("
        if sink.keys:
            set_ = self._merge.updated(names)
            changes = [f"{identifier(n)} = {_newer(identifier(n), sink.version)}" for n in set_]
            same = identifier(sink.keys[0])
            self._then = f" on duplicate key update {', '.join(changes) or f'{same} = {same}'}"
        self._most = _STATEMENT_BYTES

    @classmethod
    async def prepare(cls, session: Session, sink: ServerTable, columns: pl.Schema) -> Table:
        """Make what is missing and meet the columns: BadConfig or Permanent with the remedy."""
        for statement in sink.plan(columns):
            try:
                await session.run(statement)
            except Permanent as error:
                raise not_made(error, statement, sink.name) from None
        await _check_engine(session, sink)
        found, filled = await _table_columns(session, sink)
        pairs = [ColumnPair(*pair) for pair in met(found, filled, columns, sink.name)]
        sink.merge.check_stored(pairs, sink.name)
        if sink.keys:
            await _check_indexes(session, sink, columns)
        return cls(sink, pairs)

    async def begin(self, session: Session) -> None:
        """How long a statement may be."""
        ((packet,),) = await session.rows("select @@max_allowed_packet")
        self._packet = int(packet or 0) - _SPARE
        self._most = min(_STATEMENT_BYTES, self._packet)

    async def refuse_at_once(self, session: Session) -> None:
        """Nothing: MySQL checks constraints at each row."""

    async def write(self, session: Session, frame: pl.DataFrame) -> None:
        """The rows of *frame* (with hidden columns, in order) inside of the session's transaction."""
        insert = _Statement(self._insert, self._row(list(self._constants)), self._then)
        for rows in self._merge.rounds(frame, list(self._constants)):
            if not self._keys:
                await self._send(session, insert, rows)
                continue
            await self._send_deletes(session, rows.filter(DELETES))
            await self._send(session, insert, rows.filter(~DELETES))

    async def _send_deletes(self, session: Session, gone: pl.DataFrame) -> None:
        version = self._merge.version
        if version is not None:
            known = gone.filter(pl.col(version).is_not_null())
            gone = gone.filter(pl.col(version).is_null())
            same = [pl.lit(f"{identifier(n)} = ") + self._constants[n] for n in self._keys]
            name = identifier(version)
            older = pl.format(f"({name} is null or {name} <= {{}})", self._constants[version])
            row = "(" + pl.concat_str([*same, older], separator=" and ") + ")"
            start = self._delete.partition(" where ")[0] + " where "
            await self._send(session, _Statement(start, row, "", " or ", _RANGES_BYTES), known)
        await self._send(session, _Statement(self._delete, self._row(self._keys), ")"), gone)

    async def _send(self, session: Session, statement: _Statement, frame: pl.DataFrame) -> None:
        """One statement for as many rows as it may be long, encoded in a thread."""
        for part in frame.iter_slices(_SLICE_ROWS):
            for rows in await asyncio.to_thread(self._rows, part, statement):
                await session.run(f"{statement.start}{rows}{statement.end}".encode())

    def _row(self, names: Sequence[str]) -> pl.Expr:
        """A row as ``(1,'a')``."""
        return "(" + pl.concat_str([self._constants[name] for name in names], separator=",") + ")"

    def _rows(self, frame: pl.DataFrame, statement: _Statement) -> list[str]:
        """The rows of *statement*, in pieces."""
        texts = frame.select(statement.row.alias("row"))["row"]
        sizes = texts.str.len_bytes().to_numpy().astype(np.int64) + len(statement.between)
        if len(sizes) and int(sizes.max()) > self._packet:
            raise RefusedRows(
                f"a row is longer than the server's max_allowed_packet, {self._packet + _SPARE} bytes",
                code="net_packet_too_large",
                where=self._where,
            )
        return [
            str(texts[first:last].str.join(statement.between).item())
            for first, last in _pieces(np.cumsum(sizes), min(self._most, statement.most))
        ]


def _pieces(ends: np.typing.NDArray[np.int64], most: int) -> Iterator[tuple[int, int]]:
    """Ranges of rows of at most *most* bytes each, at least one row; *ends* are the bytes up to each row."""
    first, before = 0, 0
    while first < len(ends):
        last = max(first + 1, int(np.searchsorted(ends, before + most, "right")))
        yield first, last
        first, before = last, int(ends[last - 1])


def _about_table(sink: ServerTable, columns: str, catalogue: str) -> str:
    schema = constant(sink.schema) if sink.schema else "database()"
    return (
        f"select {columns} from information_schema.{catalogue} "
        f"where table_schema = {schema} and table_name = {constant(sink.table)}"
    )


async def _check_engine(session: Session, sink: ServerTable) -> None:
    """BadConfig where the table is missing, or can't take rows and positions in one transaction."""
    found = await session.rows(_about_table(sink, "engine", "tables"))
    if not found:
        raise BadConfig(
            f"there is no table {sink.table!r}",
            where=sink.name,
            fix="make it, or let the sink make it: create=True",
        )
    engine = str(found[0][0] or "")
    able = await session.rows(
        f"select 1 from information_schema.engines where engine = {constant(engine)} and transactions = 'YES'"
    )
    if engine and not able:
        raise BadConfig(
            "the table's engine has no transactions",
            where=sink.name,
            got=engine,
            fix=f"alter table {sink.target} engine = InnoDB",
        )


async def _table_columns(session: Session, sink: ServerTable) -> tuple[dict[str, TableColumn], set[str]]:
    """The columns that can be written, and the names of those that the server fills when they are not."""
    about = (
        "column_name, data_type, column_type, character_maximum_length, character_octet_length, "
        "coalesce(numeric_scale, datetime_precision, 0), is_nullable, column_default, extra"
    )
    found, filled = {}, set()
    for row in await session.rows(f"{_about_table(sink, about, 'columns')} order by ordinal_position"):
        name, kind, shown, chars, octets, scale, nullable, default, extra = (
            v.decode() if isinstance(v, bytes) else v for v in row
        )
        length = chars if kind in _LENGTHS else octets
        generated = "GENERATED" in str(extra).upper() and "DEFAULT_GENERATED" not in str(extra).upper()
        if not generated:
            size = None if length is None else int(length)
            column = TableColumn(str(name), str(kind), str(shown), size, int(scale or 0), nullable == "NO")
            found[column.name] = column
        if default is not None or generated or "auto_increment" in str(extra):
            filled.add(str(name))
    return found, filled


async def _check_indexes(session: Session, sink: ServerTable, columns: pl.Schema) -> None:
    """BadConfig unless only the key finds a row: MySQL updates that which *any* unique index finds."""
    indexes: dict[str, list[str | None]] = {}
    rows = await session.rows(
        _about_table(sink, "index_name, column_name, sub_part", "statistics")
        + " and non_unique = 0 order by index_name, seq_in_index"
    )
    for index, name, prefix in rows:
        whole = str(name) if name is not None and prefix is None else None
        indexes.setdefault(str(index), []).append(whole)
    if not any(set(names) == set(sink.keys) for names in indexes.values()):
        raise BadConfig(
            "the key has no unique index",
            where=sink.name,
            got=",".join(sink.keys),
            fix="make a unique index on exactly the key's columns",
        )
    counted = await session.rows(
        _about_table(sink, "column_name", "columns") + " and extra like '%auto_increment%'"
    )
    fresh = {str(name) for (name,) in counted} - set(columns.names())
    for index, names in indexes.items():
        if set(names) != set(sink.keys) and not fresh & set(names):
            raise BadConfig(
                f"the table has another unique index, {index!r}: upserts would change the row that it finds",
                where=sink.name,
                fix="drop it, make it not unique, or write without a key",
            )


def _list(names: Sequence[str]) -> str:
    return ", ".join(map(identifier, names))
