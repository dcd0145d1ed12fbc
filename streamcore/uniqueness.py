"""The rule ``unique`` as users declare it: state that marks rows, and a step that acts on the marks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from streamcore.declaring import at, caller
from streamcore.durations import microseconds_of
from streamcore.tables.declaration import unique_operator
from streamcore.validation.rules import OnFail, Rule
from streamcore.validation.steps import Duplicates, check_rules

if TYPE_CHECKING:
    from streamcore.stream import Stream


def unique_rows(
    stream: Stream, rules: Sequence[Rule], on_fail: str | None, flag_column: str | None, name: str | None
) -> Stream:
    """What ``validate`` makes of *rules*, some of which are ``unique``: those come last, one after the other.

    Each has a node for its state, ``name/unique``, and one whose dead letters its duplicates are,
    ``name/duplicates``. BadConfig for what :func:`~streamcore.tables.declaration.unique_operator` and
    :meth:`Validate.of` refuse.
    """
    with at(caller()):
        stream._check_only_added("validate")
        default = check_rules(rules, stream.columns, on_fail, flag_column)
    alone = [rule for rule in rules if rule.rule_type != "unique"]
    if alone:
        stream = stream.validate(*alone, on_fail=on_fail, flag_column=flag_column, name=name)
    for rule in rules:
        if rule not in alone:
            stream = _unique(stream, rule, default, flag_column, name)
    return stream


def _unique(
    stream: Stream, rule: Rule, on_fail: OnFail | None, flag_column: str | None, name: str | None
) -> Stream:
    where, topology, source = caller(), stream._topology, stream.node.source
    within = rule.parameters["within"]
    with at(where):
        operator = unique_operator(
            rule.parameters["columns"],
            stream.columns,
            stream=source.name,
            time=source.event_time,
            within=None if within is None else microseconds_of(within),
        )
    base = name or source.name
    after = replace(source, event_time=operator.time)
    marked = stream._kept(operator, topology._free_id(f"{base}/unique"), "unique", where, after)
    return marked._step(
        "duplicates",
        lambda: Duplicates.of_rule(rule, marked.columns, on_fail, flag_column),
        topology._free_id(f"{base}/duplicates"),
    )
