"""Gets servers onto this machine, once, into a folder that outlives the clone."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.services.server import Unavailable

LOG_TAIL = 2_000
"""Characters of a failed program's output that an error shows."""


def cache_folder() -> Path:
    """Where installed servers are kept between runs and clones: outside of the work tree."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = Path(base) / "streamcore" / "services"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def install_lock(name: str) -> Iterator[None]:
    """Hold this user's lock *name*, so that two pytest processes do not install the same thing."""
    with open(cache_folder() / f"{name}.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def apt_install(program: str, package: str) -> None:
    """Install Debian's *package* unless *program* is there, without starting Debian's own copy of a server.

    Raises :class:`Unavailable` where apt-get is missing, may not install, or fails.
    """
    if shutil.which(program):
        return
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise Unavailable(f"{program} is missing; run: sudo apt-get install {package}")
    with install_lock("apt"), _services_stay_down():
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        run("apt-get", "update", "-qq", env=env, seconds=300)
        run("apt-get", "install", "-y", "-q", "--no-install-recommends", package, env=env, seconds=600)


@contextlib.contextmanager
def _services_stay_down() -> Iterator[None]:
    """Debian asks this file whether a package may start its service."""
    policy = Path("/usr/sbin/policy-rc.d")
    if policy.exists():
        yield
        return
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink()


def account(user: str | None) -> str | None:
    """The user to become: only root can, and anybody else stays who they are."""
    return user if os.geteuid() == 0 else None


def run(
    *command: str | Path,
    cwd: Path | None = None,
    user: str | None = None,
    env: dict[str, str] | None = None,
    seconds: float = 120,
) -> str:
    """Run *command* to its end and give what it printed; raises :class:`Unavailable` with its last lines."""
    words = [str(word) for word in command]
    name = " ".join(words[:3])
    who = account(user)
    try:
        done = subprocess.run(
            words,
            cwd=cwd,
            env=env,
            timeout=seconds,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
            user=who,
            group=who,
            extra_groups=None if who is None else [],
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{name}: {error}") from error
    if done.returncode:
        raise Unavailable(f"{name} ended with {done.returncode}: {done.stdout[-LOG_TAIL:].strip()}")
    return done.stdout
