"""Adult users with a valid e-mail address and their age group: from one Kafka topic to another."""

from __future__ import annotations

import streamcore as sc


class User(sc.Event):
    """A user signed up or changed."""

    user_id: int
    email: str
    age: int
    country: str


topology = sc.Topology("adults")
users = topology.stream("users", User, key="user_id")

(
    users.filter("age >= 18")
    .validate(sc.rules.email("email"))
    .add_column("age_group", "case when age < 30 then 'Young' when age < 50 then 'Middle' else 'Senior' end")
    .to(sc.sinks.Topic("adults", key="user_id"))
)
