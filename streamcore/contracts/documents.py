"""Records that are JSON documents and lie there in a form of which columns can be made at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import polars as pl


@runtime_checkable
class DocumentColumns(Protocol):
    """A chunk of such records. What a record means is the JSON that ``Chunk.values`` gives of it."""

    def column(self, name: str, dtype: pl.DataType) -> tuple[pl.Series, npt.NDArray[np.bool_]] | None:
        """The records' members *name* as a column of *dtype*, and where it is in doubt, shape (len(chunk),).

        A value that is not in doubt is what the record's JSON says, without any conversion; a member that is
        null or missing is null. Names of members of members hold no meaning. None: not known of this type.
        """
        ...

    def texts(self, places: Sequence[int]) -> list[bytes]:
        """The JSON of the records at *places*."""
        ...
