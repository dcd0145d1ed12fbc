"""``SchemaRegistry``: schemas by their ids, by the REST API of Confluent's registry, which others have too.

Source: https://docs.confluent.io/platform/current/schema-registry/develop/api.html
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from urllib.parse import unquote

import orjson
import polars as pl

from streamcore.asking import Caching
from streamcore.errors import Permanent
from streamcore.formats.avro_decoder import ID, SCHEMAS
from streamcore.formats.framing import SchemaKind
from streamcore.secrets import Secret, resolve
from streamcore.systems.http import Answer, HttpClient, HttpLimits, shown, web_address
from streamcore.systems.http_auth import Authentication

_JSON = {"Content-Type": "application/vnd.schemaregistry.v1+json"}
_NO_SCHEMA = 40403
_UNKNOWN_SECONDS = 5.0
"""For so long an id is not asked for again that the registry did not have."""
_MOST_REFERENCES = 1_000


@dataclass(frozen=True)
class SchemaRegistry:
    """The registry at *url*, which may hold references such as ``${env:SCHEMA_REGISTRY_URL}``, the default.

    ``https://user:password@host/path`` is basic authentication; or a *bearer_token*, best ``${env:TOKEN}``.
    *ca_file*: authorities other than the system's. It may lie in a private network. *seconds*: for an answer.
    """

    url: str = field(default="${env:SCHEMA_REGISTRY_URL}", repr=False)
    _: KW_ONLY
    bearer_token: str = field(default="", repr=False)
    ca_file: str | None = None
    seconds: float = 10.0
    name: str = "schema registry"

    keys = (ID,)
    types = SCHEMAS

    @property
    def caching(self) -> Caching:
        """An id never gets another schema."""
        return Caching(seconds=math.inf, misses=_UNKNOWN_SECONDS)

    def reader(self, clock: Callable[[], float]) -> SchemaReader:
        return SchemaReader(self)

    async def register(self, subject: str, schema: str, kind: SchemaKind = "AVRO") -> int:
        """See :class:`streamcore.formats.framing.Registry`."""
        reader = SchemaReader(self)
        try:
            return await reader.register(subject, schema, kind)
        finally:
            await reader.close()


class SchemaReader:
    """The live part of :class:`SchemaRegistry`."""

    def __init__(self, registry: SchemaRegistry) -> None:
        address = web_address(resolve(registry.url))
        token = resolve(registry.bearer_token)
        auth = Authentication(
            bearer=Secret(token) if token else None,
            user=unquote(address.user) if address.user else None,
            password=Secret(unquote(address.password or "")) if address.user else None,
        )
        self._base = address.with_user(None)
        limits = HttpLimits(
            registry.seconds, registry.seconds, retries=0, allow_private=True, ca_file=registry.ca_file
        )
        self._client = HttpClient(self._base, auth, limits)

    async def start(self) -> None:
        """Ask for the registry's configuration: Permanent where there is none, or the login is refused."""
        await self._client.request("GET", self._base / "config")

    async def rows(self, keys: pl.DataFrame) -> pl.DataFrame:
        """One request an id, and one for each schema that it refers to."""
        found = []
        for number in keys[ID].to_list():
            said = await self._said("GET", f"schemas/ids/{number}", none=_NO_SCHEMA)
            if said is not None:
                text = str(said["schema"]) if said.get("schemaType", "AVRO") == "AVRO" else ""
                found.append((number, text, await self._references(said, {})))
        return pl.DataFrame(found, schema=SCHEMAS, orient="row")

    async def close(self) -> None:
        await self._client.close()

    async def register(self, subject: str, schema: str, kind: SchemaKind) -> int:
        """See :class:`streamcore.formats.framing.Registry`."""
        body = orjson.dumps({"schema": schema, "schemaType": kind})
        url = self._base / "subjects" / subject / "versions"
        answer = await self._client.request("POST", url, body=body, headers=_JSON, accepted=(409, 422))
        if answer.status == 409:
            raise Permanent(
                f"the rows' schema may not follow the last one of the subject {subject!r}",
                where=shown(self._base),
                fix="give the sink's format another subject=, or change the subject's compatibility",
            )
        if answer.status == 422:
            raise Permanent("the registry refused the schema", where=shown(self._base), got=_code(answer))
        return int(str(_read(answer, shown(url))["id"]))

    async def _references(self, said: Mapping[str, object], seen: dict[tuple[str, str], str]) -> list[str]:
        """The schemas that *said* refers to, each behind those that it needs; *seen* are there already."""
        listed = said.get("references") or []
        for one in listed if isinstance(listed, list) else []:
            key = str(one["subject"]), str(one["version"])
            if key in seen:
                continue
            if len(seen) >= _MOST_REFERENCES:
                raise Permanent("a schema refers to too many others", where=shown(self._base), got=key[0])
            seen[key] = ""  # a circle would go on for ever
            path = self._base / "subjects" / key[0] / "versions" / key[1]
            other = _read(await self._client.request("GET", path), shown(path))
            await self._references(other, seen)
            del seen[key]
            seen[key] = str(other["schema"])
        return [text for text in seen.values() if text]

    async def _said(self, method: str, path: str, none: int) -> Mapping[str, object] | None:
        """The answer at *path*; None when the registry says that it does not have it, by the code *none*."""
        answer = await self._client.request(method, self._base.joinpath(path), accepted=(404,))
        if answer.status != 404:
            return _read(answer, shown(self._base))
        if _code(answer) == none:
            return None
        raise Permanent(
            "there is no schema registry at this address",
            where=shown(self._base),
            got=answer.status,
            fix="give the path of Confluent's API, e.g. /apis/ccompat/v7 of Apicurio",
        )


def _read(answer: Answer, where: str) -> Mapping[str, object]:
    try:
        said = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        said = None
    if not isinstance(said, dict):
        raise Permanent("the registry's answer can't be read", where=where, got=answer.status)
    return said


def _code(answer: Answer) -> object:
    """The registry's own code of an error, or None."""
    try:
        said = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return None
    return said.get("error_code") if isinstance(said, dict) else None
