"""URIs with options behind their ``?``: taken apart, and looked at for secrets that are written out."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import TypeAlias, get_args
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from pydantic import BaseModel, ValidationError

from streamcore.errors import BadConfig, did_you_mean
from streamcore.secrets import Secret, mask_url

Option: TypeAlias = str | int | float | bool | list[str] | tuple[str, ...] | None

_log = logging.getLogger(__name__)
_QUERY = re.compile(r"(?s)(.*)\?([A-Za-z_]+=.*)\Z")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")


def quote_whole(text: str) -> str:
    """*text* percent-encoded, slashes too."""
    return quote(text, safe="")


def scheme_of(uri: str) -> str:
    """The scheme of *uri* in lower case; of a path ""."""
    found = _SCHEME.match(uri)
    return found[1].lower() if found else ""


def query_of(uri: str, *, files: bool) -> tuple[str, dict[str, str]]:
    """*uri* without its query, and that.

    Of *files* a '?' is also a wildcard and may stand in a name: there only ?name=value is a query, and of a
    path that exists nothing is.
    """
    if not files:
        return split_at(uri)
    query = None if not scheme_of(uri) and Path(uri).exists() else _QUERY.fullmatch(uri)
    base, text = (query[1], query[2]) if query else (uri, "")
    return base, dict(parse_qsl(text, keep_blank_values=True))


def split_at(uri: str) -> tuple[str, dict[str, str]]:
    """What is before the '?' of the URI of a system, and the options behind it."""
    base, _, text = uri.partition("?")
    return base, dict(parse_qsl(text, keep_blank_values=True))


def without_own(
    uri: str, own: Collection[str], encode: Callable[[str], str] = quote_whole
) -> tuple[str, dict[str, str]]:
    """The URI of a system without the options *own* of its connector, and those; the others are its driver's.

    *encode* is ``streamcore.secrets.encoded`` where references are resolved later.
    """
    base, _, text = uri.partition("?")
    query = parse_qsl(text, keep_blank_values=True)
    taken = {name: value for name, value in query if name in own}
    return with_query(base, [(name, value) for name, value in query if name not in own], encode), taken


def with_query(uri: str, pairs: Iterable[tuple[str, str]], encode: Callable[[str], str] = quote_whole) -> str:
    """*uri* with *pairs* behind the options that it has."""
    text = "&".join(f"{quote(name, safe='')}={encode(value)}" for name, value in pairs)
    return uri if not text else f"{uri}{'&' if '?' in uri else '?'}{text}"


def file_path(uri: str) -> str:
    """The path of ``file:///path``; of what has no scheme itself. BadConfig for a host."""
    if not scheme_of(uri):
        return uri
    parts = urlsplit(uri.replace("?", "%3F").replace("#", "%23"))
    if parts.netloc not in ("", "localhost"):
        fix = "write file:///path, three slashes"
        raise BadConfig("a file URI names no host", where=uri, got=parts.netloc, fix=fix)
    return unquote(parts.path)


def warn_of_secrets(uri: str, secrets: Collection[str], given: Mapping[str, object]) -> None:
    """A secret that is written out is taken; whoever reads the command or the file can read it too.

    *secrets*: the names of options that are.
    """
    base, _, query = uri.partition("?")
    written = [*parse_qsl(query), *((name, str(value)) for name, value in given.items() if value is not None)]
    plain = [name for name, value in written if name in secrets and "${" not in value]
    password = urlsplit(base).password
    if password and "${" not in password:
        plain.append("password")
    for name in plain:
        _log.warning(
            "%s holds a %s in plain text; write ${env:NAME} or ${file:PATH} for it",
            mask_url(uri),
            name.replace("_", " "),
        )


def secrets_of(options: type[BaseModel]) -> set[str]:
    """The names of those of *options* that are never shown."""
    return {name for name, field in options.model_fields.items() if _is_secret(field.annotation)}


def _is_secret(annotation: object) -> bool:
    return annotation is Secret or Secret in get_args(annotation)


def bad_option(
    error: ValidationError, where: str, given: Mapping[str, object], options: type[BaseModel]
) -> BadConfig:
    """The first of what pydantic says of the options *given*, as ours."""
    first = error.errors()[0]
    option = str(first["loc"][0])
    known = options.model_fields.get(option)
    return BadConfig(
        f"option {option}: {first['msg'].removeprefix('Value error, ')}",
        where=where,
        got=None if known and _is_secret(known.annotation) else given.get(option),
        allowed=None if known else options.model_fields,
        fix=known.description if known else did_you_mean(option, options.model_fields),
    )
