"""A table of MySQL or MariaDB in the order of a mark: which transactions are open, one session for all polls.

InnoDB tells of each open transaction when it began, by the second (``information_schema.innodb_trx``, for
which a user needs the right PROCESS). One that has changed nothing is waited for only for :data:`PATIENCE`,
or each dump of the database would hold the polls up; readers that say they only read are not waited for.
"""

from __future__ import annotations

import math

from batch_adapters.marks import Look
from batch_adapters.mysql import MysqlTable
from batch_adapters.table_options import TableOptions
from streamcore.errors import BadConfig, Permanent
from streamcore.systems.mysql import address
from streamcore.systems.mysql_reading import ReadSession

PATIENCE = 300
"""Seconds for which a transaction that has changed nothing is waited for."""
_KEPT = 0.2
"""Seconds. InnoDB makes its list of transactions anew when nobody has read it for 0.1 s: until then it is an
old one, and whoever asks all the time never gets another."""
_NOW = "select unix_timestamp(now(6))"
_OPEN = (
    "select min(unix_timestamp(trx_started)) from information_schema.innodb_trx "
    "where trx_mysql_thread_id <> connection_id() and trx_is_read_only = 0 "
    f"and (trx_rows_modified > 0 or trx_started > now() - interval {PATIENCE} second)"
)


class MysqlMarks(MysqlTable):
    """A ``MarkedTable`` of MySQL."""

    def __init__(self, url: str, options: TableOptions, mark: str) -> None:
        where = address(url)
        super().__init__(where, options, mark)
        self._moment.part_read()  # nothing more is read of it
        self._session = ReadSession(where)
        self._listed_at, self._open_since = 0.0, math.inf
        self._may_look()

    def _may_look(self) -> None:
        try:
            self._session.rows(_OPEN)
        except Permanent as error:
            self._session.close()
            raise BadConfig(
                "this user may not see which transactions are open: rows committed late could be lost",
                where=self._where.shown,
                fix="grant process on *.* to this user",
            ) from error

    def look(self) -> Look:
        """See :class:`batch_adapters.marks.MarkedTable`."""
        session = self._session
        if (now := self._now()) - self._listed_at >= _KEPT:
            ((since,),) = session.rows(_OPEN)
            self._listed_at, self._open_since = now, math.inf if since is None else float(str(since))
        session.renew()  # behind the list: who ended between the two is seen
        top = self.top(session)
        session.renew()
        # Behind the rows: who may still write a lower mark has begun before.
        return Look(top, self._now(), open_since=min(self._open_since, self._listed_at - _KEPT))

    def _now(self) -> float:
        ((now,),) = self._session.rows(_NOW)
        return float(str(now))

    def close(self) -> None:
        """See :class:`batch_adapters.marks.MarkedTable`."""
        self._moment.part_read()  # of which pages may have been left
        self._session.close()
