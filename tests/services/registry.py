"""A schema registry: Apicurio, which has Confluent's REST API at ``/apis/ccompat/v7``. It keeps nothing."""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from tests.services.install import apt_install, cache_folder, install_lock, run
from tests.services.native import Process, data_folder, free_ports
from tests.services.server import Life, Server

VERSION = "3.0.9"
"""The last one that runs on Java 17."""
_JVM = ("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
_READY_SECONDS = 120
_PATH = "/apis/ccompat/v7"


class RegistryServer(Server):
    """``url``: the address of Confluent's API."""

    variable = "TEST_SCHEMA_REGISTRY"

    def __init__(self, url: str, *, life: Life | None = None) -> None:
        super().__init__(life)
        self.url = url

    def environment(self) -> dict[str, str]:
        return {self.variable: self.url}


def from_environment(env: Mapping[str, str] = os.environ) -> RegistryServer | None:
    """The server that ``TEST_SCHEMA_REGISTRY`` names, if it does."""
    return RegistryServer(env[RegistryServer.variable]) if env.get(RegistryServer.variable) else None


def install() -> Path:
    """Apicurio from Maven, in the cache; its jar. Raises :class:`tests.services.server.Unavailable`."""
    folder = cache_folder() / f"apicurio-{VERSION}"
    jar = folder / f"apicurio-registry-app-{VERSION}-runner.jar"
    apt_install("java", "default-jre-headless")
    apt_install("mvn", "maven")
    with install_lock("apicurio"):
        if not jar.exists():
            _download(folder)
    return jar


def _download(folder: Path) -> None:
    artifact = f"io.apicurio:apicurio-registry-app:{VERSION}:tar.gz:all"
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        goal = ("dependency:copy", f"-Dartifact={artifact}", "-DoutputDirectory=.")
        run("mvn", "-q", "-B", *goal, cwd=Path(work), seconds=600)
        unpacked = Path(work) / "unpacked"
        (packed,) = Path(work).glob("*.tar.gz")
        with tarfile.open(packed) as archive:
            archive.extractall(unpacked, filter="data")
        shutil.rmtree(folder, ignore_errors=True)
        unpacked.rename(folder)


def start() -> RegistryServer:
    """A server of the caller's own; raises :class:`tests.services.server.Unavailable`."""
    jar, folder = install(), data_folder("registry")
    (port,) = free_ports(1)
    settings = {
        "quarkus.http.host": "127.0.0.1",
        "quarkus.http.port": port,
        "apicurio.storage.kind": "sql",
        "apicurio.storage.sql.kind": "h2",
    }
    words = [f"-D{name}={value}" for name, value in settings.items()]
    url = f"http://127.0.0.1:{port}{_PATH}"
    life = Process(
        ["java", *_JVM, *words, "-jar", str(jar)],
        folder=folder,
        ready=partial(answers, url),
        ready_seconds=_READY_SECONDS,
    )
    return RegistryServer(url, life=life)


def answers(url: str) -> bool:
    """Whether the registry at *url* lists its subjects."""
    try:
        with urllib.request.urlopen(f"{url}/subjects", timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False
