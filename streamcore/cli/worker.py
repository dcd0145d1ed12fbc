"""``streamcore worker``: a member of a consumer group, until it is told to stop."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from streamcore.cli.command import Command, Globals, broker_options, broker_settings
from streamcore.cli.signals import stop_on_signals
from streamcore.errors import BadConfig, StreamcoreError

if TYPE_CHECKING:
    from streamcore.settings import Settings
    from streamcore.topology import Topology


@click.command(cls=Command)
@click.argument("module")
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
    broker: str | None,
    state_dir: Path | None,
    group: str | None,
    instance_id: str | None,
    port: int | None,
) -> int:
    """Run a topology on Kafka; start more to share the work.

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
    if settings.broker.url == "embedded":
        raise BadConfig(
            "a worker needs a broker that others can reach",
            where="streamcore worker",
            got="embedded",
            fix="give --broker kafka://host:port, or use streamcore replay for files",
        )
    from streamcore.observability.logs import configure
    from streamcore.runtime.loading import load_topology

    configure(level=settings.log.level, format=settings.log.format)
    asyncio.run(_work(load_topology(module), settings))
    return 0


async def _work(topology: Topology, settings: Settings) -> None:
    from streamcore.runtime.worker import exit_soon, work

    try:
        await work(topology, settings, stop_on_signals())
    except StreamcoreError as error:
        exit_soon(error.exit_code)  # a driver's thread that hangs must not keep the process
        raise
    except Exception:
        exit_soon(1)
        raise
