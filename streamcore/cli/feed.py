"""``streamcore feed``: what never ends, into the topics of a topology's workers, until it is told to stop."""

from __future__ import annotations

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
    required=True,
    metavar="STREAM=URI",
    help="What feeds a stream, e.g. users=postgresql://…?table=users&poll=updated_at; may be repeated.",
)
@broker_options
@click.option(
    "--port", type=int, metavar="PORT", help="Of /metrics, /healthz and /readyz; 0 is off.  [default: 8000]"
)
@click.pass_obj
def feed(
    options: Globals,
    module: str,
    sources: tuple[str, ...],
    broker: str | None,
    state_dir: Path | None,
    port: int | None,
) -> int:
    """Feed a topology's streams from tables, folders and queues, for ever.

    MODULE is topologies.flights, a path, or module:variable. Each row comes into the stream's topic once,
    whatever is killed. One process feeds a source; a second one takes it over from the first. SIGTERM and
    Ctrl-C finish what was begun.
    """
    settings = options.settings(
        {**broker_settings(broker, state_dir), "http.port": ("--port", port)}
    ).settings
    if settings.broker.url == "embedded":
        raise BadConfig(
            "feed needs a broker that others can reach",
            where="streamcore feed",
            got="embedded",
            fix="give --broker kafka://host:port, or run it all in one process: streamcore worker --from …",
        )
    from streamcore.cli.sources import by_stream
    from streamcore.runtime.live import feed as feed_from
    from streamcore.runtime.loading import load_topology
    from streamcore.runtime.worker import run_until_told
    from streamcore.sources.catalogue import open_unbounded

    topology = load_topology(module)
    bound = by_stream(topology, sources, open_unbounded)

    return run_until_told(settings, lambda stop: feed_from(topology, bound, settings, stop))
