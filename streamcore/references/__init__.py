"""Where rows are looked up that may change: the catalogue of references, ``sc.references.…``."""

from streamcore.references.files import File
from streamcore.references.postgres import Postgres
from streamcore.references.redis import Redis

__all__ = ["File", "Postgres", "Redis"]
