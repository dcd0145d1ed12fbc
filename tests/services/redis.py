"""One Redis server with TLS beside plain TCP, a password, and a user who may read only some keys."""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from tests.services.install import apt_install
from tests.services.native import Process, data_folder, free_ports, port_open
from tests.services.server import Life, Server
from tests.services.tls import certificates

PASSWORD = "redispass"
_READY_SECONDS = 20
_numbers = itertools.count(1)
_USERS = f"user default on >{PASSWORD} ~* &* +@all\nuser reader on >readerpass ~user:* +hmget +ping\n"


class RedisServer(Server):
    """Addresses of a server: ``url`` is plain TCP, ``tls_url`` verifies it. ``folder``: of our data."""

    variable = "TEST_REDIS"

    def __init__(
        self, url: str, *, tls_url: str = "", folder: Path | None = None, life: Life | None = None
    ) -> None:
        super().__init__(life)
        self.url, self.tls_url, self.folder = url, tls_url, folder

    def fresh_database(self) -> str:
        """The URL of a database that is empty, of the many that a server of the tests has."""
        return f"{self.url.rpartition('/')[0]}/{next(_numbers)}"

    def environment(self) -> dict[str, str]:
        tls = {"TEST_REDIS_TLS": self.tls_url} if self.tls_url else {}
        return {self.variable: self.url} | tls


def from_environment(env: Mapping[str, str] = os.environ) -> RedisServer | None:
    """The server that ``TEST_REDIS`` names, if it does."""
    if not env.get(RedisServer.variable):
        return None
    return RedisServer(env[RedisServer.variable], tls_url=env.get("TEST_REDIS_TLS", ""))


def install() -> None:
    """Debian's package; raises :class:`tests.services.server.Unavailable`."""
    apt_install("redis-server", "redis-server")


def start() -> RedisServer:
    """A server of the caller's own; raises :class:`tests.services.server.Unavailable`."""
    install()
    tls, folder = certificates(), data_folder("redis")
    port, tls_port = free_ports(2)
    users = folder / "users.acl"
    users.write_text(_USERS)
    settings = {
        "bind": "127.0.0.1",
        "port": port,
        "tls-port": tls_port,
        "tls-cert-file": tls.server,
        "tls-key-file": tls.key,
        "tls-ca-cert-file": tls.ca,
        "tls-auth-clients": "no",
        "aclfile": users,
        "dir": folder,
        "appendonly": "yes",
        "appendfsync": "always",
        "databases": 1024,
    }
    words = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    life = Process(
        ["redis-server", *words, "--save", ""],
        folder=Path(folder),
        ready=partial(answers, port),
        ready_seconds=_READY_SECONDS,
    )
    return RedisServer(
        f"redis://:{PASSWORD}@127.0.0.1:{port}/0",
        tls_url=f"rediss://:{PASSWORD}@localhost:{tls_port}/0?ssl_ca_certs={tls.ca}",
        folder=folder,
        life=life,
    )


def answers(port: int) -> bool:
    """Whether a server at *port* says PONG."""
    if not port_open("127.0.0.1", port):
        return False
    with socket.create_connection(("127.0.0.1", port), 2) as connection:
        connection.sendall(f"AUTH {PASSWORD}\r\nPING\r\n".encode())
        with connection.makefile("rb") as said:
            return [said.readline().strip() for _ in range(2)] == [b"+OK", b"+PONG"]
