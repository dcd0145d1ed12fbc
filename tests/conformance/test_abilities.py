"""What the catalogue says of a connector is what its suite finds."""

from __future__ import annotations

import pytest

from batch_adapters.catalogue import FORMATS, SYSTEMS
from streamcore.testing.sources import BoundedSourceConformance
from tests.conformance import test_bounded_sources as files
from tests.conformance import test_kafka_range as kafka
from tests.conformance import test_rest_source as rest
from tests.conformance import test_table_sources as tables

SUITES: dict[str, type[BoundedSourceConformance]] = {
    "postgresql": tables.PostgresLaws,
    "mysql": tables.MysqlLaws,
    "sqlite": tables.SqliteLaws,
    "mongodb": tables.MongoLaws,
    "redis": tables.RedisLaws,
    "rest": rest.RestLaws,
    "kafka": kafka.TestKafkaRange,
    "csv": files.TestCsv,
    "json": files.TestJsonLines,
    "parquet": files.TestParquet,
    "avro": files.TestAvro,
    "excel": files.TestExcel,
}
ABILITIES = {system.page: system.abilities for system in SYSTEMS.values()} | {
    name: entry.abilities for name, entry in FORMATS.items()
}


@pytest.mark.parametrize("name", SUITES)
def test_abilities_are_what_the_suite_finds(name: str) -> None:
    suite, abilities = SUITES[name], ABILITIES[name]
    assert abilities.columns == (suite.known_columns is not None)
    assert abilities.splits or suite.splits_of_four == 1
    assert abilities.splits == (suite.splits_of_four > 1) or name == "kafka", "which has one a partition"


def test_every_connector_has_a_suite() -> None:
    assert SUITES.keys() == ABILITIES.keys()
