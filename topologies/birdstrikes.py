"""Bird strikes: a CSV with spaces in its column names; reports with unknown damage classes are refused."""

from __future__ import annotations

import datetime as dt

from pydantic import Field

import streamcore as sc


class Strike(sc.Event):
    """A reported strike; costs in US dollars, ``speed`` in knots where the report has it."""

    airport: str = Field(alias="Airport Name")
    aircraft: str = Field(alias="Aircraft Make Model")
    damage: str = Field(alias="Effect Amount of damage")
    date: dt.date = Field(alias="Flight Date")
    operator: str = Field(alias="Aircraft Airline Operator")
    state: str = Field(alias="Origin State")
    phase: str = Field(alias="Phase of flight")
    wildlife_size: str = Field(alias="Wildlife Size")
    species: str = Field(alias="Wildlife Species")
    time_of_day: str = Field(alias="Time of day")
    cost_other: int = Field(alias="Cost Other", ge=0)
    cost_repair: int = Field(alias="Cost Repair", ge=0)
    cost_total: int = Field(alias="Cost Total $", ge=0)
    speed: int | None = Field(alias="Speed IAS in knots", ge=0)


topology = sc.Topology("birdstrikes")
strikes = topology.stream("birdstrikes", Strike, event_time="date")

checked = strikes.validate(
    # 15 military reports carry the mishap classes B and C instead of a damage: dead letters.
    sc.rules.in_set("damage", ["None", "Minor", "Medium", "Substantial"]),
    sc.rules.expression("cost_total = cost_other + cost_repair"),
    sc.rules.expression("damage <> 'None' or cost_total = 0", severity="warning"),
)
checked.to(sc.sinks.Parquet("out/birdstrikes/all", partition_by="state"))

(
    checked.filter("damage <> 'None'")
    .add_column(
        "severity",
        "case when cost_total >= 100000 then 'major' when cost_total > 0 then 'minor' else 'unknown' end",
    )
    .select("date", "airport", "operator", "species", "phase", "speed", "damage", "cost_total", "severity")
    .to(sc.sinks.JsonLines("out/birdstrikes/damaged"))
)
