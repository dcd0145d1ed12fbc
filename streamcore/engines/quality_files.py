"""Pages and profiles as files."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import ValidationError

from streamcore.errors import Permanent
from streamcore.quality.page import page
from streamcore.quality.profile import Profile
from streamcore.quality.report import QualityReport


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
