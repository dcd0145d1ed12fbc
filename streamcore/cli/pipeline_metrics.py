"""``streamcore pipeline metrics``: what the store tells of pipelines, for Prometheus."""

from __future__ import annotations

import asyncio

import click

from streamcore.cli.command import Command, Globals


@click.command(cls=Command)
@click.option("--host", metavar="HOST", help="Address to listen on.  [default: http.host]")
@click.option("--port", type=int, metavar="PORT", help="0 takes a free one.  [default: http.port]")
@click.option("--once", is_flag=True, help="Print them, and serve nothing.")
@click.pass_obj
def metrics(options: Globals, host: str | None, port: int | None, once: bool) -> None:
    """Serve the metrics of all pipelines at /metrics, until stopped.

    They come from the store, so one such process tells of the runs of all workers.
    """
    settings = options.settings({"http.host": ("--host", host), "http.port": ("--port", port)}).settings

    async def main() -> None:
        from streamcore.pipelines.metrics import MetricsConfig, PipelineMetrics
        from streamcore.runtime.signals import stop_on_signals

        at = settings.http
        config = MetricsConfig(enable_prometheus=not once, prometheus_host=at.host, prometheus_port=at.port)
        async with PipelineMetrics(config, settings=settings) as found:
            if once:
                click.echo(await found.export_prometheus_metrics(), nl=False)
                return
            stop = stop_on_signals()
            click.echo(f"metrics of pipelines at {found.address}/metrics", err=True)
            await stop.wait()

    asyncio.run(main())
