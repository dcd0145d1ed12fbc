"""``eval "$(python -m tests.services up)"`` starts the servers for people; ``… down`` ends them.

``up`` leaves a holder process behind that owns the servers, so that they end with it and never outlive it.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil

from tests.services import kafka, mariadb, mongo, postgres, redis, s3
from tests.services.install import cache_folder
from tests.services.server import Unavailable

SERVERS = (kafka, mariadb, mongo, postgres, redis, s3)
_UP_SECONDS = 900
_DOWN_SECONDS = 60


def main(words: list[str]) -> int:
    """Run one command; gives the exit code."""
    commands = {"up": up, "down": down, "hold": hold}
    if len(words) != 1 or words[0] not in commands:
        print("usage: python -m tests.services up|down", file=sys.stderr)
        return 2
    return commands[words[0]]()


def up() -> int:
    """Start the servers unless they run, and print the lines that make the tests use them."""
    if _holder() is None:
        _state_file().unlink(missing_ok=True)
        with open(_state_file().with_suffix(".log"), "w") as log:
            holder = subprocess.Popen(
                [sys.executable, "-m", "tests.services", "hold"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + _UP_SECONDS
        while not _state_file().exists():
            if holder.poll() is not None or time.monotonic() > deadline:
                print(Path(log.name).read_text(), file=sys.stderr)
                return 1
            time.sleep(0.2)
    for name, value in json.loads(_state_file().read_text())["environment"].items():
        print(f"export {name}='{value}'")
    return 0


def down() -> int:
    """End the holder and with it the servers."""
    if (holder := _holder()) is not None:
        holder.terminate()
        holder.wait(_DOWN_SECONDS)
    return 0


def hold() -> int:
    """Start the servers and keep them until SIGTERM."""
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    environment: dict[str, str] = {}
    with contextlib.ExitStack() as running:
        try:
            for module in SERVERS:
                server = module.start()
                running.callback(server.close)
                environment |= server.environment()
        except Unavailable as error:
            print(error, file=sys.stderr)
            return 1
        state = {"pid": psutil.Process().pid, "environment": environment}
        part = _state_file().with_suffix(".part")
        part.write_text(json.dumps(state))
        part.rename(_state_file())
        running.callback(_state_file().unlink, missing_ok=True)
        while not ended.wait(1):
            pass
    return 0


def _state_file() -> Path:
    return cache_folder() / "up.json"


def _holder() -> psutil.Process | None:
    """The holder that runs; a pid alone could be somebody else's by now."""
    with contextlib.suppress(OSError, ValueError, psutil.Error):
        process = psutil.Process(json.loads(_state_file().read_text())["pid"])
        if "tests.services" in process.cmdline():
            return process
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
