"""A collection of MongoDB in the order of a mark: which writes are under way, and one client for all polls.

Documents come along an index of the mark and ``_id``: only that has them in one order whatever types their
marks have. That a transaction or a long write (``updateMany``, ``$merge``) may still put a lower mark there
is seen by when it began (``$currentOp``, for which a user needs the role ``clusterMonitor``).
"""

from __future__ import annotations

from batch_adapters.key_ranges import KeyRange, Pages
from batch_adapters.marks import Look
from batch_adapters.mongodb import MongoCollection, MongoOptions, asked_of
from streamcore.systems.mongo import address
from streamcore.systems.mongo_marks import MarkClient


class MongoMarks(MongoCollection):
    """A ``MarkedTable`` of MongoDB."""

    def __init__(self, uri: str, options: MongoOptions, mark: str) -> None:
        where = address(uri, options.driver)
        self._client = MarkClient(where)
        try:
            asked = asked_of(self._client, where, options, mark)
            self._client.check_mark(asked)
            self._client.open_since()
            super().__init__(where, asked, self._client.size(asked.collection))
        except BaseException:
            self._client.close()
            raise

    def look(self) -> Look:
        """See :class:`batch_adapters.marks.MarkedTable`."""
        client = self._client
        open_since = client.open_since()  # before the highest key: who ends between the two is seen by it
        top = client.top(self._asked)
        return Look(top, client.now(), open_since=open_since)

    def read(self, part: KeyRange, max_bytes: int) -> Pages:
        """See :class:`batch_adapters.marks.MarkedTable`."""
        yield from self.pages(self._client, part, max_bytes)

    def close(self) -> None:
        """See :class:`batch_adapters.marks.MarkedTable`."""
        self._client.close()
