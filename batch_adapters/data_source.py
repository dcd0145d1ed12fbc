"""``DataSource``: the dictionary of a source, checked when it is made."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue

from batch_adapters.catalogue import option_names
from streamcore.addresses.dictionaries import named

__all__ = ["DataSource"]


class DataSource(dict[str, JsonValue]):
    """Where rows come from, as configurations write it; it goes wherever such a dictionary does.

    ::

        DataSource(type="file", file_path="data/*.csv", delimiter=",")
        DataSource(database_config)

    The keys are those of the type, see docs/connectors. BadConfig for a key that is missing, not known or
    wrong; nothing is looked for there, and no reference is resolved. Values are not shown.
    """

    def __init__(self, given: Mapping[str, JsonValue] | None = None, /, **keys: JsonValue) -> None:
        super().__init__(given or {}, **keys)
        named(self, option_names())

    def __repr__(self) -> str:
        return f"DataSource({', '.join(self)})"
