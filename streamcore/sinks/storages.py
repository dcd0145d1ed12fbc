"""The storages of file sinks, by what their path begins with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from streamcore.errors import BadConfig, did_you_mean
from streamcore.sinks.bucket_storage import bucket_storage
from streamcore.sinks.folder_storage import FolderStorage
from streamcore.sinks.storage import Storage

STORAGES: Mapping[str, Callable[[str], Storage]] = {"s3": bucket_storage}
"""By the URI's scheme; what is none is a folder."""


def storage_of(path: str) -> Storage:
    """The storage that a file sink's path or URI names. BadConfig when there is none for it; no I/O."""
    scheme, colon, _ = path.partition("://")
    if not colon:
        return FolderStorage(Path(path), path)
    if scheme.lower() not in STORAGES:
        fix = did_you_mean(scheme, STORAGES) or "give a path"
        raise BadConfig("files can't be written there", got=f"{scheme}://", allowed=STORAGES, fix=fix)
    return STORAGES[scheme.lower()](path)
