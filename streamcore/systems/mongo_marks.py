"""A collection of MongoDB in the order of a mark: what the server tells of it, and of who is writing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from typing import Any

from streamcore.errors import BadConfig, Permanent
from streamcore.systems.mongo import Address, driver
from streamcore.systems.mongo_documents import Document, id_text, query_of
from streamcore.systems.mongo_reading import Asked, ReadClient

APPLICATION = "streamcore poll"
_UNAUTHORIZED = 13
_PARTLY = ("sparse", "partialFilterExpression", "collation", "hidden")
"""Options of an index that does not hold all documents, or in another order."""
_WRITES = ("insert", "update", "remove")
_WRITING_COMMANDS = ("findAndModify", "findandmodify", "bulkWrite")
_WRITING_STAGES = ("$merge", "$out")


class MarkClient(ReadClient):
    """Connections to a primary, which reads what a majority has. For one thread."""

    def __init__(self, where: Address) -> None:
        super().__init__(where, APPLICATION)

    def how(self) -> Mapping[str, object]:
        """See :class:`ReadClient`."""
        pymongo = driver()
        concern = pymongo.read_concern.ReadConcern("majority")
        return {"read_preference": pymongo.ReadPreference.PRIMARY, "read_concern": concern}

    def check_mark(self, asked: Asked) -> None:
        """BadConfig where no index has the documents in the order of the mark, or one has no mark."""
        shown, mark = f"{self._where.shown}?collection={asked.collection}", asked.key[0]
        keys = dict.fromkeys(asked.key, 1)
        with self._translated():
            found = self._client.rows(self._database[asked.collection].list_indexes)
        held = [one for one in found if _items(one["key"]) == list(keys.items())]
        if not any(_is_whole(one) for one in held):
            raise BadConfig(
                "there is no index of the mark and _id, in whose order documents could be read",
                where=shown,
                got=mark,
                fix=f"db.getCollection({asked.collection!r}).createIndex({{{mark!r}: 1, _id: 1}})",
            )
        with self._translated():
            first = self.query(asked, {"limit": 1})
            plan = self._client.value(self._database.command, "explain", first, verbosity="queryPlanner")
            query = {"$and": [query_of(asked.query, self._where.shown), {mark: None}]}
            without = self._client.value(self._database[asked.collection].find_one, query, {"_id": 1})
        if _is_multikey(plan):
            raise BadConfig("the mark is an array in some document", where=shown, got=mark)
        if without is not None:
            fix = 'leave such documents out: filter={"' + mark + '": {"$ne": null}}, or give each one'
            raise BadConfig("the mark is null or missing in some document", where=shown, got=mark, fix=fix)

    def top(self, asked: Asked) -> tuple[str, ...] | None:
        """The highest key that there is; None without a document."""
        backwards = dict.fromkeys(asked.key, -1)
        with self._translated():
            found = self._client.value(
                self._database[asked.collection].find_one,
                query_of(asked.query, self._where.shown),
                dict.fromkeys(asked.key, 1),
                sort=list(backwards.items()),
                hint=list(dict.fromkeys(asked.key, 1).items()),
            )
        return None if found is None else tuple(id_text(found[name]) for name in asked.key)

    def now(self) -> float:
        """The server's clock, in seconds since 1970."""
        with self._translated():
            said = self._client.value(self._admin.command, "hello")
        return _seconds(said["localTime"])

    def open_since(self) -> float | None:
        """When the oldest write or transaction that has not ended began; None where there is none.

        BadConfig where this user may not see those of others.
        """
        stages: list[Document] = [{"$currentOp": {"allUsers": True, "idleSessions": True}}]
        try:
            with self._translated():
                found = self._client.rows(self._admin.aggregate, stages)
        except Permanent as error:
            raise BadConfig(
                f"this user may not see who is writing: documents written late could be lost ({error.what})",
                where=self._where.shown,
                fix="grant the role clusterMonitor on admin to this user",
            ) from None
        return min((began for one in found for began in _began(one)), default=None)

    @property
    def _admin(self) -> Any:
        return self._client.database("admin", {})


def _items(key: object) -> list[tuple[str, object]]:
    return [*key.items()] if isinstance(key, Mapping) else []


def _is_whole(index: Mapping[str, object]) -> bool:
    return not any(index.get(option) for option in _PARTLY)


def _is_multikey(plan: object) -> bool:
    if isinstance(plan, Mapping):
        return plan.get("isMultiKey") is True or any(map(_is_multikey, plan.values()))
    return isinstance(plan, list) and any(map(_is_multikey, plan))


def _began(operation: Mapping[str, object]) -> Iterator[float]:
    """When the transaction, and the write, that *operation* is part of began."""
    transaction = operation.get("transaction")
    if isinstance(transaction, Mapping) and (began := transaction.get("startWallClockTime")):
        yield _seconds(began)
    running = operation.get("microsecs_running")
    if isinstance(running, int) and _writes(operation):
        yield _seconds(operation["currentOpTime"]) - running / 1e6


def _writes(operation: Mapping[str, object]) -> bool:
    if operation.get("op") in _WRITES:
        return True
    command = operation.get("command")
    if not isinstance(command, Mapping):
        return False
    stages = command.get("pipeline")
    last = stages[-1] if isinstance(stages, list) and stages else None
    merges = isinstance(last, Mapping) and any(stage in last for stage in _WRITING_STAGES)
    return merges or any(name in command for name in _WRITING_COMMANDS)


def _seconds(moment: object) -> float:
    """A time of the server's, which is a text in what it tells of operations."""
    at = moment if isinstance(moment, datetime) else datetime.fromisoformat(str(moment))
    return (at if at.tzinfo else at.replace(tzinfo=timezone.utc)).timestamp()
