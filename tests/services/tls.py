"""One certificate authority and one leaf for ``localhost`` and ``127.0.0.1``, made once by openssl.

The same leaf serves every server; ``kafka.pem`` is its PKCS#8 key and chain in one file, which Kafka wants.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.services.install import apt_install, cache_folder, install_lock, run

_RENEW_AFTER_SECONDS = 300 * 86_400

_COMMANDS = (
    "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 365 -subj /CN=streamcore-test-ca "
    "-addext basicConstraints=critical,CA:TRUE -addext keyUsage=keyCertSign,cRLSign",
    "req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=localhost",
    "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 365 -extfile x -out server.pem",
    "pkcs8 -topk8 -nocrypt -in server.key -out server.p8",
)


@dataclass(frozen=True)
class Certificates:
    """Paths of the authority, the leaf, its key, and the leaf in Kafka's form."""

    ca: Path
    server: Path
    key: Path
    kafka: Path


def certificates() -> Certificates:
    """The certificates from the cache, made anew when they are missing or near their end."""
    folder = cache_folder() / "tls"
    made = Certificates(folder / "ca.pem", folder / "server.pem", folder / "server.key", folder / "kafka.pem")
    with install_lock("tls"):
        if not made.kafka.exists() or made.kafka.stat().st_mtime < time.time() - _RENEW_AFTER_SECONDS:
            _make(folder)
    return made


def _make(folder: Path) -> None:
    apt_install("openssl", "openssl")
    work = Path(tempfile.mkdtemp(dir=folder.parent))
    work.chmod(0o755)
    (work / "x").write_text(
        "subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n"
    )
    for line in _COMMANDS:
        run("openssl", *line.split(), cwd=work)
    parts = ("server.p8", "server.pem", "ca.pem")
    (work / "kafka.pem").write_text("".join((work / part).read_text() for part in parts))
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(work, folder)
