"""MongoDB's clients for worker threads, which wait for each answer.

pymongo's client is synchronous. That of motor is asked on an event loop of its own. Both have the same
databases and collections with the same methods, so who reads names the method, and the client calls it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, Protocol

from streamcore.systems.mongo import Address, driver, no_driver
from streamcore.systems.mongo_documents import Document
from streamcore.systems.own_loop import OwnLoop


class Client(Protocol):
    """A client of some driver. What its calls raise is the driver's; both drivers raise pymongo's errors."""

    def database(self, name: str, options: Mapping[str, object]) -> Any:
        """The database *name*, with read preference or concern as *options*; nothing is asked."""
        ...

    def value(self, call: Callable[..., Any], *words: object, **options: object) -> Any:
        """What *call* answers, a method of a database, of a collection or of what they gave."""
        ...

    def rows(self, call: Callable[..., Any], *words: object, **options: object) -> list[Document]:
        """All documents of the cursor that *call* gives."""
        ...

    def close(self) -> None:
        """Close all connections. More than once does no harm."""
        ...


def client_of(where: Address, application: str) -> Client:
    """A client of the driver that *where* names. BadConfig names the extra of one that is not installed."""
    return MotorClient(where, application) if where.driver == "motor" else PymongoClient(where, application)


class PymongoClient:
    """See :class:`Client`."""

    def __init__(self, where: Address, application: str) -> None:
        self._client = driver().MongoClient(where.uri, appname=application, tz_aware=False)

    def database(self, name: str, options: Mapping[str, object]) -> Any:
        return self._client.get_database(name, **options)

    def value(self, call: Callable[..., Any], *words: object, **options: object) -> Any:
        return call(*words, **options)

    def rows(self, call: Callable[..., Any], *words: object, **options: object) -> list[Document]:
        with call(*words, **options) as found:
            return [*found]

    def close(self) -> None:
        self._client.close()


class MotorClient:
    """See :class:`Client`. motor hands each call to a thread, in which pymongo's client waits."""

    def __init__(self, where: Address, application: str) -> None:
        make, self._loop = motor_client(), OwnLoop("motor")
        try:
            self._client = self.value(make, where.uri, appname=application, tz_aware=False)
        except BaseException:
            self._loop.close()
            raise

    def database(self, name: str, options: Mapping[str, object]) -> Any:
        return self._client.get_database(name, **options)

    def value(self, call: Callable[..., Any], *words: object, **options: object) -> Any:
        return self._loop.run(_answer(call, words, options))

    def rows(self, call: Callable[..., Any], *words: object, **options: object) -> list[Document]:
        cursor = self.value(call, *words, **options)
        found: list[Document] = self.value(cursor.to_list, None)
        return found

    def close(self) -> None:
        if self._loop.used:
            self.value(self._client.close)
            self._loop.close()


def motor_client() -> Callable[..., Any]:
    """motor's client for asyncio. BadConfig names the extra where it is missing."""
    try:
        import motor.motor_asyncio
    except ImportError:
        raise no_driver("motor") from None
    module: ModuleType = motor.motor_asyncio
    made: Callable[..., Any] = module.AsyncIOMotorClient
    return made


async def _answer(call: Callable[..., Any], words: tuple[object, ...], options: Mapping[str, object]) -> Any:
    """Called on the loop, also where nothing is awaited: motor finds its loop by where it is used first."""
    value = call(*words, **options)
    return await value if inspect.isawaitable(value) else value
