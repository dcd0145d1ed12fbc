"""Kafka as an outside system: connection settings from a URL, a probe, and aiokafka's errors translated.

``kafka://user:password@h1:9092,h2:9092?security=SASL_SSL&mechanism=SCRAM-SHA-512&ca_file=/ca.pem``

``security`` is PLAINTEXT, SSL or SASL_SSL (the default with a user); ``mechanism`` is SCRAM-SHA-512
(the default), SCRAM-SHA-256 or PLAIN. ``ca_file`` is for brokers whose certificate no system CA
signed; ``cert_file`` and ``key_file`` are the client's own. Certificates and host names are always
checked. User and password are percent-encoded.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass, field
from typing import TypeAlias
from urllib.parse import parse_qsl, unquote

from aiokafka import errors as kafka
from aiokafka.conn import create_conn

from streamcore.errors import BadConfig, Permanent, StreamcoreError, Transient, did_you_mean
from streamcore.systems.tls import client_context

SECURITY = ("PLAINTEXT", "SSL", "SASL_SSL")
MECHANISMS = ("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN")
OPTIONS = ("security", "mechanism", "ca_file", "cert_file", "key_file")
DEFAULT_PORT = 9092

ClientOption: TypeAlias = "str | ssl.SSLContext | list[str]"


@dataclass(frozen=True, slots=True)
class KafkaConnection:
    """How to reach a cluster. ``str()`` of it is safe to show."""

    servers: tuple[str, ...]
    security: str = "PLAINTEXT"
    mechanism: str | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None

    @classmethod
    def parse(cls, url: str) -> KafkaConnection:
        """The connection that *url* describes; BadConfig, never with the password, when it is wrong."""
        scheme, separator, rest = url.partition("://")
        if not separator or scheme != "kafka":
            raise BadConfig(
                "not a Kafka address", got=scheme if separator else None, allowed=["kafka://host:port"]
            )
        address, _, query = rest.partition("?")
        login, at, hosts = address.rpartition("@")
        user, _, password = login.partition(":")
        servers = tuple(_server(host) for host in hosts.rstrip("/").split(",") if host)
        if not servers:
            raise BadConfig("the Kafka address names no broker", fix="write kafka://host:port")
        options = _options(query)
        security = options.pop("security", "SASL_SSL" if at else "PLAINTEXT").upper()
        mechanism = options.pop("mechanism", "SCRAM-SHA-512" if at else "").upper() or None
        where = "kafka://" + ",".join(servers)
        if security not in SECURITY:
            raise BadConfig("unknown security protocol", where=where, got=security, allowed=SECURITY)
        if mechanism not in (None, *MECHANISMS):
            raise BadConfig("unknown SASL mechanism", where=where, got=mechanism, allowed=MECHANISMS)
        if (security == "SASL_SSL") != bool(at and user):
            fix = "write kafka://user:password@…" if security == "SASL_SSL" else "use security=SASL_SSL"
            raise BadConfig(f"{security} and a user name don't go together", where=where, fix=fix)
        return cls(servers, security, mechanism, unquote(user) or None, unquote(password) or None, **options)

    def __str__(self) -> str:
        user = f"{self.user}:***@" if self.user else ""
        return f"kafka://{user}{','.join(self.servers)}"

    def ssl_context(self) -> ssl.SSLContext | None:
        """The TLS context, which checks the broker's certificate and name; None without TLS."""
        if self.security == "PLAINTEXT":
            return None
        return client_context(str(self), ca=self.ca_file, cert=self.cert_file, key=self.key_file)

    def client_options(self) -> dict[str, ClientOption]:
        """Keyword arguments for aiokafka's clients."""
        options: dict[str, ClientOption] = {
            "bootstrap_servers": list(self.servers),
            "security_protocol": self.security,
        }
        if (context := self.ssl_context()) is not None:
            options["ssl_context"] = context
        if self.mechanism is not None and self.user is not None:
            options["sasl_mechanism"] = self.mechanism
            options["sasl_plain_username"] = self.user
            options["sasl_plain_password"] = self.password or ""
        return options


def _server(host: str) -> str:
    name, colon, port = host.rpartition(":")
    if not colon or host.endswith("]"):
        return f"{host}:{DEFAULT_PORT}"
    if not name or not port.isdigit():
        raise BadConfig("not a broker address", got=host, allowed=["host:port"])
    return host


def _options(query: str) -> dict[str, str]:
    options = dict(parse_qsl(query))
    for name in options:
        if name not in OPTIONS:
            raise BadConfig(
                f"the Kafka address has an unknown option {name}",
                allowed=OPTIONS,
                fix=did_you_mean(name, OPTIONS),
            )
    return options


async def probe(url: str, timeout: float = 10.0) -> None:
    """Connect to a broker of *url* and log in, before anything is read.

    Permanent for refused credentials and TLS failures, Transient when no broker answers, BadConfig
    for a wrong *url*. aiokafka's own clients say "Unable to bootstrap" to all of these.
    """
    connection = KafkaConnection.parse(url)
    options = connection.client_options()
    options.pop("bootstrap_servers")
    failures: list[StreamcoreError] = []
    for server in connection.servers:
        host, _, port = server.rpartition(":")
        try:
            opened = await create_conn(
                host.strip("[]"), int(port), request_timeout_ms=int(timeout * 1000), **options
            )
        except (OSError, EOFError, asyncio.TimeoutError, kafka.KafkaError) as error:
            failures.append(_connect_error(connection, server, error))
        else:
            opened.close()
            return
    # One broker's refusal is about the settings; a dead one beside it is not.
    raise next((f for f in failures if isinstance(f, Permanent)), failures[0])


def _connect_error(connection: KafkaConnection, server: str, error: BaseException) -> StreamcoreError:
    refused = (kafka.SaslAuthenticationFailed, kafka.AuthenticationFailedError, kafka.IllegalSaslStateError)
    if isinstance(error, refused):
        return Permanent(
            "the broker refused the credentials",
            where=server,
            got=f"user {connection.user} by {connection.mechanism}",
            fix="check user, password and mechanism",
        )
    if isinstance(error, kafka.UnsupportedSaslMechanismError):
        return Permanent(
            "the broker does not offer this SASL mechanism",
            where=server,
            got=connection.mechanism,
            allowed=MECHANISMS,
            fix="set mechanism= to one that the broker offers",
        )
    if isinstance(error, ssl.SSLCertVerificationError):
        return Permanent(
            f"the broker's certificate is not trusted: {error.verify_message}",
            where=server,
            fix="set ca_file= to the CA that signed it, and use the host name that it was made for",
        )
    if isinstance(error, ssl.SSLError):
        return Permanent(
            f"the TLS handshake failed: {error.reason or type(error).__name__}",
            where=server,
            fix="check that this port speaks TLS and that security= is right",
        )
    if isinstance(error, asyncio.TimeoutError):
        hint = "is the port a TLS port?" if connection.security == "PLAINTEXT" else "check the network"
        return Transient("the broker did not answer in time", where=server, fix=hint)
    if isinstance(error, OSError):
        reason = error.strerror or type(error).__name__
        fix = f"is it running, and does this port speak {connection.security}?"
        return Transient(f"no connection to the broker ({reason})", where=server, fix=fix)
    # The far side hung up in the middle of Kafka's own handshake.
    return Transient(
        f"the broker broke the connection off ({type(error).__name__})",
        where=server,
        got=connection.security,
        allowed=SECURITY,
        fix="check that security= fits this port, and the broker's log",
    )


_PERMANENT: dict[type[BaseException], tuple[str, str]] = {
    kafka.TopicAuthorizationFailedError: ("not authorised for the topic", "ask for the ACL"),
    kafka.GroupAuthorizationFailedError: ("not authorised for the consumer group", "ask for the ACL"),
    kafka.ClusterAuthorizationFailedError: ("not authorised for the cluster", "ask for the ACL"),
    kafka.TransactionalIdAuthorizationFailed: (
        "not authorised for transactional ids",
        "ask for the ACLs Write and Describe on those that begin with the topology's name",
    ),
    kafka.SaslAuthenticationFailed: ("the broker refused the credentials", "check user and password"),
    kafka.MessageSizeTooLargeError: (
        "a record is larger than the topic takes",
        "raise the topic's max.message.bytes or make the rows smaller",
    ),
    kafka.RecordListTooLargeError: ("a batch is larger than the broker takes", "raise message.max.bytes"),
    kafka.InvalidTopicError: ("not a topic name", "letters, digits, dots, dashes, underscores, at most 249"),
    kafka.InvalidTimestampError: (
        "the broker refuses the records' timestamps",
        "check event times, or set the topic's message.timestamp.type=LogAppendTime",
    ),
    kafka.UnsupportedVersionError: ("the broker is too old for this request", "Kafka 3.1 or later"),
    kafka.IncompatibleBrokerVersion: ("the broker is too old for this request", "Kafka 3.1 or later"),
    kafka.PolicyViolationError: ("the cluster's policy refuses this", "see the broker's log"),
    kafka.InvalidConfigurationError: ("the broker refuses a topic setting", "check the topic's config"),
    kafka.InvalidReplicationFactorError: ("not enough brokers for the replication factor", "lower it"),
    kafka.InvalidPartitionsError: ("not a possible number of partitions", "use at least 1"),
}


def translate(error: BaseException, where: str) -> StreamcoreError:
    """aiokafka's *error* as ours; *where* is a topic, partition or address without credentials.

    Permanent for what trying again can't help, otherwise Transient: the outcome may be unknown.
    """
    if isinstance(error, StreamcoreError):
        return error
    for kind, (what, fix) in _PERMANENT.items():
        if isinstance(error, kind):
            return Permanent(what, where=where, fix=fix)
    return Transient(f"Kafka failed ({type(error).__name__})", where=where)
