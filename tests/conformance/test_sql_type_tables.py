"""Each line of the tables of types of SQL databases holds on the real ones: what the sink sends there, into
a table that it makes or one that is there, comes back by the source as the table says, and so does what
another program left there.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import polars as pl
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from batch_adapters.catalogue import open_source
from streamcore.errors import BadConfig
from streamcore.testing.sources import SOURCE, read_chunks
from tests.conformance.sql_systems import PostgresTypes, SqliteTypes, SqlSystem, table_of
from tests.conformance.type_round_trips import (
    PLACE,
    check,
    check_found,
    columns_of,
    kept,
    left_there,
    reads_of,
    refused_with_their_codes,
    rows_of,
    some,
    taken,
)  # fmt: skip
from tests.conformance.type_tables import Line, Sent

_numbers = itertools.count()
few = settings(deadline=None, max_examples=3, phases=[Phase.generate])
"""A failure is shown as it was found: each try asks a server, and shrinking takes minutes."""


@pytest.fixture(scope="module", params=[PostgresTypes, SqliteTypes], ids=["postgres", "sqlite"])
def system(request: pytest.FixtureRequest) -> SqlSystem:
    made: SqlSystem = request.param(request)
    return made


def made_by(lines: Sequence[Line]) -> dict[str, Sent]:
    """The columns that the sink makes."""
    return {name: one for name, one in columns_of(lines).items() if one.made}


def there_before(lines: Sequence[Line]) -> dict[str, tuple[str, Sent]]:
    """Columns of each type that takes one of the stream's."""
    pairs = [pair for one in columns_of(lines).values() for pair in one.fits.items()]
    return {f"c{place}": pair for place, pair in enumerate(pairs)}


@few
@given(data=st.data())
def test_every_line_is_there_and_back_in_a_table_that_the_sink_makes(
    system: SqlSystem, data: st.DataObject
) -> None:
    columns = kept(made_by(system.lines))
    rows = data.draw(rows_of(columns))
    alike = {name: one for name, one in columns.items() if not system.apart(one.dtype, one.made)}
    for chosen in {len(one): one for one in (columns, alike)}.values():
        into_a_made_table(system, chosen, rows)


def into_a_made_table(
    system: SqlSystem, columns: Mapping[str, Sent], rows: Sequence[Mapping[str, object]]
) -> None:
    table = f"made_{next(_numbers)}"
    check(columns, rows, system.sink(table, create=True), system.uri(table))
    declared = {f"c{place}": one.made for place, one in enumerate(columns.values())}
    system.execute(f"create table twin_of_{table} ({table_of({PLACE: 'bigint', **declared})})")
    assert system.types(table)[1:] == system.types(f"twin_of_{table}")[1:]


@few
@given(data=st.data())
def test_every_line_is_there_and_back_in_all_columns_that_it_fits(
    system: SqlSystem, data: st.DataObject
) -> None:
    pairs = there_before(system.lines)
    rows = data.draw(rows_of({name: one for name, (_, one) in pairs.items()}))
    alike = {name: (kind, one) for name, (kind, one) in pairs.items() if not system.apart(one.dtype, kind)}
    for chosen in {len(one): one for one in (pairs, alike)}.values():
        table, declared = f"there_{next(_numbers)}", {name: kind for name, (kind, _) in chosen.items()}
        system.execute(f"create table {table} ({table_of({PLACE: 'bigint', **declared})})")
        check({name: one for name, (_, one) in chosen.items()}, rows, system.sink(table), system.uri(table))


@few
@given(data=st.data())
def test_what_a_database_can_not_hold_is_refused_with_its_code(
    system: SqlSystem, data: st.DataObject
) -> None:
    sink = system.sink(f"refused_{next(_numbers)}", create=True)
    refused_with_their_codes(columns_of(system.lines), data, sink)


def test_the_pairs_that_fit_are_those_of_the_table(system: SqlSystem) -> None:
    """All kinds of columns of a line fit all types of its line, and no other one."""
    wanted, types = set(), set()
    for line in system.lines:
        into = {declared for one in line.columns.values() for declared in one.fits}
        types |= into
        wanted |= {(type(one.dtype), system.kind(other)) for one in line.columns.values() for other in into}
    fitting = set()
    for declared in sorted(types):
        pair = system.pair(declared)
        for kind in {kind for kind, _ in wanted}:
            try:
                pair(some(kind))
            except BadConfig:
                continue
            fitting.add((kind, system.kind(declared)))
    assert fitting - wanted == set()
    assert wanted - fitting == set()


def test_the_types_that_a_sink_takes_are_those_of_its_table(system: SqlSystem) -> None:
    kinds = {type(one.dtype) for one in made_by(system.lines).values()}
    assert taken(lambda: system.sink("rows", create=True)) == kinds


def filled(
    system: SqlSystem, table: str, declared: Mapping[str, str], rows: Sequence[Mapping[str, object]]
) -> str:
    """The address of a *table* with *rows*, which another program made."""
    system.execute(f"create table {table} ({table_of({PLACE: 'bigint', **declared})})")
    system.fill(table, [[place, *(row[name] for name in declared)] for place, row in enumerate(rows)])
    return f"{system.uri(table)}&columns={','.join(declared)}"


@few
@given(data=st.data())
def test_every_type_is_read_as_its_line_says(system: SqlSystem, data: st.DataObject) -> None:
    reads, table = reads_of(system.source), f"found_{next(_numbers)}"
    rows = [*data.draw(left_there(reads)), dict.fromkeys(reads)]
    uri = filled(system, table, {name: one.declared for name, (one, _) in reads.items()}, rows)
    assert open_source(uri).columns() == pl.Schema({name: dtype for name, (_, dtype) in reads.items()})
    check_found(reads, rows, uri)


@settings(deadline=None, max_examples=1)
@given(data=st.data())
def test_what_no_type_takes_is_a_dead_letter(system: SqlSystem, data: st.DataObject) -> None:
    """Each in a row of its own; the row without any is read."""
    odd = {f"c{n}": one for n, one in enumerate(f for line in system.source for f in line.found if f.refused)}
    nothing = dict.fromkeys(odd)
    rows = [nothing, *(nothing | {name: data.draw(one.values)} for name, one in odd.items())]
    declared = {name: one.declared for name, one in odd.items()}
    source = open_source(filled(system, f"odd_{next(_numbers)}", declared, rows))
    assert source.columns() == pl.Schema({name: one.refused[0] for name, one in odd.items()})
    (chunk,) = read_chunks(source.splits(1)[0].open(SOURCE, 0), 0, 1 << 20)
    assert chunk.frame is not None
    assert chunk.frame.to_dicts() == [nothing]
    refused = chunk.rejects.frame
    assert refused["_offset"].to_list() == [*range(1, len(rows))]
    assert {*refused["code"]} == {system.code}
