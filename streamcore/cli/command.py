"""What all commands share: the global options, which may stand anywhere, and hints for mistyped names."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from streamcore.errors import did_you_mean

if TYPE_CHECKING:
    from streamcore.settings import Loaded

INTERRUPTED = 130
"""Exit code after Ctrl-C."""

Function = TypeVar("Function", bound=Callable[..., object])


@dataclass
class Globals:
    """The global options of one invocation; kept in ``ctx.obj``."""

    json: bool = False
    debug: bool = False
    config: Path | None = None

    def settings(self, options: dict[str, tuple[str, object]] | None = None) -> Loaded:
        """The settings, with *options* of this command above all others; None there is not given."""
        from streamcore.settings import load

        given = {name: pair for name, pair in (options or {}).items() if pair[1] is not None}
        return load(given, file=self.config)


def _remember(ctx: click.Context, parameter: click.Parameter, value: object) -> None:
    """Options given after the command win; not given there, those before it stay."""
    if value:
        setattr(ctx.ensure_object(Globals), str(parameter.name), value)


def _global_options() -> list[click.Parameter]:
    option = partial(click.Option, expose_value=False, is_eager=True, callback=_remember)
    return [
        option(["--json"], help="Print one JSON document on standard output.", is_flag=True),
        option(["--debug"], help="Show tracebacks.", is_flag=True),
        option(
            ["--config"],
            help="Settings file.  [default: config/streamcore.yaml]",
            type=click.Path(path_type=Path),
            metavar="FILE",
        ),
    ]


class Command(click.Command):
    """A command that takes the global options too."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*self.params, *_global_options(), *([h] if (h := self.get_help_option(ctx)) else [])]


class Group(click.Group):
    """A group that takes the global options and hints at what a mistyped command meant."""

    command_class = Command
    group_class = type

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # as they were added: from the first step to the last

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*self.params, *_global_options(), *([h] if (h := self.get_help_option(ctx)) else [])]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            hint = did_you_mean(args[0], self.commands)
            raise click.UsageError(
                f"no such command {args[0]!r}, there are: {', '.join(self.commands)}"
                + (f"\n{hint}" if hint else ""),
                ctx,
            )
        return super().resolve_command(ctx, args)


def broker_options(function: Function) -> Function:
    """``--broker`` and ``--state-dir``, which set ``broker.url`` and ``state.dir``."""
    for option in (
        click.option(
            "--state-dir",
            metavar="DIR",
            type=click.Path(file_okay=False, path_type=Path),
            help="Folder of the embedded log, positions and dead letters.  [default: .streamcore]",
        ),
        click.option("--broker", metavar="URL", help="embedded, or kafka://host:port.  [default: embedded]"),
    ):
        function = option(function)
    return function


def broker_settings(broker: str | None, state_dir: Path | None) -> dict[str, tuple[str, object]]:
    """What :func:`broker_options` were given, for :meth:`Globals.settings`."""
    return {
        "broker.url": ("--broker", broker),
        "state.dir": ("--state-dir", None if state_dir is None else str(state_dir)),
    }


def same_broker(broker: str | None, state_dir: Path | None) -> str:
    """The options to add to a suggested command so that it looks at the same place."""
    from streamcore.secrets import mask_url

    given = [] if broker is None else ["--broker", mask_url(broker)]
    given += [] if state_dir is None else ["--state-dir", str(state_dir)]
    return "".join(f" {shlex.quote(text)}" for text in given)


def suggest(command: str) -> None:
    """Print the command that the user may want next."""
    click.echo(click.style("next  ", dim=True) + click.style(command, fg="cyan"))
