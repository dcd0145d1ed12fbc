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
    ``ordered``: whether the rows must be sorted, or lie in the key's order anyway.
    """

    relation: str
    key: tuple[str, ...]
    where: str | None
    text: Callable[[str], str]
    constant: Callable[[str], str]
    ordered: bool = True

    def rows(self, part: KeyRange, columns: Sequence[str]) -> str:
        """*columns* (expressions) of the rows of *part*, in the key's order."""
        bounds = [
            f"({', '.join(self.key)}) {sign} ({', '.join(map(self.constant, border))})"
            for sign, border in ((">", part.behind), ("<=", part.until))
            if border is not None
        ]
        order = f" order by {', '.join(self.key)}" if self.key and self.ordered else ""
        return f"select {', '.join(columns)} from {self.relation}{self._where(bounds)}{order}"

    def borders(self, parts: int, sample: str = "") -> str:
        """The keys that cut the rows into *parts* of about the same size; *sample* follows the relation."""
        key = ", ".join(self.key)
        texts = ", ".join(map(self.text, self.key))
        places = ", ".join(f"every * {part} / {parts}" for part in range(1, parts))
        placed = (
            f"select {key}, row_number() over (order by {key}) as place, count(*) over () as every "
            f"from {self.relation}{sample}{self._where([])}"
        )
        return f"select {texts} from ({placed}) as placed where place in ({places}) order by place"

    def nulls(self) -> str:
        """A row whose key is null, if there is one."""
        null = " or ".join(f"{column} is null" for column in self.key)
        return f"select 1 from {self.relation}{self._where([f'({null})'])} limit 1"

    def _where(self, bounds: Sequence[str]) -> str:
        conditions = [f"({self.where})", *bounds] if self.where else bounds
        return f" where {' and '.join(conditions)}" if conditions else ""
