"""One MariaDB server with TLS; a real MySQL server can't be had without a container."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.services.install import account, apt_install, run
from tests.services.native import Process, data_folder, free_ports, port_open
from tests.services.sql_server import SqlServer
from tests.services.tls import certificates

USER, PASSWORD = "app", "apppass"
_READY_SECONDS = 60
_MARIADBD = "/usr/sbin/mariadbd"


class MariadbServer(SqlServer):
    """See :class:`SqlServer`."""

    variable = "TEST_MYSQL"

    tls_query = "ssl-mode=VERIFY_IDENTITY&ssl-ca="

    def make_database(self, name: str) -> None:
        execute(self.dsn, f"create database {name}")


def from_environment(env: Mapping[str, str] = os.environ) -> MariadbServer | None:
    """The server that ``TEST_MYSQL`` names, if it does."""
    return MariadbServer.named_by(env)


def install() -> None:
    """Debian's package; raises :class:`tests.services.server.Unavailable`."""
    apt_install(_MARIADBD, "mariadb-server")


def start(*more: str) -> MariadbServer:
    """A server of the caller's own, with *more* options; see :mod:`tests.services.server` for errors."""
    install()
    tls, folder = certificates(), data_folder("mariadb")
    home = folder / "home"
    home.mkdir()
    for source in (tls.ca, tls.server, tls.key):
        shutil.copy(source, home)
    init = home / "init.sql"
    # The user may come from anywhere: --skip-name-resolve keeps Debian's anonymous localhost away from it.
    init.write_text(
        f"create user if not exists {USER}@'%' identified by '{PASSWORD}';\n"
        f"grant all on *.* to {USER}@'%' with grant option;\n"
        "create database if not exists app;\n"
    )
    _give_away(home)
    data = home / "data"
    words = (
        "--no-defaults",
        f"--datadir={data}",
        "--auth-root-authentication-method=normal",
        "--skip-test-db",
    )
    run("mariadb-install-db", *words, user="mysql", cwd=home)
    [port] = free_ports(1)
    dsn = f"mysql://{USER}:{PASSWORD}@127.0.0.1:{port}/app"
    settings = {
        "datadir": data,
        "bind-address": "127.0.0.1",
        "port": port,
        "socket": home / "server.sock",
        "pid-file": home / "server.pid",
        "ssl-ca": home / tls.ca.name,
        "ssl-cert": home / tls.server.name,
        "ssl-key": home / tls.key.name,
        "log-bin": "bin",
        "binlog-format": "ROW",
        "server-id": 1,
        # 2: what was committed outlives the server's process; 1 would outlive the machine too, but syncs.
        "innodb-flush-log-at-trx-commit": 2,
        "innodb-flush-method": "nosync",
        "innodb-buffer-pool-size": "64M",
        "innodb-log-file-size": "16M",
        "character-set-server": "utf8mb4",
        "max-connections": 200,
        "init-file": init,
    }
    life = Process(
        [
            _MARIADBD,
            "--no-defaults",
            "--skip-name-resolve",
            *(f"--{k}={v}" for k, v in settings.items()),
            *more,
        ],
        folder=folder,
        ready=partial(answers, dsn),
        ready_seconds=_READY_SECONDS,
        user="mysql",
    )
    return MariadbServer(dsn, ca_file=str(tls.ca), life=life)


def _give_away(folder: Path) -> None:
    """The server refuses to run as root: then its files belong to the user mysql."""
    if who := account("mysql"):
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, who, who)


def answers(dsn: str) -> bool:
    """Whether the server at *dsn* runs statements."""
    parts = urlsplit(dsn)
    if not port_open(str(parts.hostname), parts.port or 3306):
        return False
    try:
        execute(dsn, "select 1")
    except Exception:
        return False
    return True


async def connection(dsn: str) -> Any:
    """A connection of plain asyncmy, which commits each statement."""
    import asyncmy

    parts = urlsplit(dsn)
    return await asyncmy.connect(
        host=parts.hostname,
        port=parts.port or 3306,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        database=parts.path.lstrip("/"),
        autocommit=True,
        connect_timeout=10,
    )


async def fetch(dsn: str, *statements: str) -> list[tuple[object, ...]]:
    """Run *statements* and give the rows of the last one."""
    opened = await connection(dsn)
    try:
        async with opened.cursor() as cursor:
            for statement in statements:
                await cursor.execute(statement)
            return list(await cursor.fetchall() or [])
    finally:
        opened.close()


def execute(dsn: str, *statements: str) -> list[tuple[object, ...]]:
    """The same in a thread, because callers may have an event loop of their own."""
    found: list[Sequence[tuple[object, ...]] | BaseException] = []

    def attempt() -> None:
        try:
            found.append(asyncio.run(fetch(dsn, *statements)))
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    if isinstance(found[0], BaseException):
        raise found[0]
    return list(found[0])
