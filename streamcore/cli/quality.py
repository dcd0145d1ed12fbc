"""``streamcore quality``: rules, metrics, profiles and drift of any source, read once in bounded memory."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from streamcore.cli.command import INTERRUPTED, Command, Globals, Group
from streamcore.errors import BadConfig, Permanent, did_you_mean

if TYPE_CHECKING:
    from streamcore.engines.quality_history import QualityHistory
    from streamcore.progress import OnProgress
    from streamcore.quality.config import QualityConfig
    from streamcore.quality.profile import Profile
    from streamcore.quality.report import QualityReport
    from streamcore.settings import Settings

Function = TypeVar("Function", bound=Callable[..., object])
FAILED = 1
"""Exit code when a threshold fails."""

_file = partial(click.option, type=click.Path(path_type=Path, dir_okay=False), metavar="FILE")
_as_of = click.option(
    "--as-of", type=click.DateTime(), metavar="TIME", help="In UTC: what ages are told by.  [default: now]"
)
_baseline = click.option(
    "--baseline",
    metavar="FILE|SOURCE",
    help="What drift is measured from: a saved profile or a source.  [default: the kept one]",
)


_store = click.option(
    "--store",
    metavar="URL",
    help="Where results are kept, e.g. sqlite:///quality.db.  [default: metadata.url]",
)


def _dataset(function: Function) -> Function:
    """The options of every command: which dataset, and what is asked of it."""
    for option in (
        _store,
        click.option("--dataset", "name", metavar="NAME", help="Its name in results.  [default: by SOURCE]"),
        _file("--rules", help="YAML: rules, thresholds, types of columns; see docs/quality.md."),
        click.argument("source", required=False, metavar="[SOURCE]"),
    ):
        function = option(function)
    return function


@click.group(cls=Group)
def quality() -> None:
    """Check, profile and compare datasets.

    SOURCE is a path, a glob, a folder or a URI; left out, it is that of --rules. The exit code is 1 when a
    threshold fails, and 0 when at most something warns.
    """


@quality.command(cls=Command)
@_dataset
@_as_of
@_baseline
@click.pass_obj
def run(options: Globals, /, as_of: dt.datetime | None, baseline: str | None, **asked: Any) -> int:
    """Check rules and thresholds, print metrics and keep them."""
    found = _Asked(options, **asked).report(as_of, baseline)
    if options.json:
        click.echo(found.model_dump_json(exclude={"profile", "history"}))
    else:
        from streamcore.cli import quality_view
        from streamcore.cli.console import out

        quality_view.show_report(out(), found)
    return FAILED if found.level == "fail" else 0


@quality.command(cls=Command)
@_dataset
@_as_of
@_baseline
@_file("--output", default=Path("quality.html"), show_default=True, help="Where the page is written.")
@click.pass_obj
def report(
    options: Globals, /, as_of: dt.datetime | None, baseline: str | None, output: Path, **asked: Any
) -> int:
    """Do what run does, and write all of it as an HTML page with plots."""
    from streamcore.engines.quality_files import write_page

    found = _Asked(options, **asked).report(as_of, baseline)
    write_page(output, found)
    if options.json:
        click.echo(found.model_dump_json())
    else:
        click.echo(f"{found.dataset}: {found.level}, {output}")
    return FAILED if found.level == "fail" else 0


@quality.command(cls=Command)
@_dataset
@_file("--save", help="Save it as JSON.")
@_file("--html", help="Save it as an HTML page with plots.")
@click.option("--keep", is_flag=True, help="Make it the baseline of the dataset.")
@click.pass_obj
def profile(options: Globals, /, save: Path | None, html: Path | None, keep: bool, **asked: Any) -> int:
    """Tell counts, nulls, quantiles, frequent values and histograms of each column."""
    from streamcore.engines.quality_files import write_page, write_whole

    dataset = _Asked(options, **asked)
    found = dataset.profile()
    if save is not None:
        save.parent.mkdir(parents=True, exist_ok=True)
        write_whole(save, found.model_dump_json(indent=1))
    if html is not None:
        write_page(html, found)
    if keep:
        with dataset.history() as history:
            history.keep_baseline(found)
    if options.json:
        click.echo(found.model_dump_json())
    else:
        from streamcore.cli import quality_view
        from streamcore.cli.console import out

        quality_view.show_profile(out(), found)
    return 0


@quality.command(cls=Command)
@_dataset
@_baseline
@click.pass_obj
def drift(options: Globals, /, baseline: str | None, **asked: Any) -> int:
    """Compare a dataset with a baseline: the exit code is 1 when a column has moved too far."""
    from streamcore.quality.drift import drift_of

    dataset = _Asked(options, **asked)
    before = dataset.baseline(baseline)
    now = dataset.profile()
    if before is None:
        with dataset.history() as history:
            before = history.baseline(now.dataset)
    if before is None:
        raise BadConfig(
            f"dataset {now.dataset!r} has no baseline",
            where="--baseline",
            fix="give a profile or a source, or keep one: streamcore quality profile SOURCE --keep",
        )
    found = drift_of(before, now, dataset.config.drift)
    if options.json:
        click.echo(found.model_dump_json())
    else:
        from streamcore.cli import quality_view
        from streamcore.cli.console import out

        quality_view.show_drift(out(), found)
    return FAILED if found.level == "fail" else 0


@quality.command(cls=Command)
@click.argument("dataset", required=False)
@click.option("--column", metavar="NAME", help="The metrics of this column.  [default: of the dataset]")
@click.option("--last", type=click.IntRange(1, 10_000), default=20, show_default=True, metavar="N")
@_store
@click.pass_obj
def history(
    options: Globals, /, dataset: str | None, column: str | None, last: int, store: str | None
) -> None:
    """The last looks at DATASET, or the newest one at each dataset."""
    from streamcore.engines.quality_history import QualityHistory

    with QualityHistory(store or options.settings().settings.metadata_url()) as kept:
        found = kept.datasets() if dataset is None else kept.history(dataset, last)
        if dataset is not None and not found:
            known = [record.dataset for record in kept.datasets()]
            raise BadConfig(
                f"nothing is known of dataset {dataset!r}", allowed=known, fix=did_you_mean(dataset, known)
            )
    if options.json:
        click.echo(json.dumps({"looks": [record.model_dump(mode="json") for record in found]}))
        return
    from streamcore.cli import quality_view
    from streamcore.cli.console import out

    if dataset is None:
        quality_view.show_datasets(out(), found)
    else:
        quality_view.show_history(out(), found, column)


# ---------------------------------------------------------------- what they share


@dataclass
class _Asked:
    """Which dataset is asked for, by :func:`_dataset`."""

    options: Globals
    source: str | None
    rules: Path | None
    name: str | None
    store: str | None

    def __post_init__(self) -> None:
        from streamcore.quality.config import quality_config, read_rules

        self.settings: Settings = self.options.settings().settings
        given = {} if self.rules is None else read_rules(self.rules)
        named = given if self.name is None else {**given, "dataset": self.name}
        self.config: QualityConfig = quality_config(named, None if self.rules is None else str(self.rules))

    def history(self) -> QualityHistory:
        """Where results are kept."""
        from streamcore.engines.quality_history import QualityHistory

        return QualityHistory(self.store or self.settings.metadata_url())

    def report(self, as_of: dt.datetime | None, baseline: str | None) -> QualityReport:
        """All that is asked of it; what is found is kept."""
        from streamcore.engines.quality import QualityEngine

        before = self.baseline(baseline)
        with self.history() as history:
            look = partial(QualityEngine(history).run, self.source, self.config, baseline=before, as_of=as_of)
            return _watched(self.settings, look)

    def profile(self, source: str | None = None) -> Profile:
        """Its profile, or that of another *source* read in the same way; nothing is kept."""
        from streamcore.engines.quality import QualityEngine

        plain = self.config.model_copy(update={"rules": (), "thresholds": (), "timeliness": None})
        look = partial(QualityEngine().run, source or self.source, plain)
        return _watched(self.settings, look).profile

    def baseline(self, given: str | None) -> Profile | None:
        """The profile that *given* names: a file that was saved, or a source, which is read."""
        from streamcore.engines.quality_files import is_profile, read_profile

        if given is None:
            return None
        return read_profile(Path(given)) if is_profile(Path(given)) else self.profile(given)


def _watched(settings: Settings, look: Callable[..., Awaitable[QualityReport]]) -> QualityReport:
    """What *look* finds, with its progress on the terminal; Ctrl-C ends it."""
    from streamcore.cli.watch import watch
    from streamcore.observability.logs import configure
    from streamcore.runtime.signals import stop_on_signals

    async def watched(on_progress: OnProgress) -> QualityReport:
        stop = stop_on_signals()
        try:
            return await look(on_progress=on_progress, stop=stop)
        except Permanent:
            if stop.is_set():
                raise click.exceptions.Exit(INTERRUPTED) from None
            raise

    configure(level=settings.log.level, format=settings.log.format)
    with watch("quality") as on_progress:
        return asyncio.run(watched(on_progress))
