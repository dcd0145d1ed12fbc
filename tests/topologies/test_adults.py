"""The topology of users: who is under age is left out, who has no address is refused."""

from streamcore.testing import TopologyDriver
from topologies.adults import topology

USER = {"user_id": 1, "email": "ada@example.com", "age": 30, "country": "GB"}


def test_adults_get_an_age_group():
    driver = TopologyDriver(topology)
    (sink,) = driver.graph.sinks
    driver.push("users", [{**USER, "age": age} for age in (17, 18, 29, 30, 49, 50)])
    groups = [(row["age"], row["age_group"]) for row in driver.rows(sink)]
    assert groups == [(18, "Young"), (29, "Young"), (30, "Middle"), (49, "Middle"), (50, "Senior")]


def test_what_has_no_address_is_refused_and_minors_are_not_asked():
    driver = TopologyDriver(topology)
    driver.push("users", [{**USER, "email": "nobody"}, {**USER, "age": 5, "email": "nobody"}])
    assert [letter.code for letter in driver.dead_letters] == ["email"]
