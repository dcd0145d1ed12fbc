"""Servers in containers, where a Docker engine answers on this Linux machine.

A container shares the host's network, so that its addresses, certificates and settings are the native
server's, and its first process has a pid that tests can signal.
"""

from __future__ import annotations

import functools
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

from testcontainers.core.container import DockerContainer

from tests.services.install import LOG_TAIL
from tests.services.server import Unavailable

_ENGINE_SECONDS = 3


@functools.cache
def engine_answers() -> bool:
    """Whether a local engine replies within 3 seconds; the client alone proves nothing. Asked once."""
    host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if sys.platform != "linux" or not host.startswith("unix://"):
        return False
    import docker

    try:
        with socket.socket(socket.AF_UNIX) as asked:  # one that docker's client can't connect it leaves open
            asked.settimeout(_ENGINE_SECONDS)
            asked.connect(host.removeprefix("unix://"))
        with closing(docker.DockerClient(base_url=host, timeout=_ENGINE_SECONDS, version="1.41")) as client:
            return bool(client.ping())
    except Exception:
        return False


class Container:
    """The life of a server in a container that runs *script*; *files* is mounted at its own path."""

    def __init__(
        self,
        image: str,
        script: str,
        *,
        files: Path,
        environment: Mapping[str, str],
        ready: Callable[[], bool],
        ready_seconds: float,
    ) -> None:
        self._ready = ready
        self._ready_seconds = ready_seconds
        self._image = image
        self._container = (
            DockerContainer(image)
            .with_envs(**environment)
            .with_volume_mapping(files, str(files))
            .with_kwargs(network_mode="host", entrypoint=["sh", "-c", script], user="root")
        )
        try:
            self._container.start()
        except Exception as error:
            raise Unavailable(f"the image {image} does not start: {error}") from error
        self._wait_ready()

    @property
    def pid(self) -> int:
        """The first process's id on this machine."""
        wrapped = self._container.get_wrapped_container()
        wrapped.reload()
        return int(wrapped.attrs["State"]["Pid"])

    def start(self) -> None:
        """Start the stopped or killed container again, with its data."""
        self._container.get_wrapped_container().start()
        self._wait_ready()

    def stop(self) -> None:
        """End the server in good order."""
        self._container.get_wrapped_container().stop(timeout=20)

    def kill(self) -> None:
        """SIGKILL all processes of the container."""
        self._container.get_wrapped_container().kill()

    def remove(self) -> None:
        """End the container and delete its data."""
        self._container.stop()

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + self._ready_seconds
        while not self._ready():
            wrapped = self._container.get_wrapped_container()
            wrapped.reload()
            if wrapped.status in ("exited", "dead") or time.monotonic() > deadline:
                tail = wrapped.logs()[-LOG_TAIL:].decode(errors="replace").strip()
                self.remove()
                raise Unavailable(f"{self._image} is {wrapped.status} and not ready: {tail}")
            time.sleep(0.1)
