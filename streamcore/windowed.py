"""A stream on its way into windows, as users declare it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, TypedDict

from streamcore.aggregates.table import Maker
from streamcore.declaring import at, caller
from streamcore.errors import BadConfig
from streamcore.windows.assigners import WindowKind
from streamcore.windows.counted import Counted
from streamcore.windows.declaration import counted_operator, sliding_operator, window_operator, window_table
from streamcore.windows.operator import WINDOW_END
from streamcore.windows.sliding import Sliding

if TYPE_CHECKING:
    from streamcore.stream import Stream


AnyKind = WindowKind | Counted | Sliding


class _Given(TypedDict):
    """Where the event time of a stream is, and which aggregates there are."""

    stream: str
    time: str | None
    of_windows: bool
    functions: Mapping[str, Maker]


class WindowedStream:
    """A stream whose rows belong to windows: :meth:`by` which keys, :meth:`aggregate` what of them."""

    def __init__(self, stream: Stream, kind: AnyKind, by: tuple[str, ...], late_updates: int = 0) -> None:
        self._stream, self._kind, self._by, self._late = stream, kind, by, late_updates

    def by(self, *columns: str) -> WindowedStream:
        """Windows for each combination of the values of *columns*; without, one for all rows."""
        return WindowedStream(self._stream, self._kind, columns, self._late)

    def aggregate(self, *, name: str | None = None, **aggregates: str) -> Stream:
        """Aggregates in SQL text by their names, e.g. ``flights="count(*)", mean="avg(delay)"``.

        The stream that comes out has a row for each closed window: the columns of :meth:`by`,
        ``window_start``, ``window_end``, and the aggregates. A window closes when the event time has
        passed its end by ``max_lateness``, or with the stream. Rows that come later than that are
        counted, and left out. To a window behind this one its last instant counts: the hour before
        midnight belongs to the day that ends there. ``first``, ``last`` and ``list`` go by the event time;
        of equal times the row of the lower partition comes first, and within one that of the lower offset.

        Of ``sc.counted(n)`` the rows have ``window_number`` instead of times. Of ``sc.sliding(…)`` they are
        the rows themselves, each with the aggregates of its window. With ``late_updates`` what comes out is a
        table: a window comes when it is over, and again whenever a late row changes it.
        """
        where, source = caller(), self._stream.node.source
        if self._late:
            return self._table(name, aggregates, where, final=True)
        if isinstance(self._kind, Counted):
            return self._counted(self._kind, name, aggregates, where)
        if isinstance(self._kind, Sliding):
            return self._sliding(self._kind, name, aggregates, where)
        with at(where):
            operator = window_operator(self._kind, self._by, aggregates, self._stream.columns, **self._given)
        nothing_late = dt.timedelta(0)
        after = replace(
            source, key=self._by, event_time=WINDOW_END, max_lateness=nothing_late, of_windows=True
        )
        return self._stream._kept(operator, name, "window", where, after)

    def table(self, *, name: str | None = None, **aggregates: str) -> Stream:
        """The same aggregates as a table: a window has a row from its first row on, which is kept up to date.

        The key of the table is that of :meth:`by` and ``window_start``. The last update of a window is what
        :meth:`aggregate` would have given. A session whose start is another one now, since an older row has
        come or since two have become one, is deleted under its old name.
        """
        return self._table(name, aggregates, caller(), final=False)

    def _table(self, name: str | None, aggregates: Mapping[str, str], where: str, *, final: bool) -> Stream:
        stream, given = self._stream, self._given
        with at(where):
            if isinstance(self._kind, Counted | Sliding):
                raise _no_table(self._kind, late=final)
            operator = window_table(
                self._kind, self._by, aggregates, stream.columns, **given, allowed=self._late, final=final
            )
        after = replace(stream.node.source, key=operator.key, event_time=None, of_windows=False, updates=True)
        return stream._kept(operator, name, "window", where, after)

    def _counted(self, kind: Counted, name: str | None, aggregates: Mapping[str, str], where: str) -> Stream:
        stream, own = self._stream, self._given["functions"]
        with at(where):
            operator = counted_operator(kind, self._by, aggregates, stream.columns, own)
        after = replace(stream.node.source, key=self._by, event_time=None, of_windows=False)
        return stream._kept(operator, name, "window", where, after)

    def _sliding(self, kind: Sliding, name: str | None, aggregates: Mapping[str, str], where: str) -> Stream:
        stream, given = self._stream, self._given
        with at(where):
            operator = sliding_operator(
                kind,
                self._by,
                aggregates,
                stream.columns,
                stream=given["stream"],
                time=given["time"],
                functions=given["functions"],
            )
        after = replace(stream.node.source, key=self._by, max_lateness=dt.timedelta(0))
        return stream._kept(operator, name, "window", where, after)

    @property
    def _given(self) -> _Given:
        source = self._stream.node.source
        return {
            "stream": source.name,
            "time": source.event_time,
            "of_windows": source.of_windows,
            "functions": self._stream._topology._aggregates,
        }


def _no_table(kind: Counted | Sliding, *, late: bool) -> BadConfig:
    """Why windows of *kind* have no updates, and what to do instead; *late*: those by late rows."""
    if late and isinstance(kind, Counted):
        what, fix = (
            "no row is late for windows of so many rows",
            "leave late_updates out, and each row counts",
        )
    elif late:
        what = "a late row changes the windows of rows that came before it, which have no key to find them by"
        fix = "give the stream a longer max_lateness, or take sc.hopping(…), whose windows late rows update"
    else:
        what = "these windows have no table: each comes once, with its last row"
        fix = "aggregate() gives them as rows; tumbling, hopping, session and global windows have a table"
    return BadConfig(what, got=kind.label, fix=fix)
