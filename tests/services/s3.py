"""One S3 server, versitygw over a folder: path-style addresses, one account, TLS on a port of its own.

It keeps objects as files, so its folder must be on a file system with extended attributes.
"""

from __future__ import annotations

import os
import shutil
import ssl
import urllib.request
import uuid
from collections.abc import Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import botocore.session
from botocore.config import Config

from tests.services.install import cache_folder, install_lock, run
from tests.services.native import Process, data_folder, free_ports, port_open
from tests.services.server import Life, Server, Unavailable
from tests.services.tls import certificates

ACCESS_KEY, SECRET_KEY = "test", "testsecret"
VERSION = "1.8.0"
_MODULE = "github.com/versity/versitygw/cmd/versitygw"
_READY_SECONDS, _BUILD_SECONDS = 20, 900


class S3Server(Server):
    """Address and account of a server; ``buckets`` is the folder whose folders are its buckets, if ours."""

    variable = "TEST_S3"

    def __init__(self, endpoint: str, *, buckets: Path | None = None, life: Life | None = None) -> None:
        super().__init__(life)
        self.endpoint, self.buckets = endpoint, buckets

    @property
    def options(self) -> str:
        """The query of URIs of this server."""
        return f"endpoint={self.endpoint}&access_key={ACCESS_KEY}&secret_key=${{TEST_S3_SECRET:{SECRET_KEY}}}"

    def uri(self, path: str, endpoint: str | None = None) -> str:
        """``s3://path?…`` of this server, or of another endpoint of it."""
        options = self.options
        return f"s3://{path}?{options.replace(self.endpoint, endpoint) if endpoint else options}"

    @cached_property
    def client(self) -> Any:
        """Botocore's own client, to look behind the connector's back."""
        return botocore.session.get_session().create_client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            verify=str(certificates().ca) if self.endpoint.startswith("https") else None,
            config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
        )

    def fresh_bucket(self) -> dict[str, str]:
        """A new bucket's name as ``BUCKET``, with what AWS' tools need to find it in the environment."""
        name = f"bucket-{uuid.uuid4().hex[:12]}"
        self.client.create_bucket(Bucket=name)
        return {
            "BUCKET": name,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": "us-east-1",
        }

    def environment(self) -> dict[str, str]:
        return {self.variable: self.endpoint}


def from_environment(env: Mapping[str, str] = os.environ) -> S3Server | None:
    """The server that ``TEST_S3`` names, if it does."""
    return S3Server(env[S3Server.variable]) if env.get(S3Server.variable) else None


def install() -> str:
    """The program, built by Go once into the cache; raises :class:`tests.services.server.Unavailable`."""
    if found := shutil.which("versitygw"):
        return found
    folder = cache_folder() / f"versitygw-{VERSION}"
    program = folder / "versitygw"
    if program.exists():
        return str(program)
    if shutil.which("go") is None:
        raise Unavailable(f"versitygw is missing, and go to build it: go install {_MODULE}@v{VERSION}")
    with install_lock("versitygw"):
        if not program.exists():
            env = {**os.environ, "GOBIN": str(folder)}
            run("go", "install", f"{_MODULE}@v{VERSION}", env=env, seconds=_BUILD_SECONDS)
    return str(program)


def start(*, tls: bool = False) -> S3Server:
    """A server of the caller's own; raises :class:`tests.services.server.Unavailable`."""
    program, folder = install(), data_folder("s3")
    (port,) = free_ports(1)
    buckets = folder / "buckets"
    buckets.mkdir()
    words = ["--port", f"127.0.0.1:{port}", "--health", "/health", "--quiet"]
    if tls:
        made = certificates()
        words += ["--cert", str(made.server), "--key", str(made.key)]
    env = ["env", f"ROOT_ACCESS_KEY={ACCESS_KEY}", f"ROOT_SECRET_KEY={SECRET_KEY}"]
    life = Process(
        [*env, program, *words, "posix", str(buckets)],
        folder=folder,
        ready=partial(answers, port, tls),
        ready_seconds=_READY_SECONDS,
    )
    return S3Server(f"{'https' if tls else 'http'}://localhost:{port}", buckets=buckets, life=life)


def answers(port: int, tls: bool = False) -> bool:
    """Whether a server at *port* says that it is well."""
    if not port_open("127.0.0.1", port):
        return False
    context = ssl.create_default_context(cafile=str(certificates().ca)) if tls else None
    url = f"{'https' if tls else 'http'}://localhost:{port}/health"
    try:
        with urllib.request.urlopen(url, timeout=2, context=context) as said:
            return bool(said.status == 200)
    except (TimeoutError, OSError):
        return False
