"""The contract of what keeps results over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from streamcore.quality.profile import Profile
from streamcore.quality.report import RunRecord


class QualityStore(Protocol):
    """Keeps looks at datasets, and of each dataset the profile that drift is measured from.

    Called by engines, from a thread: it may wait for a disk or a server. Raises Permanent with the remedy,
    and Transient for what may go by itself.
    """

    def append(self, record: RunRecord) -> None:
        """Keep *record*, durably on return. Two at once of one dataset are both kept.

        One whose ``run_id`` another one of its dataset has is there already, and not kept again.
        """
        ...

    def history(self, dataset: str, last: int) -> Sequence[RunRecord]:
        """The *last* records of *dataset*, oldest first; none of a dataset that is not known."""
        ...

    def keep_baseline(self, profile: Profile) -> None:
        """Make *profile* the baseline of its dataset, in place of the one before."""
        ...

    def baseline(self, dataset: str) -> Profile | None:
        """The baseline of *dataset*, if it has one."""
        ...
