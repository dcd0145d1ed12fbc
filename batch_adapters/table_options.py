"""What all tables of databases are asked for alike: options, and the errors for what there is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from streamcore.durations import DurationText
from streamcore.errors import BadConfig, did_you_mean

ColumnT = TypeVar("ColumnT")
OptionsT = TypeVar("OptionsT", bound=BaseModel)


class TableOptions(BaseModel):
    """Options of sources that are tables, beside those of the connection."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    table: str | None = Field(
        None, description="Table or view; of another schema than the usual one: sales.users."
    )
    query: str | None = Field(None, description="A SELECT instead of a table.")
    key: str | None = Field(None, description="Columns that are unique together and never null: a,b.")
    columns: str | None = Field(None, description="Columns to read: a,b. All unless given.")
    where: str | None = Field(None, description="An SQL condition on the rows.")

    @model_validator(mode="after")
    def _one_of_two(self) -> TableOptions:
        if self.table is not None and self.query is not None:
            raise BadConfig("give a table or a query, not both", got=f"{self.table} and {self.query}")
        return self

    def of_only_table(self, names: Sequence[str], where: str) -> TableOptions:
        """These, of the only one of *names*. BadConfig lists them if they are several or none."""
        if len(names) == 1:
            return self.model_copy(update={"table": names[0]})
        raise BadConfig(
            "which table is meant?" if names else "there is no table that may be seen",
            where=where,
            allowed=names,
            fix="add ?table=NAME or ?query=SELECT…",
        )

    @property
    def subquery(self) -> str:
        """The query as what stands behind FROM; its last line may be a comment."""
        return f"({(self.query or '').rstrip().rstrip(';')}\n) as asked"

    @property
    def shown(self) -> str:
        """What is read, as in a URI's query."""
        return f"query={self.query}" if self.table is None else f"table={self.table}"


class MarkOptions(BaseModel):
    """Options of what can be read in runs."""

    mark: str | None = Field(
        None,
        description="A column that grows with each change of a row: each run reads only what came since the "
        "last one.",
    )
    settle: DurationText = Field(
        "2s", description="With mark=: so long a row must have been seen before it is read."
    )


class IncrementalOptions(TableOptions, MarkOptions):
    """Options of tables that can be read in runs."""


def table_of(given: Mapping[str, object]) -> TableOptions:
    """The table that the options *given* name."""
    return TableOptions.model_validate(given)


def apart(kind: type[OptionsT], given: Mapping[str, object]) -> tuple[OptionsT, Mapping[str, object]]:
    """Those of *given* that are of *kind*, and the others."""
    own = {name: value for name, value in given.items() if name in kind.model_fields}
    return kind.model_validate(own), {name: value for name, value in given.items() if name not in own}


def no_such_table(name: str | None, there: Sequence[str], where: str) -> BadConfig:
    """The error for a table *name* that is not *there*."""
    fix = did_you_mean(name or "", there) or "name one that there is"
    what = "there is no such table, or this user may not see it"
    return BadConfig(what, where=where, got=name, allowed=there[:20], fix=fix)


def null_key(key: str, where: str) -> BadConfig:
    """The error for a *key* that is null in some row, which no range of keys would hold."""
    fix = "give columns that are never null with key=, or leave such rows out with where="
    return BadConfig("the key is null in some row", where=where, got=key, fix=fix)


def marked_key(mark: str, key: str, where: str) -> str:
    """*mark*, then the columns of *key* (a,b). BadConfig where there is no key."""
    if not key:
        fix = "give columns that are unique together with key="
        raise BadConfig("there is no key, and several rows may have one mark", where=where, fix=fix)
    return ",".join([mark, *(name for name in key.split(",") if name.strip() != mark)])


def named(known: Mapping[str, ColumnT], names: str, option: str, where: str) -> list[ColumnT]:
    """Those of the *known* columns that *names* (a,b) says. BadConfig, with the *option*, for others."""
    wanted = [name.strip() for name in names.split(",")]
    for name in wanted:
        if name not in known:
            raise BadConfig(
                f"{option}: there is no such column",
                where=where,
                got=name,
                allowed=known,
                fix=did_you_mean(name, known),
            )
    return [known[name] for name in wanted]
