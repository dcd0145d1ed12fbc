"""``BatchProcessingConfig``: how many workers an ingestion has, and in which process."""

from __future__ import annotations

from pydantic import Field

from streamcore.engines.config import EngineConfig


class BatchProcessingConfig(EngineConfig):
    """How bounded work is spread over the machine; all fields may be left out."""

    enable_parallel_processing: bool = True
    """Read parts of the source side by side. Off: in its own order, one piece after the other."""
    max_workers: int | None = Field(None, gt=0)
    """Parts that are read side by side."""
    chunk_size: int | None = Field(None, gt=0)
    """Rows to read at a time, about: by the size of the first rows."""
    use_processes: bool = False
    """Work in a process of its own: it neither slows the caller down nor takes its memory, and a limit of
    memory is that process's."""

    @property
    def workers(self) -> int | None:
        """How many parts; None: as many as there are cores."""
        return self.max_workers if self.enable_parallel_processing else 1
