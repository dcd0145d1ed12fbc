"""Documents of MongoDB as JSON texts, whole replies at once; the types: ``docs/connectors/mongodb.md``.

The driver decodes a reply's BSON in C, orjson encodes each document in C. What JSON can't say stays JSON
of MongoDB's own (``{"$date": …}``), which no column of another type takes; a document with a number that JSON
has not (NaN, infinity) or with text that is not UTF-8 is refused.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import orjson

from streamcore.errors import BadConfig

if TYPE_CHECKING:
    from bson.codec_options import CodecOptions
    from bson.json_util import JSONOptions
    from bson.raw_bson import RawBSONDocument

Document: TypeAlias = "dict[str, object]"
_OPTIONS = orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z
ID = "_id"


class RefusedBson(NamedTuple):
    """Why a document can't be JSON, and its BSON."""

    code: str
    message: str
    bson: bytes


class Reply(NamedTuple):
    """Documents as JSON, their ids, and those that are refused, whose text is empty."""

    texts: list[bytes]
    ids: list[object]
    refused: dict[int, RefusedBson]

    def add(self, documents: Sequence[Document], hidden: Sequence[str], broken: Mapping[int, bytes]) -> None:
        """Put *documents* behind those there are. Their members *hidden* are taken out of them.

        *broken*: the BSON of those that were decoded with signs in the place of what is not UTF-8.
        """
        first = len(self.texts)
        ids = [document[ID] for document in documents]
        away: list[Document] = [{}] * len(documents)
        if hidden:
            away = [{name: document.pop(name, None) for name in hidden} for document in documents]
        # Copied, since orjson's own bytes keep a buffer of several times their length.
        texts = [b"%b" % orjson.dumps(document, _as_json, _OPTIONS) for document in documents]
        for place, text in enumerate(texts):
            if b"null" in text and _has_not_finite(documents[place]):
                whole = encoded({**away[place], **documents[place]})
                why = RefusedBson("range", "a number that is not finite, which JSON has not", whole)
                texts[place], self.refused[first + place] = b"", why
        for place, whole in broken.items():
            why = RefusedBson("encoding", "a text that is not UTF-8", whole)
            texts[place], self.refused[first + place] = b"", why
        self.texts.extend(texts)
        self.ids.extend(ids)


def decoded(data: bytes) -> tuple[list[Document], dict[int, bytes]]:
    """The documents whose BSON *data* is, one behind the other, as :func:`one_by_one`, in C where it can."""
    import bson
    from bson.errors import InvalidBSON

    try:
        return bson.decode_all(data, codec()), {}
    except InvalidBSON:
        return one_by_one(data)


def plain(value: object) -> object:
    """An id as its JSON says it: a number, a text, …; of documents and arrays their JSON as a text."""
    text = orjson.dumps(value, _as_json, _OPTIONS)
    found = orjson.loads(text)
    return text.decode() if isinstance(found, (dict, list)) else found


@cache
def codec(unicode_errors: str = "strict") -> CodecOptions[Document]:
    """How documents are decoded: UUIDs as such, dates beyond Python's as numbers.

    Code with a scope as MongoDB's own JSON says it: orjson would take it for the text alone.
    """
    from bson import Code
    from bson.binary import UuidRepresentation
    from bson.codec_options import CodecOptions, DatetimeConversion, TypeDecoder, TypeRegistry

    class Scoped(TypeDecoder):
        bson_type = Code

        def transform_bson(self, value: Code) -> object:
            return value if value.scope is None else {"$code": str(value), "$scope": value.scope}

    return CodecOptions(
        type_registry=TypeRegistry([Scoped()]),
        uuid_representation=UuidRepresentation.STANDARD,
        unicode_decode_error_handler=unicode_errors,
        datetime_conversion=DatetimeConversion.DATETIME_AUTO,
    )


def key_of(data: bytes, names: Sequence[str]) -> tuple[str, ...]:
    """The members *names*, as texts, of the document whose BSON *data* is."""
    (document,), _ = decoded(data)
    return tuple(id_text(document.get(name)) for name in names)


def raw_codec() -> CodecOptions[RawBSONDocument]:
    """How nothing is decoded: documents stay BSON. UUIDs that are asked for are such."""
    from bson.binary import UuidRepresentation
    from bson.codec_options import CodecOptions
    from bson.raw_bson import RawBSONDocument

    return CodecOptions(document_class=RawBSONDocument, uuid_representation=UuidRepresentation.STANDARD)


def encoded(document: Document) -> bytes:
    """The BSON of *document*."""
    import bson

    return bson.encode(document, codec_options=codec())


def one_by_one(data: bytes) -> tuple[list[Document], dict[int, bytes]]:
    """The documents whose BSON *data* is, one behind the other; and the BSON of those that are broken."""
    import bson
    from bson.errors import InvalidBSON

    found: list[Document] = []
    broken: dict[int, bytes] = {}
    at = 0
    while at < len(data):
        one = data[at : at + int.from_bytes(data[at : at + 4], "little")]
        at += len(one)
        try:
            found.append(bson.decode(one, codec()))
        except InvalidBSON:
            broken[len(found)] = one
            found.append(bson.decode(one, codec("replace")))
    return found, broken


def _as_json(value: object) -> object:
    """What orjson does not know: hexadecimal ids, decimals as text, bytes in base64, else MongoDB's JSON."""
    from bson import Decimal128, ObjectId, json_util

    if isinstance(value, (ObjectId, Decimal128)):
        return str(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return json.loads(json_util.dumps(value, json_options=_canonical()))


def _has_not_finite(value: object) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        return any(map(_has_not_finite, value.values()))
    return isinstance(value, list) and any(map(_has_not_finite, value))


def _canonical() -> JSONOptions:
    from bson.binary import UuidRepresentation
    from bson.json_util import CANONICAL_JSON_OPTIONS

    return CANONICAL_JSON_OPTIONS.with_options(uuid_representation=UuidRepresentation.STANDARD)


def id_text(value: object) -> str:
    """An id of any type as text, from which :func:`id_of` makes the same one."""
    from bson import json_util

    return json_util.dumps(value, json_options=_canonical())


def id_of(text: str) -> object:
    """See :func:`id_text`."""
    from bson import json_util

    return json_util.loads(text, json_options=_canonical())


def query_of(text: str, where: str) -> Document:
    """A filter in MongoDB's JSON. BadConfig when it is none."""
    from bson import json_util

    try:
        found = json_util.loads(text)
    except (ValueError, TypeError) as error:
        found, reason = None, str(error)
    else:
        reason = "it must be an object"
    if not isinstance(found, dict):
        raise BadConfig(
            f"filter: not MongoDB's JSON: {reason}", where=where, got=text, fix='write {"age": {"$gte": 18}}'
        )
    return found
