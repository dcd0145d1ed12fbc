# ruff: noqa: E501  (the broker's settings have no line continuation worth reading)
"""One Kafka broker in KRaft mode: plain, SASL_SSL with SCRAM users, and SSL.

Natively the broker is made of Maven's jars; Kafka's own start scripts are not needed.
"""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import tempfile
import threading
import uuid
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from tests.services.containers import Container, engine_answers
from tests.services.install import apt_install, cache_folder, install_lock, run
from tests.services.native import Process, data_folder, free_ports, port_open
from tests.services.server import Life, Server
from tests.services.tls import Certificates, certificates

VERSION = "4.3.1"
IMAGE = f"apache/kafka:{VERSION}"
USER, PASSWORD = "alice", "alice-secret"
_LOG4J = "2.25.1"
_JVM = ("-Xmx384m", "-Xms128m", "-XX:+UseSerialGC")
_EARLY = "-XX:TieredStopAtLevel=1"  # there sooner, but takes half as much CPU again for its work
_READY_SECONDS = 120

_DEPENDENCY = "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>"
_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>test</groupId><artifactId>kafka-dist</artifactId><version>1</version>
<dependencies>{}</dependencies></project>
"""
_LOGGING = """Configuration:
  Appenders:
    Console: {name: STDOUT, PatternLayout: {pattern: "%d %p %c{1} %m%n"}}
  Loggers:
    Root: {level: WARN, AppenderRef: {ref: STDOUT}}
"""
_SETTINGS = """process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{plain},CONTROLLER://127.0.0.1:{controller},SASL_SSL://127.0.0.1:{sasl},SSL://127.0.0.1:{ssl}
advertised.listeners=PLAINTEXT://127.0.0.1:{plain},SASL_SSL://localhost:{sasl},SSL://localhost:{ssl}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL
sasl.enabled.mechanisms=SCRAM-SHA-256,SCRAM-SHA-512,PLAIN
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_{user}="{password}";
ssl.keystore.type=PEM
ssl.keystore.location={tls.kafka}
ssl.truststore.type=PEM
ssl.truststore.location={tls.ca}
log.dirs={data}
num.partitions=4
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
offsets.topic.num.partitions=8
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
log.retention.ms=-1
"""


class KafkaServer(Server):
    """Addresses of a broker.

    ``bootstrap`` is the plain listener; ``sasl_ssl`` (SCRAM-SHA-512, SCRAM-SHA-256 or PLAIN as ``user`` with
    ``password``) and ``ssl`` are ``localhost:PORT`` with a certificate of ``ca_file``.
    """

    variable = "TEST_KAFKA"

    def __init__(
        self,
        bootstrap: str,
        *,
        sasl_ssl: str | None = None,
        ssl: str | None = None,
        ca_file: str | None = None,
        user: str = USER,
        password: str = PASSWORD,
        life: Life | None = None,
    ) -> None:
        super().__init__(life)
        self.bootstrap = bootstrap
        self.sasl_ssl = sasl_ssl
        self.ssl = ssl
        self.ca_file = ca_file
        self.user = user
        self.password = password

    @property
    def url(self) -> str:
        """``kafka://`` and the plain listener."""
        return f"kafka://{self.bootstrap}"

    def environment(self) -> dict[str, str]:
        found = {
            self.variable: self.bootstrap,
            "TEST_KAFKA_SASL_SSL": self.sasl_ssl,
            "TEST_KAFKA_SSL": self.ssl,
            "TEST_KAFKA_SASL": f"SCRAM-SHA-512:{self.user}:{self.password}",
            "TEST_CA_FILE": self.ca_file,
        }
        return {name: value for name, value in found.items() if value}


def from_environment(env: Mapping[str, str] = os.environ) -> KafkaServer | None:
    """The broker that ``TEST_KAFKA`` names, if it does."""
    if not env.get(KafkaServer.variable):
        return None
    _, _, login = env.get("TEST_KAFKA_SASL", f"SCRAM-SHA-512:{USER}:{PASSWORD}").partition(":")
    user, _, password = login.partition(":")
    return KafkaServer(
        env[KafkaServer.variable],
        sasl_ssl=env.get("TEST_KAFKA_SASL_SSL"),
        ssl=env.get("TEST_KAFKA_SSL"),
        ca_file=env.get("TEST_CA_FILE"),
        user=user,
        password=password,
    )


def start(*, early: bool = True) -> KafkaServer:
    """A broker of the caller's own; raises :class:`Unavailable`.

    *early*: as tests want it, there soon. Benchmarks want a broker that takes no more CPU than users' do.
    """
    tls = certificates()
    folder = data_folder("kafka")
    plain, controller, sasl, ssl = free_ports(4)
    bootstrap = f"127.0.0.1:{plain}"
    contained = engine_answers()
    (folder / "server.properties").write_text(
        _SETTINGS.format(
            plain=plain,
            controller=controller,
            sasl=sasl,
            ssl=ssl,
            tls=tls,
            data="/tmp/data" if contained else folder / "data",
            user=USER,
            password=PASSWORD,
        )
    )
    life = _contained(folder, tls, bootstrap) if contained else _native(folder, bootstrap, early=early)
    return KafkaServer(
        bootstrap, sasl_ssl=f"localhost:{sasl}", ssl=f"localhost:{ssl}", ca_file=str(tls.ca), life=life
    )


def _format_words(folder: Path) -> list[str]:
    cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "a")
    words = ["format", "-t", cluster, "-c", str(folder / "server.properties")]
    for mechanism in ("SCRAM-SHA-512", "SCRAM-SHA-256"):
        words += ["--add-scram", f"{mechanism}=[name={USER},password={PASSWORD}]"]
    return words


def _native(folder: Path, bootstrap: str, *, early: bool) -> Life:
    (folder / "log4j2.yaml").write_text(_LOGGING)
    logging = f"-Dlog4j2.configurationFile={folder / 'log4j2.yaml'}"
    java = ["java", *_JVM, *([_EARLY] if early else []), "-cp", f"{install()}/*", logging]
    run(*java, "kafka.tools.StorageTool", *_format_words(folder))
    return Process(
        [*java, "kafka.Kafka", str(folder / "server.properties")],
        folder=folder,
        ready=partial(answers, bootstrap),
        ready_seconds=_READY_SECONDS,
    )


def _contained(folder: Path, tls: Certificates, bootstrap: str) -> Life:
    for certificate in (tls.kafka, tls.ca):
        shutil.copy(certificate, folder)
    settings = folder / "server.properties"
    settings.write_text(settings.read_text().replace(str(tls.ca.parent), str(folder)))
    storage = " ".join(f"'{word}'" for word in _format_words(folder))
    script = (
        f"[ -e /tmp/data/meta.properties ] || /opt/kafka/bin/kafka-storage.sh {storage}; "
        f"exec /opt/kafka/bin/kafka-server-start.sh {settings}"
    )
    return Container(
        IMAGE,
        script,
        files=folder,
        environment={"KAFKA_HEAP_OPTS": "-Xmx384m -Xms128m"},
        ready=partial(answers, bootstrap),
        ready_seconds=_READY_SECONDS,
    )


def answers(bootstrap: str) -> bool:
    """Whether a broker at *bootstrap* lists itself; an open port alone is a little early.

    Asked in a thread, because callers may have an event loop of their own.
    """
    from aiokafka.client import AIOKafkaClient

    async def ask() -> None:
        client = AIOKafkaClient(bootstrap_servers=bootstrap, request_timeout_ms=2_000)
        try:
            await client.bootstrap()
            found.extend(client.cluster.brokers())
        finally:
            await client.close()

    def quietly() -> None:
        try:
            asyncio.run(ask())
        except Exception:
            return

    host, _, port = bootstrap.split(",")[0].rpartition(":")
    if not port_open(host, int(port)):
        return False
    found: list[object] = []
    thread = threading.Thread(target=quietly)
    thread.start()
    thread.join(10)
    return bool(found)


def install() -> Path:
    """Kafka's jars from Maven, in the cache; the folder that holds them."""
    libs = cache_folder() / f"kafka-{VERSION}"
    apt_install("java", "default-jre-headless")
    apt_install("mvn", "maven")
    with install_lock("kafka"):
        if not (libs / f"kafka_2.13-{VERSION}.jar").exists():
            _download(libs)
    return libs


def _download(libs: Path) -> None:
    parts = [
        ("org.apache.kafka", "kafka_2.13", VERSION),
        ("org.apache.kafka", "kafka-tools", VERSION),
        ("org.apache.logging.log4j", "log4j-slf4j-impl", _LOG4J),
        ("org.apache.logging.log4j", "log4j-core", _LOG4J),
    ]
    with tempfile.TemporaryDirectory(dir=libs.parent) as work:
        (Path(work) / "pom.xml").write_text(_POM.format("".join(_DEPENDENCY.format(*part) for part in parts)))
        goal = ("dependency:copy-dependencies", "-DoutputDirectory=libs", "-DincludeScope=runtime")
        run("mvn", "-q", "-B", *goal, cwd=Path(work), seconds=600)
        shutil.rmtree(libs, ignore_errors=True)
        (Path(work) / "libs").rename(libs)
