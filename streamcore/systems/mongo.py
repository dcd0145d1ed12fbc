"""MongoDB: addresses, TLS, time-outs, what the server's errors mean. Drivers are imported in ``mongo*`` only.

URIs are MongoDB's own: ``mongodb://user:password@host:27017/database?authSource=admin&tls=true``, also with
several hosts, and ``mongodb+srv://``, which is TLS. With TLS the server must prove its name by the system's
authorities or the file ``tlsCAFile``. The URI names a database; ``authSource`` is MongoDB's way to say that
the user is one of another.

Every wait ends: finding a server, connecting, each answer. The URI may say other times.

===============================================  =========================================
the server says                                  raised
===============================================  =========================================
connection lost, no primary, time-out            :class:`Transient`
write conflict, transaction aborted, cursor gone :class:`Transient`
document refused (validation, duplicate, size)   :class:`RefusedDocuments`: which, and why
all else (login, rights, an unknown operator)    :class:`Permanent` with the remedy
===============================================  =========================================
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Literal, NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from streamcore.errors import BadConfig, Permanent, StreamcoreError, Transient

Driver = Literal["pymongo", "motor"]
TIMES = {
    "serverSelectionTimeoutMS": "10000",
    "connectTimeoutMS": "10000",
    "socketTimeoutMS": "60000",
    "waitQueueTimeoutMS": "10000",
}
_SCHEMES = ("mongodb", "mongodb+srv")
_TRANSIENT = (
    43,  # CursorNotFound
    50,  # MaxTimeMSExpired
    112,  # WriteConflict
    239,  # SnapshotTooOld
    246,  # SnapshotUnavailable
    251,  # NoSuchTransaction
    290,  # TransactionExceededLifetimeLimitSeconds
    11600,  # InterruptedAtShutdown
    11601,  # Interrupted
)
_REFUSED = (
    2,  # BadValue
    121,  # DocumentValidationFailure
    10334,  # BSONObjectTooLarge
    11000,  # DuplicateKey
    17280,  # KeyTooLong
    17419,  # the document after the update is too large
)
_REMEDIES = {
    13: "grant the right to this user",
    18: "check user and password, and authSource=DATABASE if the user is another database's",
    20: "transactions need a replica set: start mongod with --replSet, one server is enough",
    26: "make the collection first",
    48: "it is there already",
    388: "give the server a larger cache: the transaction does not fit",
}


class Address(NamedTuple):
    """Where and how to connect. ``shown`` has no credentials; ``uri`` has: keep it out of messages."""

    shown: str
    database: str
    uri: str
    driver: Driver = "pymongo"

    def __repr__(self) -> str:
        return f"Address({self.shown!r})"


def address(uri: str, by: Driver = "pymongo") -> Address:
    """Read a URI; BadConfig, without the password, when it is none of MongoDB's or names no database.

    *by*: the driver to connect by.
    """
    parts = urlsplit(uri)
    hosts = parts.netloc.rpartition("@")[2]
    if parts.scheme not in _SCHEMES or not hosts:
        raise BadConfig(
            "not a MongoDB URI",
            allowed=["mongodb://user:password@host:27017/database", "mongodb+srv://host/database"],
            fix="percent-encode special characters of the password",
        )
    database = unquote(parts.path.lstrip("/"))
    shown = f"{parts.scheme}://{hosts}/{database}"
    if not database:
        raise BadConfig("the URI names no database", where=shown, fix="write …host:27017/DATABASE")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    given = {name.lower() for name in options}
    options |= {name: value for name, value in TIMES.items() if name.lower() not in given}
    complete = urlunsplit(parts._replace(query=urlencode(options, quote_via=quote)))
    _check(complete, options, shown)
    return Address(shown, database, complete, by)


def _check(uri: str, options: Mapping[str, str], shown: str) -> None:
    """BadConfig for what the driver would only warn of, e.g. an unknown option."""
    for name, value in options.items():
        reason = _refused(f"mongodb://host/?{name}={quote(value)}")
        if reason:
            raise BadConfig(reason, where=shown, got=name, fix="options are MongoDB's own, or collection=…")
    # Of mongodb+srv the driver would ask the name service.
    if not uri.startswith("mongodb+srv") and _refused(uri):
        fix = "percent-encode special characters of user and password"
        raise BadConfig("not a MongoDB URI, or its options don't go together", where=shown, fix=fix)


def _refused(uri: str) -> str:
    """Why the driver does not take *uri*; "" where it does."""
    try:
        driver().uri_parser.parse_uri(uri, validate=True, warn=False)
    except (driver().errors.ConfigurationError, ValueError, TypeError) as error:
        return str(error)
    return ""


class RefusedDocuments(StreamcoreError):
    """Documents that can't be stored; ``places`` (of the list that was written) to a short code of why.

    Where writes are ordered, it is the first bad one only: those behind it were not tried.
    """

    def __init__(self, places: Mapping[int, str], *, where: str) -> None:
        self.places = dict(places)
        super().__init__("documents are refused", where=where)


def driver() -> ModuleType:
    """pymongo. BadConfig names the extra where it is missing."""
    try:
        import pymongo
        import pymongo.uri_parser
    except ImportError:
        raise no_driver("mongo") from None
    module: ModuleType = pymongo
    return module


def no_driver(extra: str) -> BadConfig:
    """The error for a driver that is missing."""
    return BadConfig("MongoDB needs a driver that is not installed", fix=f"pip install 'streamcore[{extra}]'")


def translate(error: Exception, shown: str) -> StreamcoreError:
    """The error of this package for what the driver, the socket or TLS raised; it quotes no documents."""
    if isinstance(error, StreamcoreError):
        return error
    errors, text = driver().errors, str(error)
    if "CERTIFICATE_VERIFY_FAILED" in text or "certificate verify failed" in text:
        fix = "give the authority's file: tlsCAFile=/path/ca.pem, and the name that the certificate has"
        return Permanent("the server's certificate was not accepted", where=shown, fix=fix)
    if isinstance(error, errors.BulkWriteError):
        found = error.details.get("writeErrors", [])
        codes = {int(entry["index"]): int(entry.get("code", 0)) for entry in found}
        if codes and all(code in _REFUSED for code in codes.values()):
            return RefusedDocuments({place: _name(code) for place, code in codes.items()}, where=shown)
        return _of_code(next(iter(codes.values()), 0), "the write failed", shown)
    if isinstance(error, errors.DocumentTooLarge):
        return RefusedDocuments({0: "too_large"}, where=shown)
    if isinstance(error, errors.OperationFailure):
        if error.has_error_label("TransientTransactionError"):
            return Transient(f"the transaction was aborted (code {error.code})", where=shown)
        return _of_code(int(error.code or 0), _said(error), shown)
    if isinstance(error, errors.ServerSelectionTimeoutError):
        return Transient(f"no server can be reached ({_cause(text) or 'no answer'})", where=shown)
    if isinstance(error, (errors.ConnectionFailure, errors.PyMongoError, OSError)) and not isinstance(
        error, (errors.ConfigurationError, errors.InvalidOperation)
    ):
        return Transient(f"the connection failed ({_cause(text) or type(error).__name__})", where=shown)
    return Permanent(f"the driver says: {type(error).__name__}", where=shown)


def _of_code(code: int, what: str, shown: str) -> StreamcoreError:
    if code in _TRANSIENT:
        return Transient(f"the server gave up (code {code})", where=shown)
    return Permanent(f"{what} (code {code})", where=shown, fix=_REMEDIES.get(code))


def _said(error: Exception) -> str:
    """The server's name of the error, and its text where that speaks of what was asked, not of documents."""
    details = getattr(error, "details", None) or {}
    name = str(details.get("codeName") or "the server refused the command")
    text = str(details.get("errmsg") or "").splitlines()
    return f"{name}: {text[0][:200]}" if text and name in ("BadValue", "FailedToParse") else name


def _name(code: int) -> str:
    return {121: "validation", 11000: "duplicate_key", 10334: "too_large", 17419: "too_large"}.get(
        code, "refused"
    )


def _cause(text: str) -> str:
    """The short reason in the driver's long report; "" where it has none that is known."""
    for sign in (
        "Connection refused",
        "Connection reset",
        "timed out",
        "Name or service not known",
        "No address",
        "SSL",
        "connection closed",
        "closed",
    ):
        if sign.lower() in text.lower():
            return sign.lower()
    return ""
