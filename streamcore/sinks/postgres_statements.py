"""The SQL of the PostgreSQL sink: the table, the positions with their fence, and the merge by key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from streamcore.sinks.merging import Merge
from streamcore.sinks.postgres_columns import TableColumn, created_type
from streamcore.systems.postgres import identifier

STAGE, DELETED = "streamcore_stage", "streamcore_deleted"
TABLE_COLUMNS = """
select a.attname, b.typname, format_type(a.atttypid, a.atttypmod), b.typtype = 'e',
       case when b.typname in ('varchar', 'bpchar') and m.typmod > 4 then m.typmod - 4 end,
       a.attnotnull or t.typnotnull, a.atthasdef or a.attidentity <> '', a.attgenerated <> '',
       format_type(b.oid, m.typmod)
from pg_attribute a
join pg_type t on t.oid = a.atttypid
join pg_type b on b.oid = case t.typtype when 'd' then t.typbasetype else t.oid end
cross join lateral (select case t.typtype when 'd' then t.typtypmod else a.atttypmod end as typmod) m
where a.attrelid = $1::text::regclass and a.attnum > 0 and not a.attisdropped
order by a.attnum
"""


@dataclass(frozen=True)
class Statements:
    """SQL for one table. *target* and *positions* are names of tables, quoted; *how* is to be quoted."""

    target: str
    positions: str
    how: Merge

    @property
    def key(self) -> tuple[str, ...]:
        return self.how.key

    def create_table(self, columns: pl.Schema) -> str:
        parts = [f"{identifier(name)} {created_type(name, dtype)}" for name, dtype in columns.items()]
        if self.key:
            parts.append(f"primary key ({_list(self.key)})")
        return f"create table if not exists {self.target} ({', '.join(parts)})"

    def create_positions(self) -> str:
        return (
            f"create table if not exists {self.positions} (topology text, sink text, topic_id text, "
            "partition integer, topic text not null, next_offset bigint not null, "
            "owner_epoch bigint not null, owner text not null, updated_at timestamptz not null, "
            "primary key (topology, sink, topic_id, partition))"
        )

    @property
    def take_over(self) -> str:
        """$1 topology, $2 sink, $3 owner, $4 topic ids, $5 partitions, $6 topics, $7 starts."""
        return (
            f"insert into {self.positions} as p select $1, $2, n.id, n.part, n.topic, n.at, 1, $3, now() "
            "from unnest($4::text[], $5::int[], $6::text[], $7::bigint[]) as n(id, part, topic, at) "
            "order by n.id, n.part on conflict (topology, sink, topic_id, partition) do update "
            "set owner_epoch = p.owner_epoch + 1, owner = excluded.owner, updated_at = now() "
            "returning topic_id, partition, next_offset, owner_epoch"
        )

    @property
    def compare_and_set(self) -> str:
        """$1 topology, $2 sink, $3 ids, $4 partitions, $5 starts, $6 ends, $7 epochs; counts matches."""
        return (
            f"update {self.positions} as p set next_offset = n.stop, updated_at = now() "
            "from unnest($3::text[], $4::int[], $5::bigint[], $6::bigint[], $7::bigint[]) "
            "as n(id, part, start, stop, epoch) where p.topology = $1 and p.sink = $2 and p.topic_id = n.id "
            "and p.partition = n.part and p.next_offset = n.start and p.owner_epoch = n.epoch"
        )

    @property
    def read(self) -> str:
        """$1 topology, $2 sink."""
        return (
            "select topic_id, partition, next_offset, owner_epoch, owner "
            f"from {self.positions} where topology = $1 and sink = $2"
        )

    def create_stage(self, columns: Sequence[TableColumn]) -> str:
        """The session's own table with the same types and no constraints."""
        names = f"{_list([column.name for column in columns])}, false as {DELETED}"
        return f"create temporary table {STAGE} as select {names} from {self.target} with no data"

    def merge(self, columns: Sequence[TableColumn]) -> tuple[str, str, str]:
        """Stage to table: deletes, upserts, and the stage made empty again. A key is in the stage once."""
        names = [column.name for column in columns]
        same = " and ".join(f"t.{identifier(name)} = s.{identifier(name)}" for name in self.key)
        rest = [identifier(name) for name in self.how.updated(names)]
        then = "update set " + ", ".join(f"{name} = excluded.{name}" for name in rest) if rest else "nothing"
        newer = older = ""
        if self.how.version is not None:
            version = identifier(self.how.version)
            newer = f" where t.{version} is null or excluded.{version} >= t.{version}"
            older = f" and (t.{version} is null or s.{version} is null or s.{version} >= t.{version})"
        return (
            f"delete from {self.target} t using {STAGE} s where s.{DELETED} and {same}{older}",
            f"insert into {self.target} as t ({_list(names)}) select {_list(names)} from {STAGE} "
            f"where not {DELETED} on conflict ({_list(self.key)}) do {then}{newer}",
            f"truncate {STAGE}",
        )


TERMINATE = (
    "select pg_terminate_backend(pid) from pg_stat_activity "
    "where application_name = any($1::text[]) and usename = current_user and pid <> pg_backend_pid()"
)


def _list(names: Sequence[str]) -> str:
    return ", ".join(identifier(name) for name in names)
