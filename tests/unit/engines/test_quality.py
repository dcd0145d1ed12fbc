"""``QualityEngine``: metrics, thresholds and what is kept, over frames and sources."""

from __future__ import annotations

import asyncio
import datetime as dt

import polars as pl
import pytest

from streamcore.engines.quality import QualityEngine
from streamcore.engines.quality_history import QualityHistory
from streamcore.errors import BadConfig, Permanent
from streamcore.metadata import open_store
from streamcore.quality.config import quality_config

AS_OF = dt.datetime(2024, 1, 10, tzinfo=dt.timezone.utc)
USERS = pl.DataFrame(
    {
        "id": [1, 2, 3, 3],
        "age": [10, 200, None, 40],
        "email": ["a@b.co", "x", None, None],
        "seen": [dt.datetime(2024, 1, day) for day in (1, 8, 9, 10)],
    }
)
CONFIG = {
    "dataset": "users",
    "rules": [
        {"rule_type": "range", "column": "age", "parameters": {"max": 120}, "rule_id": "age"},
        {"rule_type": "email", "column": "email", "severity": "warning"},
        {"rule_type": "unique", "column": "id"},
        {"rule_type": "sql", "parameters": {"text": "age > id"}},
        {"rule_type": "not_null", "column": "email", "severity": "warning"},
    ],
    "timeliness": {"column": "seen", "max_age": "3d"},
}


@pytest.fixture
def kept(tmp_path):
    with QualityHistory(f"sqlite:///{tmp_path}/kept.db") as history:
        yield history


def values(report):
    return {(metric.metric, metric.column): metric.value for metric in report.metrics}


def test_the_five_metrics():
    found = values(QualityEngine().check(USERS, CONFIG, as_of=AS_OF))
    assert found["completeness", None] == 13 / 16
    assert found["validity", None] == 3 / 4  # one row has a bad age and a bad address
    assert found["uniqueness", None] == 3 / 4
    assert found["consistency", None] == 1.0
    assert found["timeliness", None] == 3 / 4
    assert found["completeness", "email"] == 2 / 4
    assert found["validity", "email"] == 1 / 2
    assert found["validity", "age"] == 2 / 3
    assert found["uniqueness", "id"] == 3 / 4
    assert ("validity", "seen") not in found


def test_without_rules_or_a_time_a_metric_is_left_out():
    found = values(QualityEngine().check(USERS))
    assert {metric for metric, _ in found} == {"completeness", "uniqueness"}


def test_a_rule_says_its_severity_and_a_threshold_says_otherwise():
    engine = QualityEngine()
    report = engine.check(USERS, CONFIG)
    assert report.level == "fail"
    assert report.rule_levels["age"] == "fail"
    assert report.rule_levels["email(email)"] == "warn"
    allowing = [{"rule": "age", "fail": 0.5}, {"rule": "unique(id)", "warn": 0.9, "fail": 0.5}]
    report = engine.check(USERS, {**CONFIG, "thresholds": allowing})
    assert (report.level, report.rule_levels["age"], report.rule_levels["unique(id)"]) == (
        "warn",
        "ok",
        "warn",
    )


@pytest.mark.parametrize(
    ("threshold", "level"),
    [
        ({"metric": "completeness", "fail": 0.9}, "fail"),
        ({"metric": "completeness", "warn": 0.9, "fail": 0.5}, "warn"),
        ({"metric": "completeness", "warn": 0.8}, "ok"),
        ({"metric": "completeness", "column": "email", "fail": 0.6}, "fail"),
        ({"metric": "completeness", "column": "id", "fail": 1.0}, "ok"),
        ({"metric": "consistency", "fail": 0.1}, "fail"),  # it could not be told
    ],
)
def test_thresholds(threshold, level):
    assert QualityEngine().check(USERS, {"thresholds": [threshold]}).level == level


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"ruls": []}, "did you mean 'rules'"),
        ({"rules": [{"rule_type": "emial", "column": "email"}]}, "did you mean 'email'"),
        ({"thresholds": [{"rule": "agee", "fail": 1}], "rules": CONFIG["rules"]}, "did you mean 'age'"),
        ({"thresholds": [{"metric": "completness", "fail": 1}]}, "thresholds.0.metric"),
        ({"thresholds": [{"metric": "completeness"}]}, "needs warn, fail or both"),
        ({"thresholds": [{"metric": "completeness", "fail": 99}]}, "less than or equal to 1"),
        ({"timeliness": {"column": "age", "max_age": "1d"}}, "timeliness needs a column of times"),
        ({"timeliness": {"column": "sen", "max_age": "1d"}}, "did you mean 'seen'"),
        ({"secret_columns": ["emial"]}, "did you mean 'email'"),
    ],
)
def test_mistakes_are_said(config, said):
    with pytest.raises(BadConfig, match=said):
        QualityEngine().check(USERS, config)


async def test_a_source_gives_what_a_frame_gives(tmp_path):
    frame = pl.concat([USERS] * 3_000)
    frame.write_parquet(tmp_path / "users.parquet")
    streamed = await QualityEngine().run(tmp_path / "users.parquet", CONFIG, as_of=AS_OF)
    at_once = QualityEngine().check(frame, CONFIG, as_of=AS_OF)
    assert streamed.metrics == at_once.metrics
    assert streamed.profile.columns == at_once.profile.columns
    assert streamed.rule_levels == at_once.rule_levels


async def test_refused_rows_are_not_valid(tmp_path):
    (tmp_path / "users.csv").write_text("age\n1\nx\n3\n4\n")
    report = await QualityEngine().run(tmp_path / "users.csv", {"columns": {"age": "int64"}})
    assert (report.rows, report.refused) == (3, 1)
    assert values(report)["validity", None] == 3 / 4


async def test_looks_are_kept(tmp_path, kept):
    USERS.write_csv(tmp_path / "users.csv")
    engine = QualityEngine(kept)
    first = await engine.run(tmp_path / "users.csv", as_of=AS_OF)
    assert (first.dataset, first.history) == ("users", [])
    second = await engine.run(tmp_path / "users.csv")
    assert [record.as_of for record in second.history] == [AS_OF]
    assert second.history[0] == first.record()
    assert len(kept.history("users", 10)) == 2
    assert len(kept.history("users", 1)) == 1
    assert kept.history("others", 10) == []
    assert [record.as_of for record in kept.datasets()] == [second.as_of]


def test_drift_is_measured_from_the_stores_baseline(kept):
    flights = pl.read_parquet("data/flights-200k.parquet")
    engine = QualityEngine(kept)
    first = engine.check(flights, {"dataset": "flights"})
    assert first.drift is None
    kept.keep_baseline(first.profile)
    later = flights.with_columns(pl.col("delay") + 20)
    report = engine.check(later, {"dataset": "flights"})
    assert (report.level, report.drift.level) == ("fail", "fail")
    assert report.baseline == first.profile
    assert engine.check(later, {"dataset": "others"}).drift is None


async def test_a_baseline_that_is_none_names_its_dataset(kept, tmp_path):
    kept.history("users", 1)
    store = await open_store(f"sqlite:///{tmp_path}/kept.db")
    await store.measurements.keep_baseline("users", "{}", 1)
    await store.close()
    with pytest.raises(Permanent, match="the baseline of 'users' can't be read"):
        await asyncio.to_thread(kept.baseline, "users")


def test_a_dataset_has_a_plain_name(kept):
    with pytest.raises(BadConfig, match="can't be the name of a dataset"):
        kept.history("../x", 1)


def test_a_configuration_is_data():
    config = quality_config(CONFIG)
    assert config.timeliness.max_age == dt.timedelta(days=3)
