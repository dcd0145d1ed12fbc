"""One PostgreSQL server with TLS and logical decoding, by Debian's packages."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import threading
import uuid
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from tests.services.native import Folder, Process, Unavailable, apt_install, free_ports, port_open, run
from tests.services.tls import certificates

USER, PASSWORD = "postgres", "pgpass"
_READY_SECONDS = 60
_STARTS = 3

# fsync off and synchronous_commit on: with the latter off a logical slot misses rows just committed.
_SETTINGS = """
listen_addresses='127.0.0.1'
port={port}
unix_socket_directories=''
ssl=on
ssl_cert_file='server.pem'
ssl_key_file='server.key'
wal_level=logical
fsync=off
full_page_writes=off
shared_buffers=64MB
max_connections=200
"""


class PostgresServer:
    """Addresses of a server, and its life where it is ours.

    ``dsn`` is password over plain TCP, ``tls_dsn`` verifies the server by ``ca_file``. ``kill``, ``stop`` and
    ``start`` keep port and data.
    """

    def __init__(self, dsn: str, *, ca_file: str | None = None) -> None:
        self.dsn = dsn
        self.ca_file = ca_file

    @property
    def tls_dsn(self) -> str:
        """The same database over verified TLS, as ``localhost``."""
        parts = urlsplit(self.dsn)
        login = parts.netloc.rpartition("@")[0]
        query = f"sslmode=verify-full&sslrootcert={self.ca_file}"
        return urlunsplit(parts._replace(netloc=f"{login}@localhost:{parts.port}", query=query))

    def fresh_database(self) -> str:
        """Make an empty database and give its DSN."""
        name = f"test_{uuid.uuid4().hex}"
        _execute(self.dsn, f"create database {name} template template0")
        return urlunsplit(urlsplit(self.dsn)._replace(path=f"/{name}"))

    @property
    def pid(self) -> int:
        """The postmaster's process id; raises :class:`Unavailable` for a server that is not ours."""
        raise Unavailable("the server of TEST_POSTGRES is not ours to signal")

    def start(self) -> None:
        """Start the stopped or killed server again and wait until it answers."""
        raise Unavailable("the server of TEST_POSTGRES is not ours to start")

    def stop(self) -> None:
        """End the server in good order; sessions are cut."""
        raise Unavailable("the server of TEST_POSTGRES is not ours to stop")

    def kill(self) -> None:
        """SIGKILL the server with all its sessions."""
        raise Unavailable("the server of TEST_POSTGRES is not ours to kill")

    def close(self) -> None:
        """End the server and delete its data; nothing happens to a server that is not ours."""

    def environment(self) -> dict[str, str]:
        """The ``TEST_…`` variables with which another process finds this server."""
        return {"TEST_POSTGRES": self.dsn} | ({"TEST_CA_FILE": self.ca_file} if self.ca_file else {})


class NativePostgres(PostgresServer):
    """A server that we installed and run; started by the constructor."""

    def __init__(self) -> None:
        self._binaries = install()
        # The server refuses to run as root.
        self._user = "postgres" if os.geteuid() == 0 else None
        self._folder = Folder("postgres")
        self._data = self._folder.path / "server" / "data"
        try:
            self._process = self._first_start()
        except BaseException:
            self._folder.remove()
            raise

    def _first_start(self) -> Process:
        tls = certificates()
        self._initialise(tls.server, tls.key)
        settings = self._data / "postgresql.conf"
        base = settings.read_text()
        for attempt in range(1, _STARTS + 1):
            self._port = free_ports(1)[0]
            login = f"{USER}:{PASSWORD}@127.0.0.1:{self._port}"
            super().__init__(f"postgresql://{login}/postgres?sslmode=disable", ca_file=str(tls.ca))
            settings.write_text(base + _SETTINGS.format(port=self._port))
            try:
                return self._spawn()
            except Unavailable as error:
                if "Address already in use" not in str(error) or attempt == _STARTS:
                    raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _initialise(self, certificate: Path, key: Path) -> None:
        home = self._data.parent
        home.mkdir()
        # A file: initdb can't read the caller's pipe once it has become another user.
        (home / "password").write_text(PASSWORD)
        self._own(home, home / "password")
        login = ("-U", USER, "-A", "scram-sha-256", f"--pwfile={home / 'password'}")
        words = ("-D", self._data, *login, "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
        run(self._binaries / "initdb", *words, user=self._user, cwd=home)
        for source, name in ((certificate, "server.pem"), (key, "server.key")):
            shutil.copy(source, self._data / name)
            (self._data / name).chmod(0o600)
            self._own(self._data / name)

    def _own(self, *paths: Path) -> None:
        if self._user:
            for path in paths:
                shutil.chown(path, self._user, self._user)

    def _spawn(self) -> Process:
        # A killed server leaves its pid file; the pid may belong to another process by now.
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        log = self._folder.path / "server.log"
        command = [str(self._binaries / "postgres"), "-D", str(self._data)]
        process = Process("postgres", command, log=log, user=self._user, cwd=self._data)
        try:
            process.wait_ready(self._answers, _READY_SECONDS)
        except BaseException:
            process.kill()
            raise
        return process

    def _answers(self) -> bool:
        if not port_open("127.0.0.1", self._port):
            return False
        try:
            _execute(self.dsn, "select 1")
        except Exception:
            return False
        return True

    @property
    def pid(self) -> int:
        return self._process.pid

    def start(self) -> None:
        if not self._process.alive():
            self._process = self._spawn()

    def stop(self) -> None:
        self._process.stop(signal.SIGINT)

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        self._process.kill()
        self._folder.remove()


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


def from_environment(env: Mapping[str, str] = os.environ) -> PostgresServer | None:
    """The server that ``TEST_POSTGRES`` names, if it does."""
    if not env.get("TEST_POSTGRES"):
        return None
    return PostgresServer(env["TEST_POSTGRES"], ca_file=env.get("TEST_CA_FILE"))


def install() -> Path:
    """Debian's PostgreSQL; the folder of its binaries, the newest where there are several."""
    if not (found := _binaries()):
        apt_install("postgresql")
        found = _binaries()
    if not found:
        raise Unavailable("no /usr/lib/postgresql/*/bin/postgres after the install")
    return found[-1]


def _binaries() -> list[Path]:
    versions = Path("/usr/lib/postgresql").glob("*/bin/postgres")
    return sorted((path.parent for path in versions), key=lambda path: float(path.parts[-2]))


def start() -> PostgresServer:
    """A server of the caller's own."""
    return NativePostgres()
