"""What the fixtures of SQL databases hand out alike."""

from __future__ import annotations

import abc
import uuid
from collections.abc import Mapping
from typing import TypeVar
from urllib.parse import urlsplit, urlunsplit

from tests.services.server import Life, Server

ServerT = TypeVar("ServerT", bound="SqlServer")


class SqlServer(Server):
    """Addresses of a server: ``dsn`` is password over plain TCP, ``tls_dsn`` verifies it by ``ca_file``."""

    tls_query: str
    """Of ``tls_dsn``, up to the path of the authority's certificate."""

    def __init__(self, dsn: str, *, ca_file: str | None = None, life: Life | None = None) -> None:
        super().__init__(life)
        self.dsn = dsn
        self.ca_file = ca_file

    @classmethod
    def named_by(cls: type[ServerT], env: Mapping[str, str]) -> ServerT | None:
        """The server that *env* names, if it does."""
        return cls(env[cls.variable], ca_file=env.get("TEST_CA_FILE")) if env.get(cls.variable) else None

    @property
    def tls_dsn(self) -> str:
        """The same database over verified TLS, as ``localhost``."""
        parts = urlsplit(self.dsn)
        login = parts.netloc.rpartition("@")[0]
        netloc, query = f"{login}@localhost:{parts.port}", f"{self.tls_query}{self.ca_file}"
        return urlunsplit(parts._replace(netloc=netloc, query=query))

    def fresh_database(self) -> str:
        """Make an empty database and give its DSN (plain TCP)."""
        name = f"test_{uuid.uuid4().hex}"
        self.make_database(name)
        return urlunsplit(urlsplit(self.dsn)._replace(path=f"/{name}"))

    @abc.abstractmethod
    def make_database(self, name: str) -> None:
        """Make an empty database."""

    def environment(self) -> dict[str, str]:
        return {self.variable: self.dsn} | ({"TEST_CA_FILE": self.ca_file} if self.ca_file else {})
