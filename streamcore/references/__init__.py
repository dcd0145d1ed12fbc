"""Where rows are looked up that may change: the catalogue of references, ``sc.references.…``."""

from streamcore.references.files import File
from streamcore.references.postgres import Postgres
from streamcore.references.redis import Redis
from streamcore.references.schema_registry import SchemaRegistry

__all__ = ["File", "Postgres", "Redis", "SchemaRegistry"]
