"""What the fixtures hand out: a server's addresses, and its life where it is ours."""

from __future__ import annotations

import abc
from typing import Protocol


class Unavailable(Exception):
    """This server can't be had on this machine; the text says why and what would help."""


class Life(Protocol):
    """A server that we run, natively or in a container; ``start`` keeps ports and data and waits."""

    @property
    def pid(self) -> int: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...
    def remove(self) -> None: ...


class Server(abc.ABC):
    """Base of the servers; *life* is None for a server that the environment named and that is not ours."""

    variable: str
    """The environment variable that can hold this server's address."""

    def __init__(self, life: Life | None = None) -> None:
        self._given_life = life

    @property
    def pid(self) -> int:
        """Process id of the server (of the first process in its container)."""
        return self._life.pid

    def start(self) -> None:
        """Start the stopped or killed server again, on the same ports and data, and wait until it answers."""
        self._life.start()

    def stop(self) -> None:
        """End the server in good order."""
        self._life.stop()

    def kill(self) -> None:
        """SIGKILL the server and its children."""
        self._life.kill()

    def close(self) -> None:
        """End the server and delete its data; nothing happens to a server that is not ours."""
        if self._given_life is not None:
            self._given_life.remove()

    @abc.abstractmethod
    def environment(self) -> dict[str, str]:
        """The ``TEST_…`` variables by which another process finds this server."""

    @property
    def _life(self) -> Life:
        if self._given_life is None:
            raise Unavailable(f"the server of {self.variable} is not ours to start, stop or signal")
        return self._given_life
