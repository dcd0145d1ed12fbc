"""Rows of an unbounded source into a topic of Kafka: each append is a transaction, with its bookmark in it.

The bookmark lies in the lane's record of the topic ``{topology}.positions`` (:mod:`.kafka_transactions`),
whose transactional id fences who fed before. The lane's position counts its appended rows.
"""

from __future__ import annotations

from collections.abc import Callable

from streamcore.contracts import Records
from streamcore.errors import Permanent
from streamcore.transport.kafka_transactions import KafkaTransactions

MOST_BOOKMARK_BYTES = 500_000
"""It must fit into a record of a topic, whose limit is 1 MB unless the broker says otherwise."""


class KafkaIntake:
    """See :class:`streamcore.contracts.unbounded.Intake`."""

    def __init__(self, transactions: KafkaTransactions, crash_point: Callable[[str], None]) -> None:
        self._transactions, self._crash_point = transactions, crash_point
        self._rows = 0

    async def open(self) -> bytes:
        """See :class:`streamcore.contracts.unbounded.Intake`."""
        self._rows = await self._transactions.open(0)
        return self._transactions.bookmark

    async def append(self, records: Records, bookmark: bytes) -> None:
        """See :class:`streamcore.contracts.unbounded.Intake`."""
        _check_size(bookmark)
        await self._transactions.append(records)
        self._crash_point("intake.before_commit")
        self._transactions.bookmark = bookmark
        await self._transactions.commit(self._rows + len(records))
        self._rows += len(records)

    async def keep(self, bookmark: bytes) -> None:
        """See :class:`streamcore.contracts.unbounded.Intake`."""
        _check_size(bookmark)
        self._transactions.bookmark = bookmark
        await self._transactions.commit(self._rows)

    async def close(self) -> None:
        """See :class:`streamcore.contracts.unbounded.Intake`."""
        await self._transactions.close()


def _check_size(bookmark: bytes) -> None:
    if len(bookmark) > MOST_BOOKMARK_BYTES:
        raise Permanent(
            "what the source has to remember is too large for a record of Kafka",
            got=f"{len(bookmark):,} bytes",
            allowed=[f"{MOST_BOOKMARK_BYTES:,}"],
            fix="of a folder: take files away that were read, e.g. with done=delete; of a REST source: a "
            "shorter lag=",
        )
