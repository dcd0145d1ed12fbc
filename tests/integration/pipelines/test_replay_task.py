"""A task that replays: of a source with a mark each run of the pipeline reads what is new."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from streamcore.errors import BadConfig
from streamcore.pipelines.kinds.contract import TaskContext
from streamcore.pipelines.kinds.replay import REPLAY

MODULE = """
import streamcore as sc
topology = sc.Topology("people")
users = topology.stream("users", {"id": "int64", "version": "int64"})
users.to(sc.sinks.SQLite("users", "out.db", key="id", version="version", create=True))
"""


async def test_each_run_reads_what_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "people.py").write_text(MODULE)
    with closing(sqlite3.connect("shop.db")) as shop:
        shop.execute("create table users (id integer primary key, version integer)")
        shop.executemany("insert into users values (?, ?)", [(i, i) for i in range(100)])
        shop.commit()
    given = {"topology": "people.py", "sources": {"users": "sqlite:///shop.db?mark=version&settle=0s"}}
    options = REPLAY.options.model_validate(given)
    assert (await REPLAY.run(options, TaskContext("p", "monday", "users", 1))).rows == 100
    with closing(sqlite3.connect("shop.db")) as shop:
        shop.execute("update users set version = 1000 where id = 7")
        shop.commit()
    assert (await REPLAY.run(options, TaskContext("p", "tuesday", "users", 1))).rows == 1
    assert (await REPLAY.run(options, TaskContext("p", "tuesday", "users", 2))).rows == 0, "another attempt"
    with closing(sqlite3.connect("out.db")) as out:
        assert out.execute("select count(*), max(version) from users").fetchall() == [(100, 1000)]
    limited = REPLAY.options.model_validate({**given, "limit": 5})
    with pytest.raises(BadConfig, match="limit does not go with mark="):
        await REPLAY.run(limited, TaskContext("p", "wednesday", "users", 1))
