"""The live writer of a sink or agent of the graph."""

from __future__ import annotations

from streamcore.contracts import Log, Refuse, Sink, SinkAbilities, SinkContext, SinkWriter
from streamcore.crashpoints import crash_point
from streamcore.graph import Agent, Graph
from streamcore.runtime.agent_writer import AgentWriter
from streamcore.runtime.options import PipelineOptions


def sink_writer(
    graph: Graph, id: str, log: Log, options: PipelineOptions, refuse: Refuse
) -> tuple[SinkWriter, SinkAbilities]:
    """The writer of the node *id*, and what it can do."""
    node = graph.nodes[id]
    if isinstance(node.part, Agent):
        return AgentWriter(node.part.function), SinkAbilities()
    assert isinstance(node.part, Sink)
    context = SinkContext(
        topology=graph.name,
        sink=id,
        columns=node.columns,
        key=node.source.key,
        event_time=node.source.event_time,
        clock=options.clock,
        owner=options.owner,
        refuse=refuse,
        memory_limit=options.memory_limit // 2,
        crash_point=crash_point,
        log=log,
    )
    return node.part.writer(context), node.part.abilities
