"""The root of the command line: puts the commands together and turns what they raise into exit codes.

Exit codes: 0 done; 1 failed while running; 2 the command, a module or a setting is wrong and nothing
was read or written; 130 stopped by Ctrl-C after what was under way had been written and committed.
"""

from __future__ import annotations

from collections.abc import Sequence

import click

from streamcore.cli.backfill import backfill
from streamcore.cli.command import INTERRUPTED, Globals, Group
from streamcore.cli.config import config
from streamcore.cli.connect import connect
from streamcore.cli.dlq import dlq
from streamcore.cli.errors import report
from streamcore.cli.feed import feed
from streamcore.cli.init import init
from streamcore.cli.pipeline import pipeline
from streamcore.cli.quality import quality
from streamcore.cli.replay import replay
from streamcore.cli.schedule import schedule
from streamcore.cli.schema import schema
from streamcore.cli.state import state
from streamcore.cli.topologies import topologies
from streamcore.cli.version import version
from streamcore.cli.worker import worker


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="streamcore", prog_name="streamcore", message="%(prog)s %(version)s")
@click.pass_context
def root(ctx: click.Context) -> None:
    """Stream-first data pipelines: one topology, embedded or on Kafka.

    Start with `streamcore init NAME`.
    """
    ctx.ensure_object(Globals)


for command in (
    init,
    replay,
    worker,
    feed,
    topologies,
    pipeline,
    schedule,
    backfill,
    state,
    dlq,
    connect,
    schema,
    quality,
    config,
    version,
):
    root.add_command(command)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code. Errors are shown on standard error."""
    as_json, debug = "--json" in arguments, "--debug" in arguments
    try:
        code = root.main(args=list(arguments), prog_name="streamcore", standalone_mode=False)
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 0 if not arguments else error.exit_code
    except Exception as error:  # noqa: BLE001 - the one place where everything ends
        return report(error, called(arguments), as_json=as_json, debug=debug)
    return code if isinstance(code, int) else 0


def called(arguments: Sequence[str]) -> str:
    """The command that *arguments* name, e.g. ``streamcore dlq list``: where an error is without a place."""
    path: list[str] = ["streamcore"]
    command: click.Command = root
    for word in arguments:
        if isinstance(command, click.Group) and word in command.commands:
            path.append(word)
            command = command.commands[word]
    return " ".join(path)
