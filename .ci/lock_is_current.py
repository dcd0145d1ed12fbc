"""Fails when requirements.lock does not answer pyproject.toml any more, or names a stranger's streamcore.

The project is resolved again with the lock's versions preferred. What comes out is what the lock should hold;
a difference means that pyproject.toml was changed without ``make relock``. Newer releases make no difference.
A package called streamcore exists in the public registry and is not ours: a dependency on our own name
(``streamcore[all]`` in a group) would install it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

LOCK = Path("requirements.lock")
_PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)\s*(?:;\s*([^\\]+?))?\s*\\?$")


def pins(text: str) -> set[str]:
    """The lines ``name==version ; marker`` of a lock file, without hashes and comments."""
    found = (_PINNED.match(line) for line in text.splitlines())
    return {f"{m[1]}=={m[2]}" + (f" ; {m[3]}" if m[3] else "") for m in found if m}


def main(compile_command: list[str]) -> int:
    """Resolve with *compile_command* (``uv pip compile …`` without an output) and compare; the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder) / LOCK.name
        shutil.copy(LOCK, fresh)  # uv prefers the versions that the output file holds already
        subprocess.run([*compile_command, "-o", str(fresh)], check=True, stdout=subprocess.DEVNULL)
        wanted, locked = pins(fresh.read_text()), pins(LOCK.read_text())
    for line in sorted(wanted - locked):
        print(f"requirements.lock lacks {line}")
    for line in sorted(locked - wanted):
        print(f"requirements.lock holds {line}, which nothing wants")
    if wanted != locked:
        print("pyproject.toml was changed without the lock: make relock")
    stranger = any(pin.startswith("streamcore==") for pin in locked)
    if stranger:
        print("requirements.lock holds streamcore of the registry, which is not this project")
    return int(stranger or wanted != locked)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
