"""The state of workers over HTTP, while they work: one worker has all partitions, then two share them."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import streamcore as sc
from tests.integration.runtime.memory_sink import MemorySink, Target
from tests.integration.runtime.test_worker import Scene, User, Working
from tests.services.kafka import KafkaServer

TOKEN = "a-token-that-is-long-enough"


class Counting(Scene):
    def topology(self) -> sc.Topology:  # type: ignore[override]
        topology = sc.Topology(self.name)
        users = topology.stream("users", User, key="id", topic=self.topic)
        users.to(MemorySink("out", self.target))
        counted = users.by("age").aggregate(n="count(*)", name="ages")
        counted.changelog().to(MemorySink("ages-out", Target()))
        return topology


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def asked(port: int, path: str, token: str | None = TOKEN) -> tuple[int, Any]:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        body = error.read()
        return error.code, json.loads(body) if body.startswith(b"{") else body
    except urllib.error.URLError:
        return 0, {}  # it does not listen yet


async def ask(port: int, path: str, token: str | None = TOKEN) -> tuple[int, Any]:
    return await asyncio.to_thread(asked, port, path, token)


async def eventually(holds: Callable[[], Awaitable[bool]], what: str) -> None:
    for _ in range(300):
        if await holds():
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"not within 30 s: {what}")


@pytest.fixture
async def scene(
    kafka: KafkaServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Counting]:
    monkeypatch.setenv("STATE_TOKEN", TOKEN)
    scene = Counting(kafka, tmp_path)
    await scene.log.create(scene.topic, 4, {})
    yield scene
    await scene.log.close()


def worker(scene: Counting, port: int) -> Working:
    state = {"dir": scene.tmp_path / str(port), "http": True, "http_token": "${env:STATE_TOKEN}"}
    state["standbys"] = 1
    return Working(scene, scene.topology(), state=state, http={"port": port})


def _command(url: str) -> str:
    """What ``streamcore state worker`` shows of the worker at *url*."""
    command = [sys.executable, "-m", "streamcore.cli", "state", "worker", url]
    environment = {**os.environ, "STREAMCORE_STATE__HTTP_TOKEN": "${env:STATE_TOKEN}"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_state_is_read_from_the_workers_that_have_it(scene: Counting) -> None:
    one, two = free_port(), free_port()
    await scene.send(970)  # ten of each age

    async def total(port: int) -> int:
        status, found = await ask(port, "/state/ages/scan?limit=1")
        return found["total"] if status == 200 else -1

    async with worker(scene, one):
        await eventually(lambda: _is(total(one), 97), "all ages are in the state")
        assert (await ask(one, "/state", token=None))[0] == 401
        assert (await ask(one, "/state", token="another-token-of-16"))[0] == 401
        _, listed = await ask(one, "/state")
        (ages,) = listed["states"]
        assert (listed["topology"], listed["worker"]) == (scene.name, f"http://127.0.0.1:{one}")
        assert (ages["node"], ages["partitions"], ages["elsewhere"]) == ("ages", 4, [])
        assert [part["partition"] for part in ages["here"]] == [0, 1, 2, 3]
        assert all(part["recovered"] and part["pieces"] and part["bytes"] for part in ages["here"])
        where = urllib.parse.quote("age between 3 and 4 and n = 10")
        _, scanned = await ask(one, f"/state/ages/scan?where={where}&limit=1")
        assert (len(scanned["rows"]), scanned["total"], scanned["partitions"]) == (1, 2, [0, 1, 2, 3])
        assert (await ask(one, "/state/ages/get?key=5"))[1]["rows"] == [{"age": 5, "n": 10}]
        assert (await ask(one, "/state/ages/get?key=97"))[1]["rows"] == []
        for path, status, says in [
            ("/state/agess", 404, "allowed: ages"),
            ("/state/ages/get", 400, "a value for each"),
            ("/state/ages/scan?where=agee", 400, "unknown column"),
            ("/state/ages/scan?limit=0", 400, "limit"),
        ]:
            got, answer = await ask(one, path)
            assert (got, says in answer["error"]) == (status, True), answer

        async with worker(scene, two):
            await eventually(lambda: _shared(one, two), "the partitions are shared")
            await scene.send(97)
            await eventually(lambda: _is(_count(one, two), 97 * 11), "new rows are counted")
            for port, other in ((one, two), (two, one)):
                _, described = await ask(port, "/state/ages")
                elsewhere = [part["partition"] for part in described["elsewhere"]]
                here = [part["partition"] for part in described["here"]]
                assert sorted(here + elsewhere) == [0, 1, 2, 3]
                await eventually(
                    lambda port=port, there=elsewhere: _stands_by(port, there), "standbys catch up"
                )
                assert {part["worker"] for part in described["elsewhere"]} == {f"http://127.0.0.1:{other}"}
                shown = await asyncio.to_thread(_command, f"http://127.0.0.1:{port}")
                assert [f"  {p:>4}  here, 0.0 MB" in shown for p in here] == [True] * len(here), shown
                theirs = f"at http://127.0.0.1:{other}; standby here, "
                assert [f"  {p:>4}  {theirs}" in shown for p in elsewhere] == [True] * len(elsewhere), shown
    assert scene.target.frame().height == 97 * 11  # reading has not disturbed the work


async def _is(found: Awaitable[int], expected: int) -> bool:
    return await found == expected


async def _shared(one: int, two: int) -> bool:
    found = [await ask(port, "/state/ages") for port in (one, two)]
    return all(status == 200 and 0 < len(answer["here"]) < 4 for status, answer in found)


async def _stands_by(port: int, partitions: list[int]) -> bool:
    _, described = await ask(port, "/state/ages")
    found = {part["partition"]: part for part in described["standby"]}
    caught_up = all(part["records_behind"] == 0 and part["pieces"] for part in found.values())
    return sorted(found) == partitions and caught_up


async def _count(*ports: int) -> int:
    found = [await ask(port, "/state/ages/scan?limit=97") for port in ports]
    return sum(row["n"] for _, answer in found for row in answer.get("rows", []))
