"""What can be set: a pydantic model for each section, with a description for each key.

docs/configuration.md is generated from these models.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from streamcore.secrets import Secret

Seconds: TypeAlias = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Text: TypeAlias = Annotated[str, StringConstraints(min_length=1)]


def _broker_url(url: str) -> str:
    if url != "embedded" and not (url.startswith("kafka://") and len(url) > len("kafka://")):
        raise ValueError("must be embedded or kafka://host:port")
    return url


def _metadata_url(url: str) -> str:
    if url.partition(":")[0] not in ("sqlite", "memory", "postgresql", "postgres"):
        raise ValueError("must be sqlite:///path.db, memory: or postgresql://…")
    return url


def _cache_url(url: str) -> str:
    if url != "memory:" and url.partition("://")[0] not in ("redis", "rediss"):
        raise ValueError("must be memory: or redis://host:6379/0")
    return url


def _topic_pattern(pattern: str) -> str:
    rest = pattern.replace("{topology}", "t")
    if not (rest.isascii() and rest.replace(".", "").replace("-", "").replace("_", "").isalnum()):
        raise ValueError("must be letters, digits, '.', '_', '-' and {topology}")
    return pattern


def _secret_reference(secret: Secret) -> Secret:
    if secret.reference is None:
        raise ValueError("must be a reference such as ${env:NAME} or ${file:PATH}")
    return secret


SecretReference: TypeAlias = Annotated[Secret, AfterValidator(_secret_reference)]
BrokerUrl: TypeAlias = Annotated[str, AfterValidator(_broker_url)]
CacheUrl: TypeAlias = Annotated[str, AfterValidator(_cache_url)]
MetadataUrl: TypeAlias = Annotated[str, AfterValidator(_metadata_url)]
TopicPattern: TypeAlias = Annotated[str, AfterValidator(_topic_pattern)]


class Section(BaseModel):
    """A group of settings; frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Broker(Section):
    """Which broker the topology runs on, and as whom."""

    url: BrokerUrl = Field(
        "embedded",
        repr=False,  # it may hold a password
        description="`embedded` (this process, no server) or `kafka://[user:password@]host:port,…`, "
        "with `?security=`, `mechanism=`, `ca_file=`, `cert_file=`, `key_file=`.",
    )
    group: Text | None = Field(
        None, description="Consumer group, which owns the stored positions. The topology's name when not set."
    )
    instance_id: Text | None = Field(
        None,
        description="Fixed name of this worker in the group, so that a restart needs no rebalance. "
        "Must differ between workers that run at the same time.",
    )


class State(Section):
    """What is kept between runs, and where."""

    dir: Path = Field(
        Path(".streamcore"),
        description="Folder of the embedded log, positions and dead letters. One process at a time uses it.",
    )
    http: bool = Field(
        False,
        description="Let the state of a worker be read over HTTP, at /state; needs `http.port` and a token.",
    )
    http_token: SecretReference | None = Field(
        None,
        description="What readers of /state send as `Authorization: Bearer …`: a reference such as "
        "`${env:STATE_TOKEN}` to a secret of 16 characters or more.",
    )
    memory_mb: int = Field(
        512,
        ge=0,
        description="MiB of memory for the state of windows, tables and joins in a process; the rest lies in "
        "files in `state.dir`, of which as much again is mapped.",
    )
    snapshot_mb: int = Field(
        128,
        ge=0,
        description="MiB by which a log of state grows at least between two snapshots, which bound recovery.",
    )
    copies: bool = Field(
        True,
        description="Keep a copy of each partition's state in `state.dir`, made anew behind each snapshot: a "
        "worker that starts again goes on from it.",
    )
    standbys: int = Field(
        0,
        ge=0,
        le=8,
        description="How many other workers keep the state of each partition too, so that one that takes it "
        "over need not read its log. Costs their memory and CPU. The same for all workers of a group.",
    )


class Metadata(Section):
    """Where pipelines, runs and their history are kept."""

    url: MetadataUrl | None = Field(
        None,
        repr=False,  # it may hold a password
        description="`sqlite:///path.db` or `memory:` for one machine, `postgresql://user:password@host/db` "
        "to be shared. The file `metadata.db` in `state.dir` when not set.",
    )


class Cache(Section):
    """What was asked for before and is believed for a while."""

    url: CacheUrl = Field(
        "memory:",
        repr=False,  # it may hold a password
        description="`memory:` of each process, or `redis://user:password@host:6379/0` to be shared; "
        "`rediss://` with TLS. Nothing fails when Redis is away.",
    )
    entries: int = Field(10_000, ge=1, description="How many entries are kept in memory.")


class Pipelines(Section):
    """Workers of pipelines that share their runs by a Kafka consumer group."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,100}$")] = Field(
        "pipelines",
        description="Consumer group, and prefix of the topics: `NAME.commands`, `NAME.events`. The same for "
        "all workers on one store.",
    )
    partitions: int = Field(
        12,
        ge=1,
        le=1000,
        description="Partitions of these topics when a worker makes them: so many workers can share runs.",
    )


class Notifications(Section):
    """The mail server of notifications that name none, and where webhooks may go."""

    server: Text | None = Field(None, description="Name of the mail server.")
    port: int | None = Field(
        None, ge=1, le=65_535, description="Its port; 587 when not set, 465 with `tls`, 25 with `none`."
    )
    security: Literal["starttls", "tls", "none"] = Field(
        "starttls", description="How mail is encrypted on its way to the server; both ways check its name."
    )
    user: Text | None = Field(None, description="Who logs in there; nobody does when not set.")
    password: SecretReference | None = Field(None, description="The user's password, as a reference.")
    sender: Text | None = Field(None, description="Address that mail is from.")
    ca_file: Text | None = Field(
        None, description="PEM file of the authority that the server's certificate is checked by."
    )
    allow_private: bool = Field(
        False, description="Whether webhooks may go to this machine and to private networks."
    )


class Limits(Section):
    """Bounds of memory, which press back on the source."""

    memory_mb: int = Field(
        256, ge=16, description="Bytes read but not yet confirmed by every sink, in MiB, a process."
    )
    fetch_max_bytes: int = Field(
        8_388_608,
        ge=1_024,
        description="Bytes read at once: of all partitions of a broker, or of a file. More is faster.",
    )


class Runtime(Section):
    """Commits and deadlines."""

    commit_interval_s: Seconds = Field(
        1.0, description="Seconds between two commits of what every sink confirmed."
    )
    stall_timeout_s: Seconds = Field(
        60.0,
        description="Seconds after which a partition with rows waiting that does not move ends the process.",
    )
    drain_timeout_s: Seconds = Field(
        30.0, description="Seconds that SIGTERM and Ctrl-C give to flush, commit and leave the group."
    )


class Retry(Section):
    """Back-off after transient errors of a sink or the broker."""

    initial_s: Seconds = Field(
        0.2, description="Seconds before the first retry; doubled each time, with jitter."
    )
    max_s: Seconds = Field(30.0, description="Longest wait between two tries, in seconds.")
    give_up_after_s: Seconds = Field(
        300.0, description="Seconds of nothing but failures after which the worker stops with exit code 1."
    )


class DeadLetters(Section):
    """Where refused rows go."""

    topic: TopicPattern = Field(
        "{topology}.dead-letters",
        description="Topic of the dead letters; `{topology}` stands for its name.",
    )
    max_attempts: int = Field(
        3, ge=1, description="How often a row may be redriven before `dlq redrive` leaves it where it is."
    )


class Http(Section):
    """The endpoints /metrics, /healthz and /readyz of a worker, and /state if `state.http` is on."""

    host: Text = Field("127.0.0.1", description="Address to listen on; `0.0.0.0` in a container.")
    port: int = Field(8000, ge=0, le=65_535, description="Port to listen on; 0 turns the endpoints off.")


class Log(Section):
    """What is written to standard error while it runs."""

    format: Literal["console", "json"] = Field(
        "console", description="Lines for people, or one JSON object a line."
    )
    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least level that is written."
    )


class Kafka(Section):
    """The consumer group and its fetches; how to connect is in `broker.url`."""

    session_timeout_s: Seconds = Field(
        45.0, description="Seconds without a heartbeat after which others get a worker's partitions."
    )
    fetch_min_bytes: int = Field(
        1,
        ge=1,
        description="Bytes that the broker waits for before it answers a fetch: where few rows come, more "
        "saves CPU and costs latency, at most `fetch_max_wait_s`.",
    )
    fetch_max_wait_s: Seconds = Field(
        0.5, le=30.0, description="Seconds that the broker waits for `fetch_min_bytes`."
    )


class Settings(Section):
    """All settings, by section."""

    broker: Broker = Field(default_factory=Broker)
    state: State = Field(default_factory=State)
    metadata: Metadata = Field(default_factory=Metadata)
    cache: Cache = Field(default_factory=Cache)
    pipelines: Pipelines = Field(default_factory=Pipelines)
    notifications: Notifications = Field(default_factory=Notifications)
    limits: Limits = Field(default_factory=Limits)
    runtime: Runtime = Field(default_factory=Runtime)
    retry: Retry = Field(default_factory=Retry)
    dead_letters: DeadLetters = Field(default_factory=DeadLetters)
    http: Http = Field(default_factory=Http)
    log: Log = Field(default_factory=Log)
    kafka: Kafka = Field(default_factory=Kafka)

    def dead_letter_topic(self, topology: str) -> str:
        """The dead-letter topic of *topology*."""
        return self.dead_letters.topic.replace("{topology}", topology)

    def metadata_url(self) -> str:
        """Where the metadata is."""
        return self.metadata.url or f"sqlite:///{self.state.dir / 'metadata.db'}"

    def group(self, topology: str) -> str:
        """The consumer group that runs *topology*."""
        return self.broker.group or topology
