"""``streamcore worker``: a member of a consumer group, until it is told to stop."""

from __future__ import annotations

import os
from pathlib import Path

import click

from streamcore.cli.command import Command, Globals, broker_options, broker_settings
from streamcore.errors import BadConfig


@click.command(cls=Command)
@click.argument("module")
@click.option(
    "--from",
    "sources",
    multiple=True,
    metavar="STREAM=URI",
    help="Without a broker: what never ends and feeds a stream; may be repeated.",
)
@broker_options
@click.option("--group", metavar="NAME", help="Consumer group.  [default: the topology's name]")
@click.option("--instance-id", metavar="ID", help="Fixed name in the group: a restart needs no rebalance.")
@click.option(
    "--port", type=int, metavar="PORT", help="Of /metrics, /healthz and /readyz; 0 is off.  [default: 8000]"
)
@click.pass_obj
def worker(
    options: Globals,
    module: str,
    sources: tuple[str, ...],
    broker: str | None,
    state_dir: Path | None,
    group: str | None,
    instance_id: str | None,
    port: int | None,
) -> int:
    """Run a topology on Kafka; start more to share the work. With --from, in this process alone.

    MODULE is topologies.flights, a path, or module:variable. SIGTERM and Ctrl-C drain,
    commit and leave the group.
    """
    settings = options.settings(
        {
            **broker_settings(broker, state_dir),
            "broker.group": ("--group", group),
            "broker.instance_id": ("--instance-id", instance_id),
            "http.port": ("--port", port),
        }
    ).settings
    _check(settings.broker.url, sources)
    # One core takes less CPU for a worker's chunks than two; more workers use more cores.
    # Polars reads this when it is imported, which is why nothing above imports it.
    os.environ.setdefault("POLARS_MAX_THREADS", "1")
    from streamcore.runtime.loading import load_topology
    from streamcore.runtime.worker import run_until_told, work

    topology = load_topology(module)
    if not sources:
        return run_until_told(settings, lambda stop: work(topology, settings, stop))
    from streamcore.cli.sources import by_stream
    from streamcore.runtime.live import work_live
    from streamcore.sources.catalogue import open_unbounded

    bound = by_stream(topology, sources, open_unbounded)
    return run_until_told(settings, lambda stop: work_live(topology, bound, settings, stop))


def _check(broker: str, sources: tuple[str, ...]) -> None:
    """BadConfig unless there is either a broker or what feeds the streams."""
    if broker == "embedded" and not sources:
        raise BadConfig(
            "a worker needs a broker that others can reach, or sources that never end",
            where="streamcore worker",
            got="embedded",
            fix="give --broker kafka://host:port, or --from STREAM=URI; streamcore replay is for files",
        )
    if broker != "embedded" and sources:
        raise BadConfig(
            "the workers of a broker are fed by a process of its own",
            where="--from",
            got=broker,
            fix="run streamcore feed with this --from, and the worker without it",
        )
