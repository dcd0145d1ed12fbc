"""Addresses of S3 and what speaks like it: ``s3://bucket/key?endpoint=…&region=…``.

The options are those of :data:`OPTIONS`. What is not given is found where AWS' own tools find it:
``AWS_ENDPOINT_URL``, ``AWS_REGION``, ``AWS_ACCESS_KEY_ID``, ``AWS_PROFILE``, ``~/.aws``, the machine's
role. Certificates are verified unless told otherwise.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote

from streamcore.errors import BadConfig, did_you_mean

OPTIONS: Mapping[str, str] = {
    "endpoint": "URL of the server, for others than AWS: https://minio.example.com:9000.",
    "region": "Region of the bucket.",
    "access_key": "Access key, with secret_key; otherwise as AWS' tools find them.",
    "secret_key": "Secret key, as a reference: ${env:NAME} or ${file:PATH}.",
    "session_token": "Token of temporary credentials, as a reference.",
    "profile": "Profile of ~/.aws.",
    "anonymous": "true: no credentials, for public buckets.",
    "addressing": "path or virtual: where the bucket is named; of other servers than AWS in the path.",
    "ca_file": "File of trusted certificates, instead of the system's.",
    "tls_verify": "false: any certificate is accepted.",
}
_SECRETS = ("secret_key", "session_token")
_CHOICES = {
    "anonymous": ("true", "false"),
    "tls_verify": ("true", "false"),
    "addressing": ("path", "virtual"),
}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Address:
    """A bucket and a key, prefix or pattern in it; ``options`` of :data:`OPTIONS`, references as written."""

    bucket: str
    key: str
    options: tuple[tuple[str, str], ...] = field(repr=False)

    @property
    def shown(self) -> str:
        """The URI without its options."""
        return self.uri(self.key)

    def uri(self, key: str) -> str:
        """``s3://bucket/key`` for another key of the bucket."""
        return f"s3://{self.bucket}/{key}"

    @property
    def server(self) -> str:
        """The server's address as far as it was given."""
        return dict(self.options).get("endpoint", "S3")


def address(uri: str, given: Mapping[str, object] | None = None) -> Address:
    """Read a URI; *given* options win over its query's. BadConfig, without secrets, when it is wrong."""
    path, _, query = uri.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    return of_parts(path, {**options, **(given or {})})


def of_parts(path: str, given: Mapping[str, object]) -> Address:
    """The address of ``s3://bucket/key``, in which a ``?`` may be a wildcard, with options *given*."""
    options = {name: _text(value) for name, value in given.items()}
    bucket, _, key = path.partition("://")[2].partition("/")
    if not path.lower().startswith("s3://") or not bucket:
        raise BadConfig("not an S3 URI", got=path, allowed=["s3://bucket/key", "s3://bucket/prefix/*.csv"])
    where = f"s3://{bucket}/{key}"
    for name, value in options.items():
        _check(name, value, where)
    if ("access_key" in options) != ("secret_key" in options):
        raise BadConfig("access_key and secret_key belong together", where=where, fix="give both or none")
    endpoint = options.get("endpoint", "")
    if endpoint and "://" not in endpoint and "${" not in endpoint:
        options = {**options, "endpoint": f"https://{endpoint}"}
    return Address(bucket, unquote(key), tuple(sorted(options.items())))


def _check(name: str, value: str, where: str) -> None:
    if name not in OPTIONS:
        fix = did_you_mean(name, OPTIONS)
        raise BadConfig("S3 has no such option", where=where, got=name, allowed=OPTIONS, fix=fix)
    if name in _CHOICES and value not in _CHOICES[name]:
        raise BadConfig(f"option {name}", where=where, got=value, allowed=_CHOICES[name])
    if name in _SECRETS and "${" not in value:
        _log.warning("%s: %s is in plain text; write ${env:NAME} or ${file:PATH} for it", where, name)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
