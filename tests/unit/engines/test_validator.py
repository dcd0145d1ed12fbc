"""``DataValidator``: the guide's rules over frames and sources."""

from __future__ import annotations

import polars as pl
import pytest
from pydantic import ValidationError

import streamcore as sc
from streamcore.errors import BadConfig
from tests.guide.blocks import run_block

GUIDE = run_block("Data Validation Rules")["validation_rules"]
USERS = pl.DataFrame(
    {
        "user_id": [1, 2, None, 2, 5],
        "age": [10, 130, 5, 6, -1],
        "email": ["a@b.co", "x", "c@d.ef", None, "y"],
    }
)


def failed(result):
    return {rule.rule_id: rule.failed for rule in result.rules}


def test_the_guides_rules():
    result = sc.DataValidator(GUIDE).validate(USERS)
    assert failed(result) == {"email_format": 2, "age_range": 2, "required_fields": 1}
    assert not result.valid
    assert [rule.rule_id for rule in result.errors] == ["email_format", "required_fields"]
    assert [rule.rule_id for rule in result.warnings] == ["age_range"]
    assert result.rules[0].pass_rate == pytest.approx(0.6)


def test_warnings_alone_leave_a_dataset_valid():
    assert sc.DataValidator(GUIDE[1:2]).validate(USERS).valid


def test_samples_are_the_first_rows_bounded_and_without_secrets():
    frame = pl.DataFrame({"n": list(range(200_000)), "password": ["hunter2"] * 200_000})
    rule = {"rule_type": "range", "column": "n", "parameters": {"max": 9}}
    result = sc.DataValidator([rule], secret_columns=["password"], samples=3).validate(frame)
    (range_,) = result.rules
    assert range_.failed == 199_990
    assert [row.position for row in range_.samples] == [10, 11, 12]
    assert range_.samples[0].row == {"n": 10, "password": "•••"}
    assert "hunter2" not in result.model_dump_json()


@pytest.mark.parametrize(
    ("rule", "fails"),
    [
        ({"rule_type": "unique", "column": "user_id"}, 1),
        ({"rule_type": "unique", "column": ["user_id", "age"]}, 0),
        ({"rule_type": "sql", "parameters": {"text": "age > user_id"}}, 1),
        ({"rule_type": "expression", "parameters": {"text": "age > user_id"}}, 1),
        ({"rule_type": "required", "column": "email"}, 1),
        ({"rule_type": "regex", "column": "email", "parameters": {"pattern": "@"}}, 2),
        ({"rule_type": "in_set", "column": "age", "parameters": {"values": [5, 6]}}, 3),
        ({"rule_type": "length", "column": "email", "parameters": {"min": 2}}, 2),
        ({"rule_type": "type", "column": "email", "parameters": {"type": "int64"}}, 4),
    ],
)
def test_rule_types(rule, fails):
    (result,) = sc.DataValidator().validate(USERS, [rule]).rules
    assert result.failed == fails
    assert "_fails" not in str(result.samples)


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"rule_type": "emial", "column": "email"}, "did you mean 'email'"),
        ({"rule_type": "email", "column": "emial"}, "did you mean 'email'"),
        ({"rule_type": "email", "colum": "email"}, "did you mean 'column'"),
        ({"rule_type": "email", "column": "age"}, "can't judge a column of this type"),
        ({"rule_type": "range", "column": "age", "parameters": {"mim": 0}}, "did you mean 'min'"),
        ({"rule_type": "range", "column": "age"}, "range needs min, max or both"),
        ({"rule_type": "unique", "column": "usr_id"}, "did you mean 'user_id'"),
        ({"rule_type": "email", "column": "email", "severity": "fatal"}, "allowed: error, warning"),
    ],
)
def test_mistakes_are_said(rule, said):
    with pytest.raises(BadConfig, match=said):
        sc.DataValidator([rule]).validate(USERS)


def test_a_column_may_be_called_as_the_flags_are():
    (result,) = (
        sc.DataValidator([{"rule_type": "unique", "column": "_fails"}])
        .validate(pl.DataFrame({"_fails": [1, 1]}))
        .rules
    )
    assert (result.failed, result.samples[0].row) == (1, {"_fails": 1})


def test_rules_as_models():
    rule = sc.ValidationRule(rule_type="range", column="age", parameters={"max": 100}, rule_id="age")
    assert failed(sc.DataValidator([rule]).validate(USERS)) == {"age": 1}
    with pytest.raises(BadConfig, match="did you mean 'range'"):
        sc.ValidationRule(rule_type="rnge", column="age")
    with pytest.raises(ValidationError):
        sc.ValidationRule(rule_type="email", column="email", colour="red")


def test_a_frame_without_rows_is_valid():
    result = sc.DataValidator(GUIDE).validate(USERS.clear())
    assert result.valid
    assert result.rules[0].pass_rate is None


async def test_a_source_gives_what_a_frame_gives(tmp_path):
    frame = pl.concat([USERS] * 2_000)
    frame.write_csv(tmp_path / "users.csv")
    rules = [*GUIDE, {"rule_type": "unique", "column": "user_id"}]
    streamed = await sc.DataValidator(rules).validate_source(tmp_path / "users.csv")
    at_once = sc.DataValidator(rules).validate(frame)
    assert (streamed.rows, streamed.refused) == (frame.height, 0)
    assert failed(streamed) == failed(at_once)
    assert [s.row for s in streamed.rules[0].samples] == [s.row for s in at_once.rules[0].samples]
    assert failed(streamed)["unique(user_id)"] == 8_000 - 3


async def test_rows_that_cannot_be_read_make_a_source_invalid(tmp_path):
    (tmp_path / "users.csv").write_text("age\n1\nx\n3\n")
    rule = {"rule_type": "range", "column": "age", "parameters": {"min": 0}}
    result = await sc.DataValidator([rule]).validate_source(tmp_path / "users.csv", columns={"age": "int64"})
    assert (result.rows, result.refused, result.valid) == (2, 1, False)
