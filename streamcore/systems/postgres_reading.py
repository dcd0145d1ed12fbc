"""PostgreSQL read in columns: results of statements as Arrow batches, by ADBC. Only here ADBC is imported.

ADBC's driver runs ``COPY (…) TO STDOUT (FORMAT binary)`` and makes columns of it in C, on libpq. It is
synchronous: sessions are for a worker thread, one call at a time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from urllib.parse import quote

import pyarrow as pa

from streamcore.errors import Permanent, StreamcoreError, Transient
from streamcore.systems.postgres import Address, no_driver, of_state

_READ_ONLY = "set transaction isolation level repeatable read, read only"
_BATCH = "adbc.postgresql.batch_size_hint_bytes"
_STATE = re.compile(r"SQLSTATE: (\w{5})\Z")
_SERVER_SAYS = re.compile(r"(?:ERROR|FATAL): +([^\n]*)")
_REFUSED_LOGIN = ("28P01", "password authentication failed", "no pg_hba.conf entry", "does not exist")


class ReadSession:
    """A read-only transaction that sees the database as it is now, or as *snapshot* (:meth:`export`) does.

    Transient when the server can't be reached now, Permanent when it says no. After an error it is closed.
    """

    def __init__(self, where: Address, application_name: str, snapshot: str | None = None) -> None:
        self._where, self._driver = where, _driver()
        with self._translated():
            self._connection = self._driver.connect(
                f"{where.libpq}&application_name={quote(application_name)}"
            )
        try:
            self.run(_READ_ONLY)
            if snapshot is not None:
                self.run(f"set transaction snapshot '{snapshot}'")
        except BaseException:
            self.close()
            raise

    def renew(self) -> None:
        """End the transaction; the next statement sees the database as it is then."""
        with self._translated():
            self._connection.commit()
        self.run(_READ_ONLY)

    def export(self) -> str:
        """The name under which other sessions can see what this one sees, while it is open."""
        return str(self.rows("select pg_export_snapshot()")[0][0])

    def run(self, sql: str) -> None:
        """Execute a statement that gives nothing."""
        with self._translated(), self._connection.cursor() as cursor:
            cursor.execute(sql)

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        """The few rows of *sql*."""
        with self._translated(), self._connection.cursor() as cursor:
            cursor.execute(sql)
            table: pa.Table = cursor.fetch_arrow_table()
        return [tuple(row.values()) for row in table.to_pylist()]

    def schema(self, sql: str) -> pa.Schema:
        """The columns of *sql*, as :meth:`batches` gives them; types that ADBC does not know are opaque."""
        with self._translated(), self._connection.cursor() as cursor:
            cursor.execute(f"select * from ({sql}) as asked limit 0")
            schema: pa.Schema = cursor.fetch_arrow_table().schema
        return schema

    def batches(self, sql: str, max_bytes: int) -> Iterator[pa.RecordBatch]:
        """The rows of *sql* as they come from the server, about *max_bytes* at a time."""
        with self._translated(), self._connection.cursor() as cursor:
            cursor.adbc_statement.set_options(**{_BATCH: str(max_bytes)})
            cursor.execute(sql)
            reader = cursor.fetch_record_batch()
            while True:
                try:
                    batch: pa.RecordBatch = reader.read_next_batch()
                except StopIteration:
                    return
                yield batch

    def close(self) -> None:
        """End the transaction and free the socket; a statement that runs is given up."""
        try:
            self._connection.close()
        except Exception:  # noqa: BLE001 - whatever happens, nothing of it is needed any more
            return

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except StreamcoreError:
            raise
        except self._driver.Error as error:
            raise _translate(error, self._where.shown) from None
        except pa.ArrowException as error:  # while a result is read
            raise _translate(error, self._where.shown) from None
        except OSError as error:
            raise _translate(error, self._where.shown) from None


def _driver() -> ModuleType:
    try:
        from adbc_driver_postgresql import dbapi
    except ImportError:
        raise no_driver() from None
    module: ModuleType = dbapi
    return module


def _translate(error: Exception, shown: str) -> StreamcoreError:
    """The error of this package; libpq's own ones have no SQLSTATE, and then its text is all there is."""
    text = str(error).strip()
    found = getattr(error, "sqlstate", None) or _STATE.search(text)
    state = found if isinstance(found, str) else found[1] if found else ""
    says = _SERVER_SAYS.search(text)
    message = says[1] if says else text.splitlines()[0] if text else type(error).__name__
    if state:
        return of_state(state, message, "the statement's data", [], shown)
    if "certificate" in text or "SSL" in text:
        tls = next((line.strip() for line in text.splitlines() if "certificate" in line or "SSL" in line), "")
        return Permanent(
            f"TLS: {tls.rpartition('failed: ')[2]}",
            where=shown,
            fix="give the authority's file with ?sslrootcert=/path/ca.pem, or another sslmode",
        )
    if says and any(part in text for part in _REFUSED_LOGIN):
        return Permanent(message, where=shown, fix="check user, password, database and pg_hba.conf")
    return Transient(f"the connection failed: {message.rpartition('failed: ')[2]}", where=shown)
