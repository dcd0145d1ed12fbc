"""Results kept in files: a line of JSON a look, and a baseline, in one folder."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from streamcore.declaring import check_name
from streamcore.errors import Permanent
from streamcore.quality.page import page
from streamcore.quality.profile import Profile
from streamcore.quality.report import QualityReport, RunRecord

REMEMBERED = 100
"""Of so many records it is known whether one is there already."""


@dataclass(frozen=True)
class QualityFiles:
    """A :class:`~streamcore.quality.store.QualityStore` in *folder*, which is made when something is kept."""

    folder: Path

    def append(self, record: RunRecord) -> None:
        """See the contract. One write, so that lines of several processes don't mix."""
        path = self._path(record.dataset, ".jsonl")
        if record.run_id in {known.run_id for known in self.history(record.dataset, REMEMBERED)} - {None}:
            return
        line = record.model_dump_json().encode() + b"\n"
        self.folder.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o644)
        try:
            os.write(file, line)
            os.fsync(file)
        finally:
            os.close(file)

    def history(self, dataset: str, last: int) -> Sequence[RunRecord]:
        """See the contract. A line that was cut off by a crash is passed over."""
        path = self._path(dataset, ".jsonl")
        if not path.exists():
            return []
        with path.open("rb") as file:
            lines = deque((line for line in file if line.endswith(b"\n")), maxlen=last)
        return [RunRecord.model_validate_json(line) for line in lines]

    def keep_baseline(self, profile: Profile) -> None:
        """See the contract."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self._path(profile.dataset, ".baseline.json"), profile.model_dump_json())

    def baseline(self, dataset: str) -> Profile | None:
        """See the contract."""
        path = self._path(dataset, ".baseline.json")
        return read_profile(path) if path.exists() else None

    def _path(self, dataset: str, suffix: str) -> Path:
        check_name(dataset, "dataset")
        return self.folder / f"{dataset}{suffix}"


def write_whole(path: Path, text: str) -> None:
    """Write *text* so that *path* holds all of it or what was there before."""
    aside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)


def write_page(path: Path, found: QualityReport | Profile) -> None:
    """Write *found* as an HTML page; folders above *path* are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, page(found))


def is_profile(path: Path) -> bool:
    """Whether *path* is a file that was saved as a profile."""
    if path.suffix != ".json" or not path.is_file():
        return False
    with path.open("rb") as file:
        return b'"made_at"' in file.read(1_000)


def read_profile(path: Path) -> Profile:
    """The profile in a file that ``streamcore quality profile --save`` made. Permanent when it is none."""
    try:
        return Profile.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise Permanent(
            f"this can't be read as a profile: {type(error).__name__}",
            where=str(path),
            fix="make it by streamcore quality profile SOURCE --save FILE",
        ) from error
