"""Logical decoding of PostgreSQL: every insert, update and delete of a table, by way of a replication slot.

The slot keeps the log from what is confirmed on. A poll looks into it without consuming anything
(``pg_logical_slot_peek_binary_changes``), and the slot is moved on (``pg_replication_slot_advance``) when
the rows are durable in the stream's topic. So it needs nothing but the connection of all other reading; a
walsender's protocol would save half the interval of polling. A bookmark is a place in the order of commits.

Rows that changed or came are rows; one that is gone is told by its key. A row that gets another key is gone
under the old one. With replica identity full the rows' old values are in the log, and large values that did
not change are found there; otherwise they are nowhere, and such a row is refused ("unchanged", stage
"read").
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl
from pydantic import Field, field_validator

from streamcore.contracts.unbounded import Polled, Taken, UnboundedAbilities
from streamcore.durations import seconds
from streamcore.errors import BadConfig, Permanent
from streamcore.sources.changes import ChangeOptions, words
from streamcore.sources.pgoutput import Changes, Messages, PgColumn, Place, Truncated
from streamcore.sources.postgres_changes import parts_of
from streamcore.sources.postgres_texts import dtype_of
from streamcore.systems.postgres import Address, address, identifier
from streamcore.systems.postgres_reading import ReadSession

APPLICATION = "streamcore slot"
_NAME = re.compile(r"[a-z0-9_]{1,63}")
_CHANGES = 10_000
"""How many changes one look asks for; it gives whole transactions."""
_IDLE_BYTES, _MARGIN_BYTES = 16 << 20, 8 << 20
"""The slot is moved on over so much log that holds nothing of the table, but for the last of it: where the
log ends may be within a commit that has begun before.
"""

_VIA_ROOT = "with (publish_via_partition_root = true)"


class SlotOptions(ChangeOptions):
    """Options of logical decoding."""

    slot: str = Field(description="The replication slot, for the plugin pgoutput and for nobody else.")
    table: str = Field(description="The table; of another schema than public: sales.users.")
    publication: str | None = Field(
        None, description="What is published of it. The slot's name unless given."
    )
    create: str = Field("false", description="true: make the slot and the publication if they are missing.")
    truncate: str = Field("stop", description="What a TRUNCATE does: stop, or skip: it is passed over.")

    @field_validator("slot")
    @classmethod
    def _slot(cls, text: str) -> str:
        if not _NAME.fullmatch(text):
            raise BadConfig("not a name of a slot", got=text, allowed=["1 to 63 of a-z, 0-9 and _"])
        return text

    @field_validator("create")
    @classmethod
    def _yes_or_no(cls, text: str) -> str:
        return words(text, "create", ("true", "false"))

    @field_validator("truncate")
    @classmethod
    def _stop_or_skip(cls, text: str) -> str:
        return words(text, "truncate", ("stop", "skip"))

    @property
    def published(self) -> str:
        """The publication's name."""
        return self.publication or self.slot


def open_slot(uri: str, options: SlotOptions) -> Slot:
    """The source, checked. BadConfig, with the statements that help, when slot or publication is missing."""
    where = address(uri)
    session = ReadSession(where, APPLICATION)
    try:
        columns = _columns(session, options, where)
        _check(session, options, where)
        _check_published(session, options, where)
        ((oid,),) = session.rows(f"select to_regclass({_constant(_relation(options))})::oid::bigint as oid")
    finally:
        session.close()
    schema = pl.Schema({column.name: dtype_of(column) for column in columns})
    primary = tuple(column.name for column in columns if column.in_key)
    return Slot(where, options, schema, primary, int(str(oid)))


def _constant(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _relation(options: SlotOptions) -> str:
    return identifier(*options.table.split("."))


def _columns(session: ReadSession, options: SlotOptions, where: Address) -> list[PgColumn]:
    rows = session.rows(
        "select a.attname::text, a.atttypid::bigint, a.atttypmod::bigint, exists (select 1 from pg_index i "
        "where i.indrelid = a.attrelid and i.indisprimary and a.attnum = any(i.indkey)) as primary_key "
        "from pg_attribute a "
        f"where a.attrelid = to_regclass({_constant(_relation(options))}) and a.attnum > 0 "
        "and not a.attisdropped order by a.attnum"
    )
    if not rows:
        raise BadConfig("there is no such table", where=where.shown, got=options.table, fix="correct table=")
    return [PgColumn(str(name), int(str(type_)), int(str(mod)), bool(key)) for name, type_, mod, key in rows]


def _check(session: ReadSession, options: SlotOptions, where: Address) -> None:
    """Slot and publication must be there, or are made."""
    missing = []
    if not session.rows(f"select 1 from pg_publication where pubname = {_constant(options.published)}"):
        missing.append(
            f"create publication {identifier(options.published)} for table {_relation(options)} {_VIA_ROOT}"
        )
    found = session.rows(f"select plugin::text from pg_replication_slots where slot_name = '{options.slot}'")
    if not found:
        missing.append(f"select pg_create_logical_replication_slot('{options.slot}', 'pgoutput')")
    elif found[0][0] != "pgoutput":
        raise BadConfig(
            "the slot is for another plugin", where=where.shown, got=found[0][0], allowed=["pgoutput"]
        )
    if missing and options.create != "true":
        raise BadConfig(
            "the slot or the publication is missing",
            where=where.shown,
            got=f"slot={options.slot}",
            fix=f"add create=true, or run: {'; '.join(missing)}",
        )
    for statement in missing:
        session.renew()
        if statement.startswith("create"):
            session.run("set transaction read write")
            session.run(statement)
        else:
            session.rows(statement.replace("select pg_create", "select slot_name::text from pg_create"))
    session.renew()


def _check_published(session: ReadSession, options: SlotOptions, where: Address) -> None:
    name, relation = identifier(options.published), _relation(options)
    found = session.rows(
        f"select 1 from pg_publication_tables where pubname = {_constant(options.published)} "
        f"and format('%I.%I', schemaname, tablename)::regclass = to_regclass({_constant(relation)})"
    )
    if not found:
        raise BadConfig(
            "the publication does not tell of the table, or only of its partitions",
            where=where.shown,
            got=f"publication={options.published}",
            fix=f"alter publication {name} add table {relation}, or set (publish_via_partition_root = true)",
        )


@dataclass(frozen=True)
class Slot:
    """See :class:`streamcore.contracts.unbounded.UnboundedSource`."""

    where: Address
    options: SlotOptions
    schema: pl.Schema
    primary: tuple[str, ...]
    """The names of the primary key's columns."""
    oid: int
    """Of the table."""

    @property
    def uri(self) -> str:
        """See :class:`streamcore.contracts.unbounded.UnboundedSource`."""
        return f"{self.where.shown}?table={self.options.table}&slot={self.options.slot}"

    @property
    def abilities(self) -> UnboundedAbilities:
        """See :class:`streamcore.contracts.unbounded.UnboundedSource`."""
        ops = self.options.told
        return UnboundedAbilities(updates="update" in ops, deletes="delete" in ops, forgets=True)

    @property
    def interval(self) -> float:
        """See :class:`streamcore.contracts.unbounded.UnboundedSource`."""
        return seconds(self.options.every)

    def identity(self) -> str:
        """The server, the slot and the table."""
        return f"{self.where.shown}\0{self.options.slot}\0{self.options.table}"

    def columns(self) -> pl.Schema | None:
        """See :class:`streamcore.contracts.unbounded.UnboundedSource`."""
        return self.schema

    def open(self, bookmark: bytes) -> SlotReader:
        """See :class:`streamcore.contracts.unbounded.UnboundedSource`."""
        return SlotReader(self, Place.unpack(bookmark) if bookmark else Place())


class SlotReader:
    """Looks into the slot again and again; it is moved on between two looks, behind what is durable."""

    def __init__(self, slot: Slot, place: Place) -> None:
        self._slot, self._options = slot, slot.options
        self._place, self._durable = place, 0
        self._confirmed = 0
        self._most = _CHANGES
        self._look: Iterator[Polled] | None = None
        self._session = ReadSession(slot.where, APPLICATION)
        self._session.run("set idle_in_transaction_session_timeout = 0")

    def poll(self, max_bytes: int, now: float) -> Polled | None:
        """See :class:`streamcore.contracts.unbounded.UnboundedReader`."""
        if self._look is None:
            self._move_on()
            self._look = self._peek(max_bytes)
        found = next(self._look, None)
        if found is None:
            self._look = None
        return found

    def forget(self, bookmark: bytes) -> None:
        """The slot is moved on before the next look."""
        self._durable = max(self._durable, Place.unpack(bookmark).end)

    def _move_on(self) -> None:
        """Confirm what is durable: the server need not keep it."""
        if self._durable > self._confirmed:
            self._session.renew()
            self._session.rows(
                "select slot_name::text from pg_replication_slot_advance("
                f"'{self._options.slot}', greatest({_lsn(self._durable)}, (select confirmed_flush_lsn from "
                f"pg_replication_slots where slot_name = '{self._options.slot}')))"
            )
            self._confirmed = self._durable

    def _peek(self, max_bytes: int) -> Iterator[Polled]:
        """What the slot holds behind the place, in parts of about *max_bytes*."""
        self._session.renew()
        ((flushed, confirmed),) = self._session.rows(
            "select (pg_current_wal_flush_lsn() - '0/0')::bigint as flushed, "
            "(confirmed_flush_lsn - '0/0')::bigint as confirmed from pg_replication_slots "
            f"where slot_name = '{self._options.slot}'"
        ) or ((0, -1),)
        if confirmed == -1:
            raise Permanent(
                "the slot is gone", where=self._slot.uri, fix="make it anew; what came since is lost"
            )
        messages = Messages(self._place)
        sql = (
            f"select data from pg_logical_slot_peek_binary_changes('{self._options.slot}', null, "
            f"{self._most}, 'proto_version', '1', 'publication_names', {_constant(self._options.published)})"
        )
        told = self._place
        for batch in self._session.batches(sql, max_bytes):
            parts = [part for change in messages.read(batch.column(0)) for part in self._parts(change)]
            self._place = messages.place
            if parts:
                told = self._place
                yield Polled(told.pack(), parts)
        self._most = _CHANGES if messages.seen < self._most else 2 * self._most
        if not messages.seen and int(str(flushed)) - int(str(confirmed)) > _IDLE_BYTES:
            self._place = Place(max(self._place.end, int(str(flushed)) - _MARGIN_BYTES))
        if self._place != told:
            yield Polled(self._place.pack())

    def _parts(self, change: Changes | Truncated) -> Iterator[Taken]:
        if isinstance(change, Truncated):
            if self._slot.oid in change.relations and self._options.truncate == "stop":
                raise Permanent(
                    "the table was truncated: which rows are gone is not told",
                    where=self._slot.uri,
                    fix="empty what was made of it, then pass it over with truncate=skip",
                )
            return
        if change.relation.id != self._slot.oid:
            return  # another table of the publication
        yield from parts_of(change, self._options.told, self._options.table, self._slot.primary)

    def close(self) -> None:
        """See :class:`streamcore.contracts.unbounded.UnboundedReader`."""
        self._session.close()


def _lsn(position: int) -> str:
    return f"'{position >> 32:X}/{position & 0xFFFFFFFF:X}'::pg_lsn"
