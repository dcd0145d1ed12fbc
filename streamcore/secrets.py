"""References to secrets in settings and topologies: resolved late, never shown.

==================  ==========================================================================
``${env:NAME}``     the environment variable NAME
``${file:PATH}``    the text of the file, without the line break at its end (Docker, Kubernetes)
``${NAME:default}`` the environment variable NAME, or the text after the first colon
``${NAME}``         the environment variable NAME
==================  ==========================================================================

``env:`` and ``file:`` are reserved: they take no default. What a reference gives is not searched
for references again. In a URL it is percent-encoded between ``://`` and ``@``, and in the value of an option
behind the ``?``, so that a password or token may hold any character. Undefined without a default is
BadConfig, which names the reference only.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import quote

from pydantic import SecretStr

from streamcore.errors import BadConfig

HIDDEN_TEXT = "***"

_REFERENCE = re.compile(r"\$\{([^{}]*)\}")
_SHOWABLE = re.compile(r"\$\{(?:env:[^{}:]*|file:[^{}]*|[^{}:]*)\}\Z")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_OPTION = re.compile(r"\?(?:.*&)?[^&=?]+=[^&]*\Z", re.S)
"""A URL up to somewhere in the value of an option."""
_FILE_LIMIT = 65_536


class Secret(SecretStr):
    """A text that shows as ``***`` wherever it is printed, formatted, logged or dumped.

    It may hold references; only :meth:`reveal` resolves them, each time it is called, so that a
    password file can be replaced while the service runs. A usual field type of pydantic models.
    """

    def reveal(self) -> str:
        """The text itself. Call it where it is handed to a driver and keep it nowhere.

        BadConfig when a reference can't be resolved.
        """
        return resolve(self.get_secret_value())

    @property
    def reference(self) -> str | None:
        """The text when it is one reference without a default, which may be shown; otherwise None."""
        text = self.get_secret_value()
        return text if _SHOWABLE.match(text) else None

    def _display(self) -> str:
        return HIDDEN_TEXT

    def __repr__(self) -> str:
        return f"Secret({HIDDEN_TEXT!r})"

    def __format__(self, spec: str) -> str:
        return format(HIDDEN_TEXT, spec)


def references(text: str) -> list[str]:
    """The references in *text*, as written, without their defaults."""
    return [f"${{{_label(body)}}}" for body in _REFERENCE.findall(text)]


def resolve(text: str) -> str:
    """*text* with each reference replaced by what it stands for.

    BadConfig: an undefined variable without a default, an unreadable file, a reference that is not closed.
    """
    if "${" in _REFERENCE.sub("", text):
        raise BadConfig(
            "a reference is not closed or nested",
            allowed=("${env:NAME}", "${file:PATH}", "${NAME:default}"),
            fix="close it with a brace",
        )
    return _REFERENCE.sub(_replacement, text)


def encoded(text: str) -> str:
    """*text* percent-encoded to stand in a URL, its references as they are: :func:`resolve` encodes those."""
    parts = _REFERENCE.split(text)
    return "".join(f"${{{part}}}" if n % 2 else quote(part, safe="") for n, part in enumerate(parts))


def _replacement(match: re.Match[str]) -> str:
    value = _lookup(match[1])
    _, is_url, before = match.string[: match.start()].partition("://")
    in_user_part = is_url and "@" in match.string[match.end() :]
    in_option = is_url and _OPTION.search(before)
    return quote(value, safe="") if in_user_part or in_option else value


def _label(body: str) -> str:
    prefix, colon, rest = body.partition(":")
    if colon and prefix == "env":
        return f"env:{rest.partition(':')[0]}"
    return body if colon and prefix == "file" else prefix


def _lookup(body: str) -> str:
    prefix, colon, rest = body.partition(":")
    if colon and prefix == "file":
        return _read(rest)
    reserved = bool(colon) and prefix == "env"
    name = rest if reserved else prefix
    if not _NAME.match(name):
        raise BadConfig(
            f"${{{_label(body)}}} does not name an environment variable",
            allowed=("${env:NAME}", "${file:PATH}", "${NAME:default}"),
            fix="env: takes no default, ${NAME:default} does" if reserved else "use letters, digits and _",
        )
    value = os.environ.get(name)
    if value is not None:
        return value
    if colon and not reserved:
        return rest
    raise BadConfig(
        f"the environment variable {name} is not set",
        where=f"${{{_label(body)}}}",
        fix=f"set {name}, or give a default with ${{{name}:default}}",
    )


def _read(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            data = file.read(_FILE_LIMIT + 1)
        if len(data) > _FILE_LIMIT:
            raise BadConfig(
                f"the file of a secret is larger than {_FILE_LIMIT} bytes",
                where=path,
                fix="name a file that holds the secret only",
            )
        return data.decode().removesuffix("\n").removesuffix("\r")
    except OSError as error:
        reason = error.strerror or type(error).__name__
    except UnicodeDecodeError:
        reason = "not UTF-8 text"
    raise BadConfig(
        f"the file of a secret can't be read: {reason}",
        where=f"${{file:{path}}}",
        fix="check the path and who may read it",
    )


_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_HOST_PORT = re.compile(r"[^/@:]*:\d+(?:[/?#,]|\Z)")
_NAMED = re.compile(
    r"((?:password|passwd|pwd|passphrase|secret|token|api[_-]?key|access[_-]?key|authorization|cookie|credentials?|signature|sig)[a-z_-]*)"
    r"(\s*=\s*)('[^']*'|\"[^\"]*\"|[^&\s;#]+)",
    re.IGNORECASE,
)


def mask_url(url: str) -> str:
    """*url* (or a ``key=value`` connection text) fit to be shown: passwords become ``***``.

    References without a default stay readable. When in doubt more is hidden: a password may hold any
    character, so everything up to the last ``@`` counts unless a port number settled it before.
    """
    url = _NAMED.sub(lambda m: m[1] + m[2] + _masked(m[3]), url)
    scheme = _SCHEME.match(url)
    if not scheme:
        return url
    rest = url[scheme.end() :]
    user, at, host = rest.rpartition("@")
    if not at or _HOST_PORT.match(rest):
        return url
    name, colon, password = user.partition(":")
    if user.startswith("${"):  # the colon of a reference is not the one before the password
        end = user.find("}") + 1
        name, colon, password = user[:end], user[end : end + 1], user[end + 1 :]
    if colon:
        user = f"{name}:{_masked(password)}"
    elif scheme[1].lower() in ("http", "https"):  # a token is often the only name there
        user = _masked(user)
    return f"{scheme[0]}{user}@{host}"


def _masked(text: str) -> str:
    return text if _SHOWABLE.match(text) else HIDDEN_TEXT
