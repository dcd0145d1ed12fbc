"""From what a user writes to an unbounded source: ``postgresql://…/shop?table=users&poll=updated_at``.

A path, a folder or a pattern is what gets new files. The URI's scheme names the system, and where a system
can be read in several ways, an option tells which. A new one is one module and one line of :data:`KINDS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from pydantic import BaseModel, ValidationError

from batch_adapters.catalogue import PLACES
from streamcore.addresses.uris import bad_option, query_of, scheme_of, secrets_of, warn_of_secrets, with_query
from streamcore.contracts.unbounded import UnboundedSource
from streamcore.errors import BadConfig, did_you_mean
from streamcore.secrets import mask_url, resolve
from streamcore.sources.folder import FolderOptions, open_folder
from streamcore.sources.http_push import PushOptions, open_push
from streamcore.sources.mongodb_changes import ChangesOptions, open_changes
from streamcore.sources.polling import PolledCollectionOptions, PolledTableOptions, open_polled
from streamcore.sources.postgres_slot import SlotOptions, open_slot
from streamcore.sources.redis_streams import StreamOptions, open_stream
from streamcore.sources.rest_polling import RestPollOptions, open_rest_polling


@dataclass(frozen=True, slots=True)
class Kind:
    """One way of reading a system for ever. ``by``: the option that tells it from others of its schemes.

    ``open`` gets the URI without the options of ``options``, and those. ``heading``: where
    docs/connectors/live.md tells of it.
    """

    schemes: tuple[str, ...]
    by: str | None
    heading: str
    options: type[BaseModel]
    open: Callable[[str, Mapping[str, object]], UnboundedSource]


def _slot(uri: str, given: Mapping[str, object]) -> UnboundedSource:
    return open_slot(uri, SlotOptions.model_validate(given))


def _changes(uri: str, given: Mapping[str, object]) -> UnboundedSource:
    return open_changes(uri, ChangesOptions.model_validate(given))


def _polled(system: str, *schemes: str) -> Kind:
    return Kind(schemes, "poll", "Polling a table", PolledTableOptions, partial(open_polled, system))


KINDS: Mapping[str, Kind] = {
    "postgresql-poll": _polled("postgresql", "postgresql", "postgres"),
    "postgresql-slot": Kind(("postgresql", "postgres"), "slot", "Logical decoding", SlotOptions, _slot),
    "mysql-poll": _polled("mysql", "mysql", "mariadb"),
    "mongodb-changes": Kind(
        ("mongodb", "mongodb+srv"), "changes", "MongoDB change streams", ChangesOptions, _changes
    ),
    "mongodb-poll": Kind(
        ("mongodb", "mongodb+srv"),
        "poll",
        "Polling a collection",
        PolledCollectionOptions,
        partial(open_polled, "mongodb"),
    ),
    "files": Kind(("", *PLACES), None, "New files", FolderOptions, open_folder),
    "http-push": Kind(("http+listen", "https+listen"), None, "HTTP push", PushOptions, open_push),
    "rest-poll": Kind(("https", "http"), "poll", "Polling an API", RestPollOptions, open_rest_polling),
    "redis-stream": Kind(("redis", "rediss"), "stream", "Redis streams", StreamOptions, open_stream),
    "sqlite-poll": _polled("sqlite", "sqlite"),
}


def open_unbounded(uri: str) -> UnboundedSource:
    """The source that *uri* names. BadConfig when nothing is there, or an option is wrong or missing."""
    resolved = resolve(uri)
    scheme = scheme_of(resolved)
    base, query = query_of(resolved, files=scheme in ("", *PLACES))
    kind = _kind(scheme, query, mask_url(uri))
    warn_of_secrets(uri, secrets_of(kind.options), {})
    own = {name: value for name, value in query.items() if name in kind.options.model_fields}
    rest = [(name, value) for name, value in query.items() if name not in own]
    try:
        return kind.open(with_query(base, rest), own)
    except ValidationError as error:
        raise bad_option(error, mask_url(uri).partition("?")[0], own, kind.options) from None


def _kind(scheme: str, query: Mapping[str, str], shown: str) -> Kind:
    of_scheme = [kind for kind in KINDS.values() if scheme in kind.schemes]
    if not of_scheme:
        schemes = sorted({scheme for kind in KINDS.values() for scheme in kind.schemes})
        raise BadConfig(
            "nothing of this kind can be read for ever",
            where=shown,
            got=scheme or "a path",
            allowed=schemes,
            fix=did_you_mean(scheme, schemes) or "what ends is read by streamcore replay",
        )
    for kind in of_scheme:
        if kind.by is None or kind.by in query:
            return kind
    ways = [f"{kind.by}=…" for kind in of_scheme]
    raise BadConfig(
        "how is it to be read for ever?",
        where=shown.partition("?")[0],
        allowed=ways,
        fix=f"add {' or '.join(ways)}; what ends is read by streamcore replay",
    )
