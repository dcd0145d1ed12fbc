"""Notices over an SQL database. What the methods promise is said in :mod:`.notices`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import cast

import orjson

from streamcore.metadata.database import Bulk, Rows, Statement, Value, Work
from streamcore.metadata.notices import Notice
from streamcore.metadata.reading import mapping, reader

_COLUMNS = "notice_id, run_id, pipeline_id, version, event, at_us, facts, due_us, tries, lead"
ADD = f"""insert into streamcore_notices ({_COLUMNS}, error)
    values ($1, $2, $3, $4, $5, $6, $7, $8, 0, null, '') on conflict (notice_id) do nothing"""


def added(notice: Notice) -> tuple[Value, ...]:
    """The values of :data:`ADD`."""
    facts = orjson.dumps(notice.facts).decode()
    about = (notice.notice_id, notice.run_id, notice.pipeline_id, notice.version, notice.event)
    return *about, notice.at_us, facts, notice.due_us


_notice_of = reader(Notice, facts=mapping)


class SqlNotices:
    """See :class:`streamcore.metadata.notices.Notices`."""

    def __init__(self, transact: Callable[[Work], Awaitable[bool]], rows: Rows) -> None:
        self._transact, self._rows = transact, rows

    async def add(self, notices: Sequence[Notice]) -> None:
        await self._transact([Bulk(ADD, [added(notice) for notice in notices])])

    async def due(self, now: int, limit: int) -> list[Notice]:
        sql = f"""select {_COLUMNS} from streamcore_notices where done_us is null and due_us <= $1
            and (lead is null or lead = notice_id) order by at_us, notice_id limit $2"""
        return [_notice_of(row) for row in await self._rows(sql, now, limit)]

    async def take(self, notice: Notice, until: int, *, fold: bool) -> list[Notice]:
        mine = """update streamcore_notices set lead = notice_id, due_us = $1 where notice_id = $2
            and due_us = $3 and tries = $4 and done_us is null and (lead is null or lead = notice_id)"""
        work = [Statement(mine, (until, notice.notice_id, notice.due_us, notice.tries), 1)]
        if fold and notice.lead is None:  # the message's other notices are settled when it is taken first
            others = """update streamcore_notices set lead = $1
                where pipeline_id = $2 and event = $3 and lead is null and done_us is null"""
            work.append(Statement(others, (notice.notice_id, notice.pipeline_id, notice.event)))
        if not await self._transact(work):
            return []
        sql = f"""select {_COLUMNS} from streamcore_notices where lead = $1
            order by case when notice_id = $1 then 0 else 1 end, at_us, notice_id"""
        return [_notice_of(row) for row in await self._rows(sql, notice.notice_id)]

    async def postpone(self, notice: Notice, due_us: int, error: str = "") -> None:
        sql = """update streamcore_notices set due_us = $1, tries = tries + $2, error = $3
            where notice_id = $4 and done_us is null"""
        await self._transact([Statement(sql, (due_us, 1 if error else 0, error, notice.notice_id))])

    async def done(self, notice: Notice, now: int, error: str = "") -> None:
        sql = """update streamcore_notices set done_us = $1, error = $2
            where (lead = $3 or notice_id = $3) and done_us is null"""
        await self._transact([Statement(sql, (now, error, notice.notice_id))])

    async def last(self, pipeline_id: str, event: str) -> tuple[bool, int | None]:
        sql = """select count(*) - count(done_us), max(done_us) from streamcore_notices
            where pipeline_id = $1 and event = $2 and lead = notice_id"""
        under_way, done = (await self._rows(sql, pipeline_id, event))[0]
        return bool(under_way), cast("int | None", done)
