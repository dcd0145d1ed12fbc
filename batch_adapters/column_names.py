"""Names of columns from a header row, whatever stands in it."""

from __future__ import annotations

from collections.abc import Sequence


def unique_names(header: Sequence[str], places: Sequence[int] | None = None) -> tuple[str, ...]:
    """An empty name becomes ``column_3`` (its place, from 1 on), repeated ones ``name_2``, ``name_3``."""
    given, taken = set(header), set[str]()
    numbers: dict[str, int] = {}
    names: list[str] = []
    for place, name in zip(places or range(1, len(header) + 1), header, strict=True):
        stem = candidate = name or f"column_{place}"
        while candidate in taken or (candidate != name and candidate in given):
            numbers[stem] = numbers.get(stem, 1) + 1
            candidate = f"{stem}_{numbers[stem]}"
        taken.add(candidate)
        names.append(candidate)
    return tuple(names)
