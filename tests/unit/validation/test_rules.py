"""Rules: what fails, what a null does, and what becomes of failing rows."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import polars as pl
import pytest

from streamcore.batch import HIDDEN, OFFSET, hide
from streamcore.errors import BadConfig, Permanent
from streamcore.validation import Rule, Validate, rules

UTC = dt.timezone.utc


def frame(**columns: Any) -> pl.DataFrame:
    rows = pl.DataFrame(columns)
    return hide(rows, np.arange(100, 100 + rows.height))


def failing(rule: Rule, values: list[Any], dtype: Any = None) -> list[Any]:
    """The values for which *rule*, written about column a, fails."""
    rows = frame(a=pl.Series(values, dtype=dtype))
    check = Validate.of([rule], rows.drop(HIDDEN).schema)
    places = (check.apply(rows, "v").rejects.frame[OFFSET] - 100).to_list()
    return [values[i] for i in places]


INSTANT = pl.Datetime("us", "UTC")
MOMENT = dt.datetime(2026, 1, 1, tzinfo=UTC)
CASES: list[tuple[Rule, Any, list[Any], list[Any]]] = [
    # rule, type of column, passing values, failing values
    (rules.not_null("a"), pl.Int64, [0], [None]),
    (rules.not_null("a"), pl.Float64, [float("nan")], [None]),
    (rules.range("a", min=0, max=120), pl.Int64, [0, 120, None], [-1, 121]),
    (rules.range("a", min=0.5), pl.Int64, [1, None], [0]),
    (rules.range("a", max=1), pl.Float64, [1.0, -float("inf"), None], [1.1, float("nan"), float("inf")]),
    (rules.range("a", min="b", max="c"), pl.String, ["b", "bz", "c", None], ["a", "ca"]),
    (rules.range("a", min="2026-01-01"), INSTANT, [MOMENT, None], [MOMENT - dt.timedelta(0, 1)]),
    (rules.range("a", max=MOMENT), INSTANT, [MOMENT], [MOMENT + dt.timedelta(0, 1)]),
    (rules.range("a", min="2026-01-02"), pl.Date, [dt.date(2026, 1, 2)], [dt.date(2026, 1, 1)]),
    (
        rules.email("a"),
        pl.String,
        ["a@b.co", "first.last+tag@sub.example.com", "o'neil@x-y.org", "a@xn--bcher-kva.example", None],
        ["", "a", "a@b", "@b.co", "a@.co", "a b@c.de", "a@b..co", "a@-b.co", "a@b-.co", "a@b.co\n", "ä@b.co",
         "a" * 65 + "@b.co", "a@" + "b." * 130 + "co", "a@b.co.", "a@b_c.de"],
    ),
    (rules.regex("a", "^x[0-9]$"), pl.String, ["x1", None], ["x", "ax1", "x1\n"]),
    (rules.in_set("a", ["x", "y"]), pl.String, ["x", None], ["z", ""]),
    (rules.in_set("a", [1, 2]), pl.Int64, [1, None], [3]),
    (rules.length("a", min=1, max=2), pl.String, ["é", "😀😀", None], ["", "abc"]),
    (rules.length("a", min=1), pl.List(pl.Int64), [[1], None], [[]]),
    (rules.length("a", max=1), pl.Binary, [b"", b"a", None], [b"ab"]),
    (rules.type("a", "int64"), pl.String, ["5", "-1", None], ["5.5", "x", "", "9" * 30]),
    (rules.type("a", "date"), pl.String, ["2026-02-28", None], ["2026-02-30", "x"]),
    (rules.type("a", "int64"), pl.Float64, [5.0, None], [5.5, float("nan")]),
    (rules.type("a", "int64"), pl.Int64, [5, None], []),
    (rules.expression("a > 1 and a < 5"), pl.Int64, [2, None], [1, 5]),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "dtype", "good", "bad"), CASES, ids=[f"{c[0].id} {c[1]}" for c in CASES])
def test_what_passes_and_what_fails(rule: Rule, dtype: Any, good: list[Any], bad: list[Any]) -> None:
    assert repr(failing(rule, [*good, *bad], dtype)) == repr(bad)


def test_severity_and_on_fail_decide_the_fate_of_a_row() -> None:
    fates = {
        ("error", None): "dead-letter",
        ("warning", None): "flag",
        ("error", "flag"): "flag",
        ("warning", "dead-letter"): "dead-letter",
        ("error", "drop"): "drop",
    }
    for (severity, on_fail), fate in fates.items():
        rule = rules.range("a", min=0, severity=severity, on_fail=on_fail)  # type: ignore[arg-type]
        step = Validate.of([rule], pl.Schema({"a": pl.Int64}), flag_column="flags")
        result = step.apply(frame(a=[1, -1]), "node")
        assert result.counts == {"rule:range(a):failed": 1}
        assert len(result.rejects) == (1 if fate == "dead-letter" else 0)
        assert result.frame["a"].to_list() == ([1, -1] if fate == "flag" else [1])
        assert result.frame["flags"].to_list() == ([[], ["range(a)"]] if fate == "flag" else [[]])
        assert tuple(result.frame.columns) == ("a", "flags", *HIDDEN)
        assert result.frame.drop(HIDDEN).schema == step.output(pl.Schema({"a": pl.Int64}))


def test_a_default_on_fail_is_for_rules_that_do_not_say_it() -> None:
    given = [rules.range("a", min=0), rules.not_null("a", on_fail="drop", rule_id="there")]
    result = Validate.of(given, pl.Schema({"a": pl.Int64}), on_fail="flag").apply(frame(a=[-1, None]), "node")
    assert result.frame["a"].to_list() == [-1]
    assert not len(result.rejects)
    assert result.counts == {"rule:range(a):failed": 1, "rule:there:failed": 1}


def test_stop_names_the_rule_and_the_first_position() -> None:
    step = Validate.of(
        [rules.range("a", max=5, on_fail="stop"), rules.not_null("a", on_fail="stop", rule_id="there")],
        pl.Schema({"a": pl.Int64}),
    )
    with pytest.raises(Permanent, match=r"position 101, row 0: .*'there'"):
        step.apply(frame(a=[1, None, 9]), "node")
    assert step.apply(frame(a=[1, 2]), "node").frame.height == 2


def test_a_row_that_breaks_several_rules_is_one_dead_letter_of_the_first() -> None:
    given = [
        rules.range("a", max=5, rule_id="small", name="Small numbers"),
        rules.expression("a <> 9"),
        rules.range("a", max=6, on_fail="drop", rule_id="dropped"),
    ]
    result = Validate.of(given, pl.Schema({"a": pl.Int64})).apply(frame(a=[9, 6, 1]), "node")
    assert result.frame["a"].to_list() == [1]
    assert result.rejects.frame.rows() == [
        (100, 0, "node", "small", "Small numbers: a (max=5); expression: a <> 9"),
        (101, 0, "node", "small", "Small numbers: a (max=5)"),
    ]
    assert result.counts == {
        "rule:small:failed": 2,
        "rule:expression(a <> 9):failed": 1,
        "rule:dropped:failed": 1,
    }


def test_dead_letters_hold_no_content() -> None:
    result = Validate.of([rules.email("a")], pl.Schema({"a": pl.String})).apply(frame(a=["s3cret"]), "node")
    assert "s3cret" not in str(result.rejects.frame.rows())
    assert result.rejects.frame["code"].to_list() == ["email"]


def test_a_row_for_which_an_expression_can_not_be_computed_fails() -> None:
    rule = rules.expression("cast(a as int) > 0")
    assert failing(rule, ["1", "x", "2", None, "0"]) == ["x", "0"]


def test_no_rows() -> None:
    step = Validate.of([c[0] for c in CASES[2:3]], pl.Schema({"a": pl.Int64}), flag_column="flags")
    result = step.apply(frame(a=pl.Series([], dtype=pl.Int64)), "node")
    assert result.frame.drop(HIDDEN).schema == step.output(pl.Schema({"a": pl.Int64}))
    assert result.counts == {}


COLUMNS = pl.Schema({"age": pl.Int64, "name": pl.String})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Validate.of([rules.not_null("agee")], COLUMNS), "did you mean 'age'"),
        (lambda: Validate.of([rules.email("age")], COLUMNS), r"can't judge.*Int64.*allowed: String"),
        (lambda: Validate.of([rules.length("age", max=1)], COLUMNS), "can't judge"),
        (lambda: Validate.of([rules.range("name", min=1)], COLUMNS), "does not compare"),
        (lambda: Validate.of([rules.range("age", min="x")], COLUMNS), "does not compare"),
        (lambda: Validate.of([rules.in_set("age", ["x"])], COLUMNS), "not all of the column's type"),
        (lambda: Validate.of([rules.expression("agee > 1")], COLUMNS), "did you mean 'age'"),
        (lambda: Validate.of([rules.expression("age + 1")], COLUMNS), "true or false"),
        (lambda: Validate.of([], COLUMNS), "at least one rule"),
        (lambda: Validate.of([rules.email("name")] * 2, COLUMNS), "one id"),
        (lambda: Validate.of([rules.email("name")], COLUMNS, "explode"), "dead-letter, flag, drop, stop"),
        (lambda: Validate.of([rules.email("name")], COLUMNS, None, "age"), "there already"),
        (lambda: rules.range("age"), "min, max or both"),
        (lambda: rules.range("age", min=2, max=1), "min is above max"),
        (lambda: rules.regex("name", "("), "not a regular expression"),
        (lambda: rules.in_set("name", "abc"), "list of values"),
        (lambda: rules.type("name", "int46"), "did you mean 'int64'"),
        (lambda: rules.email("name", severity="fatal"), "error, warning"),
        (lambda: rules.email("name", on_fail="dead_letter"), "did you mean 'dead-letter'"),
        (lambda: rules.from_dict({"rule_type": "emial", "column": "name"}), "did you mean 'email'"),
        (lambda: rules.from_dict({"rule_type": "email", "columns": "name"}), "did you mean 'column'"),
        (lambda: rules.from_dict({"rule_type": "email"}), "column"),
        (
            lambda: rules.from_dict({"rule_type": "range", "column": "age", "parameters": {"low": 1}}),
            "'low', allowed: min, max",
        ),
        (
            lambda: rules.from_dict(
                {"rule_type": "expression", "column": "age", "parameters": {"text": "1"}}
            ),
            "no column",
        ),
        (lambda: rules.from_dict({"rule_type": "range", "column": "age", "parameters": [1]}), "mapping"),
    ],
)
def test_mistakes_are_named(make: Any, message: str) -> None:
    with pytest.raises(BadConfig, match=message):
        make()


def test_rules_of_the_guide() -> None:
    given = [
        {"rule_id": "email_format", "name": "Email Format Check", "rule_type": "email", "column": "email",
         "severity": "error"},
        {"rule_id": "age_range", "name": "Age Range Check", "rule_type": "range", "column": "age",
         "parameters": {"min": 0, "max": 120}, "severity": "warning"},
        {"rule_id": "required_fields", "name": "Required Fields", "rule_type": "not_null",
         "column": "user_id", "severity": "error"},
        {"rule_type": "expression", "parameters": {"text": "age <> 13"}, "on_fail": "drop"},
    ]  # fmt: skip
    rows = frame(email=["a@b.co", "x", "a@b.co", "a@b.co"], age=[5, 5, 130, 13], user_id=[1, 2, None, 4])
    step = Validate.of([rules.from_dict(g) for g in given], rows.drop(HIDDEN).schema)
    result = step.apply(rows, "checks")
    assert result.frame["user_id"].to_list() == [1]
    assert result.rejects.frame["code"].to_list() == ["email_format", "required_fields"]
    assert result.counts == {
        "rule:email_format:failed": 1,
        "rule:age_range:failed": 1,
        "rule:required_fields:failed": 1,
        "rule:expression(age <> 13):failed": 1,
    }
