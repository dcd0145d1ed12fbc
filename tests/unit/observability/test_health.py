"""Live means that the loop runs; ready means that every check passes."""

from __future__ import annotations

from streamcore.observability.health import Health


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_live_until_the_loop_is_silent_for_too_long() -> None:
    clock = Clock()
    health = Health(clock=clock, blocked_after=30)
    clock.now += 30
    assert health.live().reason is None
    clock.now += 1
    assert health.live().reason == "blocked for 31 s"
    health.beat()
    assert health.live().reason is None


def test_a_process_without_checks_is_not_ready() -> None:
    health = Health()
    assert [result.reason for result in health.ready()] == [None, "no check was added yet"]
    health.beat()
    assert health.ready()[1].reason == "no check was added yet"


def test_ready_tells_every_check_in_order_as_of_the_last_beat() -> None:
    health = Health()
    state: dict[str, str | None] = {"why": "recovering 2 partitions"}
    health.add("assigned", lambda: None)
    health.add("recovered", lambda: state["why"])
    assert [str(result) for result in health.ready()] == [
        "[+] event loop ok",
        "[+] assigned ok",
        "[-] recovered: recovering 2 partitions",
    ]
    state["why"] = None
    assert not all(result.reason is None for result in health.ready())
    health.beat()
    assert all(result.reason is None for result in health.ready())


def test_a_check_that_raises_fails_without_its_text() -> None:
    health = Health()

    def broken() -> str | None:
        raise RuntimeError("password=hunter2")

    health.add("broken", broken)
    assert health.ready()[1].reason == "the check failed with RuntimeError"


def test_checks_are_replaced_and_removed_by_name() -> None:
    health = Health()
    health.add("sink", lambda: "down")
    health.add("sink", lambda: None)
    assert [result.name for result in health.ready()] == ["event loop", "sink"]
    health.add("assigned", lambda: None)
    health.remove("sink")
    health.remove("sink")
    assert [result.name for result in health.ready()] == ["event loop", "assigned"]
