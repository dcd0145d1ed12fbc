"""The statements by which the rows of a key's range are read, in the SQL that databases share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from batch_adapters.key_ranges import KeyRange


@dataclass(frozen=True, slots=True)
class KeySql:
    """Of *relation*, what stands behind FROM, the rows for which the condition *where* is true.

    ``key``: the key's columns, quoted; none: all rows are one range. ``text`` makes of a column an
    expression for its text in a ``Key``, ``constant`` of that text what such a column is compared with.
    ``ordered``: whether the rows must be sorted, or lie in the key's order anyway. ``row_values``: whether
    the system finds a range by ``(a, b) > (x, y)``, or only when it is written out.
    """

    relation: str
    key: tuple[str, ...]
    where: str | None
    text: Callable[[str], str]
    constant: Callable[[str], str]
    ordered: bool = True
    row_values: bool = True

    def rows(self, part: KeyRange, columns: Sequence[str], limit: str = "") -> str:
        """*columns* (expressions) of the rows of *part*, in the key's order; *limit* is the clause's text."""
        bounds = [
            self._bound(sign, list(map(self.constant, border)))
            for sign, border in ((">", part.behind), ("<=", part.until))
            if border is not None
        ]
        order = f" order by {', '.join(self.key)}" if self.key and self.ordered else ""
        return f"select {', '.join(columns)} from {self.relation}{self._where(bounds)}{order}{limit}"

    def _bound(self, sign: str, border: Sequence[str]) -> str:
        """The rows whose key is above, or not above, *border* (constants)."""
        if self.row_values or len(border) == 1:
            return f"({', '.join(self.key)}) {sign} ({', '.join(border)})"
        pairs = list(zip(self.key, border, strict=True))
        cases = []
        for place, (column, value) in enumerate(pairs):
            same = [f"{c} = {v}" for c, v in pairs[:place]]
            strict = sign if place == len(pairs) - 1 else sign[0]
            cases.append(" and ".join([*same, f"{column} {strict} {value}"]))
        return f"({' or '.join(f'({case})' for case in cases)})"

    def borders(self, parts: int, sample: str = "") -> str:
        """The keys that cut the rows into *parts* of about the same size; *sample* follows the relation."""
        key = ", ".join(self.key)
        texts = ", ".join(map(self.text, self.key))
        # Written so that what is divided is a multiple: "/" is not of whole numbers everywhere.
        places = ", ".join(f"(_every * {n} - _every * {n} % {parts}) / {parts}" for n in range(1, parts))
        placed = (
            f"select {key}, row_number() over (order by {key}) as _place, count(*) over () as _every "
            f"from {self.relation}{sample}{self._where([])}"
        )
        return f"select {texts} from ({placed}) as placed where _place in ({places}) order by _place"

    def top(self) -> str:
        """The texts of the highest key, if there is a row."""
        order = ", ".join(f"{column} desc" for column in self.key)
        # Named: a text that is called like its column would be what is ordered by.
        texts = ", ".join(f"{self.text(column)} as _key{n}" for n, column in enumerate(self.key))
        return f"select {texts} from {self.relation}{self._where([])} order by {order} limit 1"

    def nulls(self) -> str:
        """A row whose key is null, if there is one."""
        null = " or ".join(f"{column} is null" for column in self.key)
        return f"select 1 from {self.relation}{self._where([f'({null})'])} limit 1"

    def twice(self) -> str:
        """A key that several rows have, as the system compares it, if there is one."""
        key = ", ".join(self.key)
        return (
            f"select {key} from {self.relation}{self._where([])} group by {key} having count(*) > 1 limit 1"
        )

    def _where(self, bounds: Sequence[str]) -> str:
        conditions = [f"({self.where})", *bounds] if self.where else bounds
        return f" where {' and '.join(conditions)}" if conditions else ""
