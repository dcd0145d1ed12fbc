"""One PostgreSQL server with TLS and logical decoding."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import threading
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from tests.services.containers import Container, engine_answers
from tests.services.install import account, apt_install, run
from tests.services.native import Process, data_folder, free_ports, port_open
from tests.services.server import Life, Unavailable
from tests.services.sql_server import SqlServer
from tests.services.tls import Certificates, certificates

USER, PASSWORD = "postgres", "pgpass"
_IMAGE = "postgres:17"
_READY_SECONDS = 60


class PostgresServer(SqlServer):
    """See :class:`SqlServer`."""

    variable = "TEST_POSTGRES"

    tls_query = "sslmode=verify-full&sslrootcert="

    def make_database(self, name: str) -> None:
        _execute(self.dsn, f"create database {name} template template0")


def from_environment(env: Mapping[str, str] = os.environ) -> PostgresServer | None:
    """The server that ``TEST_POSTGRES`` names, if it does."""
    return PostgresServer.named_by(env)


def start() -> PostgresServer:
    """A server of the caller's own; raises :class:`Unavailable`."""
    tls = certificates()
    folder = data_folder("postgres")
    [port] = free_ports(1)
    dsn = f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{port}/postgres?sslmode=disable"
    life = (_contained if engine_answers() else _native)(folder, tls, port, dsn)
    return PostgresServer(dsn, ca_file=str(tls.ca), life=life)


def _native(folder: Path, tls: Certificates, port: int, dsn: str) -> Life:
    binaries, data = install(), folder / "home" / "data"
    # A file: initdb can't read the caller's pipe once it has become another user.
    password = data.parent / "password"
    data.parent.mkdir()
    password.write_text(PASSWORD)
    _give_away(data.parent, password)
    login = ("-U", USER, "-A", "scram-sha-256", f"--pwfile={password}")
    words = ("-D", data, *login, "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
    run(binaries / "initdb", *words, user="postgres", cwd=data.parent)
    for source in (tls.server, tls.key):
        copy = Path(shutil.copy(source, data))
        copy.chmod(0o600)
        _give_away(copy)
    with open(data / "postgresql.conf", "a") as settings:
        settings.writelines(f"{name}='{value}'\n" for name, value in _settings(port, data).items())
    return Process(
        [str(binaries / "postgres"), "-D", str(data)],
        folder=folder,
        ready=partial(answers, dsn),
        ready_seconds=_READY_SECONDS,
        stop_signal=signal.SIGINT,
        user="postgres",
    )


def _give_away(*paths: Path) -> None:
    """The server refuses to run as root: then its files belong to the user postgres."""
    if who := account("postgres"):
        for path in paths:
            shutil.chown(path, who, who)


def _contained(folder: Path, tls: Certificates, port: int, dsn: str) -> Life:
    for source in (tls.server, tls.key):
        shutil.copy(source, folder)
    mine = Path("/var/lib/postgresql")
    options = " ".join(f"-c {name}='{value}'" for name, value in _settings(port, mine).items())
    script = (
        f"install -o postgres -m 600 {folder}/server.pem {folder}/server.key {mine}; "
        f"exec docker-entrypoint.sh postgres {options}"
    )
    return Container(
        _IMAGE,
        script,
        files=folder,
        environment={"POSTGRES_PASSWORD": PASSWORD},
        ready=partial(answers, dsn),
        ready_seconds=_READY_SECONDS,
    )


def _settings(port: int, certificates_in: Path) -> dict[str, object]:
    return {
        "listen_addresses": "127.0.0.1",
        "port": port,
        "unix_socket_directories": "",
        "ssl": "on",
        "ssl_cert_file": certificates_in / "server.pem",
        "ssl_key_file": certificates_in / "server.key",
        "wal_level": "logical",
        # synchronous_commit stays on: without it a logical slot misses rows just committed.
        "fsync": "off",
        "full_page_writes": "off",
        "shared_buffers": "64MB",
        "max_connections": 200,
    }


def answers(dsn: str) -> bool:
    """Whether the server at *dsn* runs statements."""
    parts = urlsplit(dsn)
    if not port_open(str(parts.hostname), parts.port or 5432):
        return False
    try:
        _execute(dsn, "select 1")
    except Exception:
        return False
    return True


def _execute(dsn: str, sql: str) -> None:
    """Run one statement in a thread, because callers may have an event loop of their own."""
    import asyncpg

    failed: list[BaseException] = []

    async def execute() -> None:
        connection = await asyncpg.connect(dsn, timeout=10)
        try:
            await connection.execute(sql)
        finally:
            await connection.close()

    def attempt() -> None:
        try:
            asyncio.run(execute())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


def install() -> Path:
    """The folder of PostgreSQL's binaries, the newest where there are several; Debian's are installed."""
    if not (found := _binaries()):
        apt_install("postgres", "postgresql")
        found = _binaries()
    if not found:
        raise Unavailable("no /usr/lib/postgresql/*/bin/postgres after the install")
    return found[-1]


def _binaries() -> list[Path]:
    versions = Path("/usr/lib/postgresql").glob("*/bin/postgres")
    return sorted((path.parent for path in versions), key=lambda path: float(path.parts[-2]))
