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
from pathlib import Path

from tests.services.native import (
    Folder,
    Process,
    Unavailable,
    apt_install,
    cache_folder,
    free_ports,
    install_lock,
    port_open,
    run,
)
from tests.services.tls import Certificates, certificates

VERSION = "4.3.1"
USER, PASSWORD = "alice", "alice-secret"
_LOG4J = "2.25.1"
_JVM = ("-Xmx384m", "-Xms128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
_READY_SECONDS = 120
_STARTS = 3

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
"""


class KafkaServer:
    """Addresses of a broker, and its life where it is ours.

    ``bootstrap`` is the plain listener; ``sasl_ssl`` (SCRAM-SHA-512, SCRAM-SHA-256 or PLAIN as ``user`` with
    ``password``) and ``ssl`` are ``localhost:PORT`` with a certificate of ``ca_file``. ``kill``, ``stop`` and
    ``start`` keep ports and data.
    """

    def __init__(
        self,
        bootstrap: str,
        *,
        sasl_ssl: str | None = None,
        ssl: str | None = None,
        ca_file: str | None = None,
        user: str = USER,
        password: str = PASSWORD,
    ) -> None:
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

    @property
    def pid(self) -> int:
        """The broker's process id; raises :class:`Unavailable` for a broker that is not ours."""
        raise Unavailable(f"the broker {self.bootstrap} of TEST_KAFKA is not ours to signal")

    def start(self) -> None:
        """Start the stopped or killed broker again and wait until it answers."""
        raise Unavailable(f"the broker {self.bootstrap} of TEST_KAFKA is not ours to start")

    def stop(self) -> None:
        """End the broker in good order."""
        raise Unavailable(f"the broker {self.bootstrap} of TEST_KAFKA is not ours to stop")

    def kill(self) -> None:
        """SIGKILL the broker."""
        raise Unavailable(f"the broker {self.bootstrap} of TEST_KAFKA is not ours to kill")

    def close(self) -> None:
        """End the broker and delete its data; nothing happens to a broker that is not ours."""

    def environment(self) -> dict[str, str]:
        """The ``TEST_…`` variables with which another process finds this broker."""
        found = {
            "TEST_KAFKA": self.bootstrap,
            "TEST_KAFKA_SASL_SSL": self.sasl_ssl,
            "TEST_KAFKA_SSL": self.ssl,
            "TEST_KAFKA_SASL": f"SCRAM-SHA-512:{self.user}:{self.password}",
            "TEST_CA_FILE": self.ca_file,
        }
        return {name: value for name, value in found.items() if value}


class NativeKafka(KafkaServer):
    """A broker that we installed and run; started by the constructor."""

    def __init__(self) -> None:
        self._libs = install()
        self._tls = certificates()
        self._folder = Folder("kafka")
        try:
            self._process = self._first_start()
        except BaseException:
            self._folder.remove()
            raise

    def _first_start(self) -> Process:
        for attempt in range(1, _STARTS + 1):
            plain, controller, sasl, ssl = free_ports(4)
            super().__init__(
                f"127.0.0.1:{plain}",
                sasl_ssl=f"localhost:{sasl}",
                ssl=f"localhost:{ssl}",
                ca_file=str(self._tls.ca),
            )
            self._format(self._tls, plain=plain, controller=controller, sasl=sasl, ssl=ssl)
            try:
                return self._spawn()
            except Unavailable as error:
                if "Address already in use" not in str(error) or attempt == _STARTS:
                    raise
                shutil.rmtree(self._folder.path / "data")
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _java(self, *words: str) -> list[str]:
        logging = self._folder.path / "log4j2.yaml"
        return ["java", *_JVM, "-cp", f"{self._libs}/*", f"-Dlog4j2.configurationFile={logging}", *words]

    def _format(self, tls: Certificates, **ports: int) -> None:
        folder = self._folder.path
        settings = folder / "server.properties"
        settings.write_text(
            _SETTINGS.format(tls=tls, data=folder / "data", user=USER, password=PASSWORD, **ports)
        )
        (folder / "log4j2.yaml").write_text(_LOGGING)
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "a")
        words = ["kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(settings)]
        for mechanism in ("SCRAM-SHA-512", "SCRAM-SHA-256"):
            words += ["--add-scram", f"{mechanism}=[name={USER},password={PASSWORD}]"]
        run(*self._java(*words))

    def _spawn(self) -> Process:
        folder = self._folder.path
        command = self._java("kafka.Kafka", str(folder / "server.properties"))
        process = Process("kafka", command, log=folder / "server.log", cwd=folder)
        try:
            process.wait_ready(lambda: answers(self.bootstrap), _READY_SECONDS)
        except BaseException:
            process.kill()
            raise
        return process

    @property
    def pid(self) -> int:
        return self._process.pid

    def start(self) -> None:
        if not self._process.alive():
            self._process = self._spawn()

    def stop(self) -> None:
        self._process.stop()

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        # A broker whose data are thrown away needs no controlled shutdown, which takes seconds.
        self._process.kill()
        self._folder.remove()


def from_environment(env: Mapping[str, str] = os.environ) -> KafkaServer | None:
    """The broker that ``TEST_KAFKA`` names, if it does."""
    if not env.get("TEST_KAFKA"):
        return None
    _, _, login = env.get("TEST_KAFKA_SASL", f"SCRAM-SHA-512:{USER}:{PASSWORD}").partition(":")
    user, _, password = login.partition(":")
    return KafkaServer(
        env["TEST_KAFKA"],
        sasl_ssl=env.get("TEST_KAFKA_SASL_SSL"),
        ssl=env.get("TEST_KAFKA_SSL"),
        ca_file=env.get("TEST_CA_FILE"),
        user=user,
        password=password,
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
    for program, package in (("java", "default-jre-headless"), ("mvn", "maven")):
        if shutil.which(program) is None:
            apt_install(package)
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


def start() -> KafkaServer:
    """A broker of the caller's own."""
    return NativeKafka()
