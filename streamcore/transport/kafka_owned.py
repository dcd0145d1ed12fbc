"""Appends that only the last owner of a lane can make: each is a transaction (:mod:`.kafka_transactions`).

What fences is the lane's transactional id. Its position, which counts appends, says nothing to anyone.
Opening leaves no connections behind: most lanes never append anything.
"""

from __future__ import annotations

from streamcore.contracts import Records
from streamcore.transport.kafka_transactions import KafkaTransactions


class KafkaOwnedAppends:
    """See :class:`streamcore.contracts.OwnedAppends`."""

    def __init__(self, transactions: KafkaTransactions) -> None:
        self._transactions = transactions
        self._count = 0
        self._ready = False
        """Whether the transactions have a producer with which nothing has gone wrong."""

    async def open(self) -> None:
        """See :class:`streamcore.contracts.OwnedAppends`."""
        self._count = await self._transactions.open(0)
        await self.close()

    async def append(self, records: Records) -> None:
        """See :class:`streamcore.contracts.OwnedAppends`."""
        if not self._ready:
            self._count = await self._transactions.open(self._count)
        self._ready = False
        await self._transactions.commit(self._count + 1, records)
        self._count, self._ready = self._count + 1, True

    async def close(self) -> None:
        """See :class:`streamcore.contracts.OwnedAppends`."""
        self._ready = False
        await self._transactions.close()
