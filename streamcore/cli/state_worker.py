"""``streamcore state worker``: what a running worker has of its state, its recoveries and standbys."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

import click

from streamcore.cli.command import Command, Globals
from streamcore.errors import BadConfig, Permanent, Transient

_SECONDS = 10.0


@click.command(cls=Command)
@click.argument("url", metavar="URL")
@click.pass_obj
def worker(options: Globals, url: str) -> None:
    """Ask a running worker what it has of its windows, tables and joins.

    URL is where it serves its metrics, e.g. http://localhost:8000. The worker must have state.http on; the
    token is state.http_token of this configuration.
    """
    token = options.settings({}).settings.state.http_token
    if token is None:
        raise BadConfig("the worker's state needs a token", fix="set state.http_token as the worker has it")
    told = _asked(url.rstrip("/") + "/state", token.reveal())
    if options.json:
        click.echo(json.dumps(told))
        return
    click.echo(f"{click.style(told['topology'], bold=True)}  {told['worker']}")
    for state in told["states"]:
        click.echo(f"{click.style(state['node'], bold=True)}  {state['what']}")
        copies = {part["partition"]: part["records_behind"] for part in state["standby"]}
        lines = {part["partition"]: _here(part) for part in state["here"]}
        for part in state["elsewhere"]:
            lines[part["partition"]] = _elsewhere(part, copies.get(part["partition"]))
        for partition in sorted(lines):
            click.echo(f"  {partition:>4}  {lines[partition]}")


def _here(part: dict[str, Any]) -> str:
    if part["recovered"]:
        return f"here, {part['bytes'] / 1e6:,.1f} MB"
    left = "time left not known yet"
    if part["seconds_left"] is not None:
        left = f"about {part['seconds_left']:.0f} s"
    return f"is made again: {part['records_left'] or 0:,} records left, {left}"


def _elsewhere(part: dict[str, Any], behind: int | None) -> str:
    owner = f"at {part['worker'] or 'nobody yet'}"
    return owner if behind is None else f"{owner}; standby here, {behind:,} records behind"


def _asked(url: str, token: str) -> dict[str, Any]:
    """The worker's answer. BadConfig: no such URL; Transient: nobody answers; Permanent: it says no."""
    if not url.startswith(("http://", "https://")):
        raise BadConfig("a worker's URL begins with http://", got=url, fix="e.g. http://localhost:8000")
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})  # noqa: S310 - checked
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS) as answer:  # noqa: S310 - checked above
            told: dict[str, Any] = json.load(answer)
    except urllib.error.HTTPError as error:
        fix = {401: "state.http_token is not the worker's", 404: "set state.http: true on the worker"}
        raise Permanent(
            f"the worker answered {error.code} {error.reason}", where=url, fix=fix.get(error.code)
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise Transient(f"no answer from a worker: {reason}", where=url) from None
    return told
