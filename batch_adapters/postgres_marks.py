"""A table of PostgreSQL in the order of a mark: which transactions are open, and one session for all polls.

That a transaction has ended is seen by its number, whoever runs it. One that has not written yet has none,
but ``now()`` in it is when it began: it is waited for by its beginning, as far as this user may see it
(``pg_read_all_stats``), and only for :data:`PATIENCE`, or each dump of the database would hold the polls
up.
"""

from __future__ import annotations

from batch_adapters.key_ranges import KeyRange, Pages
from batch_adapters.marks import Look
from batch_adapters.postgres import APPLICATION as REPLAY
from batch_adapters.postgres import PostgresTable
from batch_adapters.table_options import TableOptions
from streamcore.systems.postgres import address
from streamcore.systems.postgres_reading import ReadSession

APPLICATION = "streamcore poll"
PATIENCE = 300
"""Seconds for which a transaction that has written nothing is waited for."""
_OPEN = (
    "select extract(epoch from clock_timestamp())::float8 as now, "
    "extract(epoch from min(xact_start))::float8 as since "
    "from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() "
    f"and application_name not in ('{REPLAY}', '{APPLICATION}') "
    f"and (backend_xid is not null or xact_start > clock_timestamp() - interval '{PATIENCE} s')"
)
_NUMBERS = (
    "select txid_snapshot_xmin(now)::bigint as ended, txid_snapshot_xmax(now)::bigint as following "
    "from txid_current_snapshot() as now"
)


class PostgresMarks(PostgresTable):
    """A ``MarkedTable`` of PostgreSQL."""

    def __init__(self, url: str, options: TableOptions, mark: str) -> None:
        where = address(url)
        super().__init__(where, options, mark)
        self._moment.part_read()  # nothing more is read of it
        self._session = ReadSession(where, APPLICATION)
        self._session.run("set idle_in_transaction_session_timeout = 0")  # it holds no snapshot meanwhile

    def look(self) -> Look:
        """See :class:`batch_adapters.marks.MarkedTable`."""
        session = self._session
        session.renew()
        # Before the snapshot: who ends between the two is seen by it.
        ((now, since),) = session.rows(_OPEN)
        session.renew()
        ((ended, following),) = session.rows(_NUMBERS)
        top = self.top(session)
        session.renew()  # no snapshot is held while nothing is read
        open_since = None if since is None else float(str(since))
        return Look(top, float(str(now)), int(str(ended)), int(str(following)), open_since)

    def read(self, part: KeyRange, max_bytes: int) -> Pages:
        """See :class:`batch_adapters.marks.MarkedTable`."""
        self._session.renew()
        yield from self.pages(self._session, part, max_bytes)
        self._session.renew()

    def close(self) -> None:
        """See :class:`batch_adapters.marks.MarkedTable`."""
        self._session.close()
