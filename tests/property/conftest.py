"""All laws of state hold for runs that have many frames, some of which are on disk: here each is so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from streamcore.runtime.state_disk import Disk
from streamcore.state import merging, places


@pytest.fixture(scope="package", autouse=True)
def _runs_of_many_frames(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder: Path = tmp_path_factory.mktemp("state")

    def put(self: places.Memory, frame: pl.DataFrame, size: int) -> pl.DataFrame:
        return Disk(folder, 0).put(frame, size) if frame.height % 3 == 1 else frame

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(places.Memory, "put", put)
        patched.setattr(merging, "FRAME_BYTES", 1)
        patched.setattr(merging, "_MERGED_ROWS", 8)
        patched.setattr(merging, "_SAMPLE", 2)
        patched.setattr(merging, "_AT_ONCE", 12)
        yield
