"""SQL text to polars: what is refused, and that the message says what exists."""

from __future__ import annotations

import polars as pl
import pytest

from streamcore.errors import BadConfig
from streamcore.expressions import condition, sql

COLUMNS = pl.Schema({"age": pl.Int64, "name": pl.String, "Airport Name": pl.String})


@pytest.mark.parametrize(
    ("text", "values", "expected"),
    [
        ("age >= 18", {"age": [17, 18, None]}, [False, True, None]),
        ("case when age < 30 then 'Young' else 'Old' end", {"age": [17, 50, None]}, ["Young", "Old", "Old"]),
        ("\"Airport Name\" = 'X'", {"Airport Name": ["X", "Y", None]}, [True, False, None]),
        (
            "name like 'a%' or age is null",
            {"name": ["ab", "b", "b"], "age": [1, 2, None]},
            [True, False, True],
        ),
        ("substr(name, 1, 2)", {"name": ["abc"]}, ["ab"]),
        ("age / 2", {"age": [1]}, [0.5]),
        ("'now' || name", {"name": ["a"]}, ["nowa"]),
    ],
)
def test_expressions_follow_sql(text: str, values: dict[str, list[object]], expected: list[object]) -> None:
    frame = pl.DataFrame(values, schema={n: t for n, t in COLUMNS.items() if n in values})
    assert frame.select(sql(text, COLUMNS).alias("r"))["r"].to_list() == expected


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("aeg > 1", "did you mean 'age'?"),
        ("nope > 1", "allowed: age, name, Airport Name"),
        ("_offset > 1", "unknown column"),
        ("age >", "cannot parse"),
        ("name > 1", "types clash"),
        ("sum(age) > 1", "more than one row"),
        ("count(*) > 1", "more than one row"),
        ("quantile_disc(age, 0.5) > 1", "more than one row"),
        ("corr(age, age) > 0", "more than one row"),
        ("age > 1 and rank() over (order by age) = 1", "more than one row"),
        ("row_number() over (order by age) > 1", "more than one row"),
        ("age > 1; drop table x", "cannot parse"),
        ("read_csv('x')", "cannot parse"),
        ("current_timestamp > '2020-01-01'", "asks the clock"),
    ],
)
def test_bad_expressions_are_refused_with_a_reason(text: str, part: str) -> None:
    with pytest.raises(BadConfig) as caught:
        sql(text, COLUMNS)
    assert part in str(caught.value)


def test_a_condition_must_be_boolean() -> None:
    with pytest.raises(BadConfig, match="must be true or false, got 'Int64'"):
        condition("age + 1", COLUMNS)


def test_a_column_named_like_a_word_of_sql_is_told_to_be_quoted() -> None:
    columns = pl.Schema({"user": pl.String})
    with pytest.raises(BadConfig) as caught:
        sql("user = 'ann'", columns)
    assert caught.value.fix == '"user" is a word of SQL: write the column in double quotes'
    assert sql("\"user\" = 'ann'", columns).meta.root_names() == ["user"]
