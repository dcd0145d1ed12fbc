"""``--from STREAM=URI``: what each stream reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from streamcore.errors import BadConfig, did_you_mean

if TYPE_CHECKING:
    from streamcore.topology import Topology

SourceT = TypeVar("SourceT")


def by_stream(
    topology: Topology, texts: tuple[str, ...], opened: Callable[[str], SourceT]
) -> dict[str, SourceT]:
    """What *opened* makes of each URI, by stream. BadConfig: no such stream, given twice, unreadable."""
    streams = topology.freeze().sources
    found: dict[str, SourceT] = {}
    for text in texts:
        stream, equals, uri = text.partition("=")
        if not equals or not uri:
            raise BadConfig(
                "--from takes STREAM=PATH",
                where="--from",
                got=text,
                fix=f"e.g. --from {next(iter(streams))}={text}",
            )
        if stream not in streams:
            raise BadConfig(
                f"topology {topology.name!r} has no stream {stream!r}",
                where="--from",
                allowed=streams,
                fix=did_you_mean(stream, streams) or "name one of them",
            )
        if stream in found:
            raise BadConfig(
                f"stream {stream!r} is given twice",
                where="--from",
                fix="use one pattern that matches all of the files, e.g. data/*.csv",
            )
        found[stream] = opened(uri)
    return found
