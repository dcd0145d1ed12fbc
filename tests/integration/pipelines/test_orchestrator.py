"""Pipelines run to their end in this process: order, failures, retries, time-outs, cancellation, re-runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from streamcore.errors import BadConfig, Permanent
from streamcore.metadata.contract import Store
from streamcore.metadata.states import AttemptStatus, PipelineStatus, TaskStatus
from streamcore.pipelines.models import PipelineConfig, TaskConfig, TaskType
from streamcore.pipelines.orchestrator import PipelineOrchestrator
from streamcore.pipelines.status import RunView

TASKS = f"{Path(__file__).parent / 'tasks.py'}"
T, P = TaskStatus, PipelineStatus


@pytest.fixture
async def orchestrator(store: Store) -> AsyncIterator[PipelineOrchestrator]:
    async with PipelineOrchestrator(store) as orchestrator:
        yield orchestrator


def python(task_id: str, function: str, *needs: str, **more: Any) -> TaskConfig:
    """A task that calls a function of tasks.py: a coroutine in the loop, or with ``child`` another one."""
    parameters = {"function": f"{TASKS}:{function}", "arguments": more.pop("arguments", {})}
    parameters |= {"in_loop": not more.pop("child", False), **more.pop("parameters", {})}
    return TaskConfig(
        task_id=task_id, task_type=TaskType.PYTHON, depends_on=needs, parameters=parameters, **more
    )


def command(task_id: str, *words: str, **more: Any) -> TaskConfig:
    parameters = {"command": list(words), **more.pop("parameters", {})}
    return TaskConfig(task_id=task_id, task_type=TaskType.COMMAND, parameters=parameters, **more)


async def ran(orchestrator: PipelineOrchestrator, *tasks: TaskConfig, **more: Any) -> RunView:
    config = PipelineConfig(pipeline_id="p", tasks=tasks, **{k: v for k, v in more.items() if k != "given"})
    await orchestrator.register_pipeline(config)
    run_id = await orchestrator.trigger_pipeline("p", wait=True, parameters=more.get("given"))
    view = await orchestrator.get_pipeline_status(run_id)
    assert view is not None
    return view


def states(view: RunView) -> dict[str, TaskStatus]:
    return {task_id: task.status for task_id, task in view.tasks.items()}


async def test_tasks_run_in_the_order_of_their_dependencies(
    orchestrator: PipelineOrchestrator, tmp_path: Path
) -> None:
    def line(task_id: str, *needs: str) -> TaskConfig:
        return python(task_id, "append", *needs, arguments={"path": f"{tmp_path}/log", "line": task_id})

    view = await ran(orchestrator, line("d", "b", "c"), line("b", "a"), line("c", "a"), line("a"))
    assert view.status is P.SUCCESS
    assert view.seconds is not None
    lines = (tmp_path / "log").read_text().split()
    assert sorted(lines) == ["a", "b", "c", "d"]
    assert (lines[0], lines[-1]) == ("a", "d")


async def test_no_more_than_max_parallel_tasks_work_at_once(
    orchestrator: PipelineOrchestrator, store: Store
) -> None:
    view = await ran(
        orchestrator,
        *(python(f"t{n}", "sleep", arguments={"seconds": 0.05}) for n in range(7)),
        max_parallel_tasks=3,
    )
    running = most = 0
    for event in await store.events(view.run_id):
        running += {"task.running": 1, "task.success": -1}.get(event.kind, 0)
        most = max(most, running)
    assert most == 3


async def test_a_failure_skips_what_depends_on_it_and_nothing_else(
    orchestrator: PipelineOrchestrator,
) -> None:
    empty = TaskType.EMPTY
    view = await ran(
        orchestrator,
        command("bad", "false"),
        TaskConfig(task_id="after", task_type=empty, depends_on=["bad"]),
        TaskConfig(task_id="last", task_type=empty, depends_on=["after"]),
        python("other", "nothing"),
    )
    assert (view.status, view.reason) == (P.FAILED, "failed: bad")
    assert states(view) == {"bad": T.FAILED, "other": T.SUCCESS, "after": T.SKIPPED, "last": T.SKIPPED}
    assert view.tasks["bad"].reason.startswith("the command ended with exit code 1")
    assert (view.tasks["after"].reason, view.tasks["last"].reason) == ("bad failed", "after was skipped")


async def test_continue_on_error_lets_dependents_run(orchestrator: PipelineOrchestrator) -> None:
    view = await ran(
        orchestrator,
        command("bad", "false", parameters={"continue_on_error": True}),
        python("after", "nothing", "bad"),
    )
    assert view.status is P.SUCCESS
    assert states(view) == {"bad": T.FAILED, "after": T.SUCCESS}


async def test_a_task_that_has_nothing_to_do_is_skipped_with_its_reason(
    orchestrator: PipelineOrchestrator,
) -> None:
    view = await ran(
        orchestrator,
        python("look", "skip", child=True),
        python("after", "nothing", "look"),
        command("code", "sh", "-c", "exit 99", parameters={"skip_code": 99}),
    )
    assert view.status is P.SUCCESS
    assert set(states(view).values()) == {T.SKIPPED}
    assert view.tasks["look"].reason == "no new files"


async def test_failures_are_tried_again(
    orchestrator: PipelineOrchestrator, store: Store, tmp_path: Path
) -> None:
    view = await ran(
        orchestrator,
        python(
            "flaky",
            "fail_until",
            child=True,
            arguments={"path": f"{tmp_path}/count", "times": 2},
            retry_count=3,
            retry_delay=0.05,
        ),
    )
    assert view.status is P.SUCCESS
    assert (view.tasks["flaky"].rows, view.tasks["flaky"].reason) == (2, "at last")
    attempts = await store.attempts(view.run_id)
    assert [a.status for a in attempts] == [AttemptStatus.FAILED, AttemptStatus.FAILED, AttemptStatus.SUCCESS]
    assert attempts[0].error == "RuntimeError: failure 1"
    assert "Traceback" in attempts[0].log
    assert attempts[1].started_us - (attempts[0].ended_us or 0) >= 50_000


async def test_a_wrong_configuration_is_not_tried_again(
    orchestrator: PipelineOrchestrator, store: Store
) -> None:
    view = await ran(orchestrator, python("bad", "nothin", retry_count=5))
    assert view.status is P.FAILED
    assert len(await store.attempts(view.run_id)) == 1
    assert "did you mean 'nothing'" in view.tasks["bad"].reason


@pytest.mark.parametrize("how", ["loop", "child", "command"])
async def test_a_time_out_stops_the_work(orchestrator: PipelineOrchestrator, store: Store, how: str) -> None:
    tasks = {
        "loop": python("slow", "sleep", arguments={"seconds": 60}, timeout=0.3),
        "child": python("slow", "block", arguments={"seconds": 60}, child=True, timeout=1.5),
        "command": command("slow", "sh", "-c", "sleep 61 & sleep 60", timeout=0.3),
    }
    began = time.monotonic()
    view = await ran(orchestrator, tasks[how])
    assert time.monotonic() - began < 30
    assert view.status is P.FAILED
    (attempt,) = await store.attempts(view.run_id)
    assert attempt.status is AttemptStatus.TIMED_OUT
    assert attempt.error.startswith("it took longer than")
    if how == "command":
        assert not _running("sleep 61")


async def test_a_command_that_ignores_sigterm_is_killed(orchestrator: PipelineOrchestrator) -> None:
    script = "trap '' TERM; while true; do sleep 62; done"
    view = await ran(orchestrator, command("stubborn", "sh", "-c", script, timeout=0.2))
    assert view.tasks["stubborn"].status is T.FAILED
    assert not _running("sleep 62")


async def test_a_run_is_cancelled(orchestrator: PipelineOrchestrator, store: Store) -> None:
    config = PipelineConfig(
        pipeline_id="p",
        tasks=[python("slow", "sleep", arguments={"seconds": 60}), python("after", "nothing", "slow")],
    )
    await orchestrator.register_pipeline(config)
    run_id = await orchestrator.trigger_pipeline("p")
    view = await orchestrator.get_pipeline_status(run_id)
    assert view is not None
    assert view.tasks["slow"].status is T.RUNNING
    assert await orchestrator.cancel(run_id)
    view = await orchestrator.wait(run_id)
    assert (view.status, view.reason) == (P.CANCELLED, "cancelled on request")
    assert set(states(view).values()) == {T.CANCELLED}
    assert not await orchestrator.cancel(run_id)


async def test_a_re_run_does_what_did_not_succeed(
    orchestrator: PipelineOrchestrator, store: Store, tmp_path: Path
) -> None:
    once = {"path": f"{tmp_path}/log", "line": "first"}
    view = await ran(
        orchestrator,
        python("first", "append", arguments=once),
        python(
            "flaky", "fail_until", "first", child=True, arguments={"path": f"{tmp_path}/count", "times": 1}
        ),
        python("last", "nothing", "flaky"),
    )
    assert states(view) == {"first": T.SUCCESS, "flaky": T.FAILED, "last": T.SKIPPED}
    await orchestrator.rerun(view.run_id, wait=True)
    again = await orchestrator.get_pipeline_status(view.run_id)
    assert again is not None
    assert again.status is P.SUCCESS
    assert (tmp_path / "log").read_text() == "first\n"
    assert [a.task_id for a in await store.attempts(view.run_id)] == ["first", "flaky", "flaky", "last"]
    with pytest.raises(BadConfig, match="can't be run again, got 'success'"):
        await orchestrator.rerun(view.run_id)


async def test_results_pass_by_the_name_of_their_dataset(
    orchestrator: PipelineOrchestrator, store: Store, tmp_path: Path
) -> None:
    view = await ran(
        orchestrator,
        python("write", "write", arguments={"path": f"{tmp_path}/x.txt"}, child=True),
        python("read", "read", "write", arguments={"source": "${dataset:lines}"}, child=True),
    )
    assert view.status is P.SUCCESS, view
    assert view.tasks["read"].reason == f"{view.run_id}/write"
    assert (view.tasks["write"].rows, view.tasks["write"].bytes) == (1, 10)
    assert (await store.attempts(view.run_id, "write"))[0].log == f"wrote {tmp_path}/x.txt\n"


async def test_data_is_no_result(orchestrator: PipelineOrchestrator) -> None:
    view = await ran(orchestrator, python("t", "give_data", child=True))
    assert "tasks pass references, not data" in view.tasks["t"].reason


async def test_a_process_that_ends_without_a_word_is_a_failure(orchestrator: PipelineOrchestrator) -> None:
    view = await ran(orchestrator, python("t", "die", child=True))
    assert "its process ended with exit code 7" in view.tasks["t"].reason


async def test_parameters_of_runs(
    orchestrator: PipelineOrchestrator, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GREETING", "hello")
    words = ["echo", "${GREETING}", "${param:day}", "${param:n}", "${run:pipeline}", "${run:task}"]
    more = {"parameters": {"day": "monday", "n": 3}}
    view = await ran(orchestrator, command("say", *words), given={"day": "friday"}, **more)
    assert (await store.attempts(view.run_id))[0].log == "hello friday 3 p say\n"
    assert view.parameters == {"day": "friday"}
    with pytest.raises(BadConfig, match="did you mean 'day'"):
        await orchestrator.trigger_pipeline("p", parameters={"dya": 1})


async def test_a_command_knows_its_run_and_no_shell_reads_it(
    orchestrator: PipelineOrchestrator, store: Store
) -> None:
    view = await ran(
        orchestrator, command("c", "printenv", "STREAMCORE_EFFECT_ID"), command("d", "echo", "$HOME; ls")
    )
    logs = {a.task_id: a.log for a in await store.attempts(view.run_id)}
    assert logs == {"c": f"{view.run_id}/c\n", "d": "$HOME; ls\n"}


async def test_a_command_that_is_not_there(orchestrator: PipelineOrchestrator, store: Store) -> None:
    view = await ran(orchestrator, command("c", "no-such-program-here"))
    assert "exit code 127" in view.tasks["c"].reason
    assert "can't be started" in (await store.attempts(view.run_id))[0].log


async def test_long_logs_keep_their_beginning_and_end(
    orchestrator: PipelineOrchestrator, store: Store
) -> None:
    view = await ran(orchestrator, command("c", "seq", "1", "50000"))
    log = (await store.attempts(view.run_id))[0].log
    assert log.startswith("1\n2\n")
    assert log.endswith("\n50000\n")
    assert "lines left out" in log
    assert len(log) < 100_000


async def test_statements_are_made_in_one_transaction(
    orchestrator: PipelineOrchestrator, tmp_path: Path
) -> None:
    def sql(task_id: str, *statements: str, **more: Any) -> TaskConfig:
        parameters = {"connection_string": f"sqlite:///{tmp_path}/x.db", "sql": list(statements)}
        return TaskConfig(task_id=task_id, task_type=TaskType.SQL, parameters=parameters, **more)

    view = await ran(
        orchestrator,
        sql("make", "create table t (a int)", "insert into t values (1), (2)"),
        sql("broken", "delete from t", "insert into nowhere values (1)", depends_on=["make"]),
    )
    assert states(view) == {"make": T.SUCCESS, "broken": T.FAILED}
    assert view.tasks["make"].rows == 2
    assert "no such table: nowhere" in view.tasks["broken"].reason
    count = command("count", "python3", "-c", _COUNT, f"{tmp_path}/x.db")
    assert (await ran(orchestrator, count)).status is P.SUCCESS


_COUNT = """
import sqlite3, sys
(n,) = sqlite3.connect(sys.argv[1]).execute("select count(*) from t").fetchone()
sys.exit(n - 2)
"""


async def test_what_cannot_run_is_refused_when_it_is_registered(orchestrator: PipelineOrchestrator) -> None:
    with pytest.raises(BadConfig, match="a pipeline_id is missing"):
        await orchestrator.register_pipeline(PipelineConfig())
    with pytest.raises(BadConfig, match="'p', task 'x': task_type: a task_type is missing"):
        await orchestrator.register_pipeline(PipelineConfig(pipeline_id="p", tasks=[TaskConfig(task_id="x")]))
    await orchestrator.register_pipeline(PipelineConfig(pipeline_id="pipe", tasks=[python("x", "nothing")]))
    with pytest.raises(BadConfig, match=r"there is no pipeline 'pip'.*did you mean 'pipe'"):
        await orchestrator.trigger_pipeline("pip")


async def test_versions_of_a_pipeline(orchestrator: PipelineOrchestrator) -> None:
    first = await orchestrator.register_pipeline(
        PipelineConfig(pipeline_id="p", tasks=[python("a", "nothing")])
    )
    same = await orchestrator.register_pipeline(
        PipelineConfig(pipeline_id="p", tasks=[python("a", "nothing")])
    )
    other = await orchestrator.register_pipeline(
        PipelineConfig(pipeline_id="p", tasks=[python("b", "nothing")])
    )
    assert (first.version, same.version, other.version) == (1, 1, 2)


async def test_an_orchestrator_that_is_not_started_says_so() -> None:
    with pytest.raises(Permanent, match="not started"):
        await PipelineOrchestrator("memory:").trigger_pipeline("p")


async def test_a_run_that_is_handed_over_goes_on_elsewhere(store: Store, tmp_path: Path) -> None:
    done = {"path": f"{tmp_path}/log", "line": "first"}
    config = PipelineConfig(
        pipeline_id="p",
        tasks=[
            python("first", "append", arguments=done),
            python("slow", "sleep", "first", arguments={"seconds": 60}, retry_count=0),
        ],
    )
    first = PipelineOrchestrator(store)
    await first.start()
    await first.register_pipeline(config)
    run_id = await first.trigger_pipeline("p")
    while (await store.tasks(run_id))[1].status is not T.RUNNING:
        await asyncio.sleep(0.01)
    await first.stop()
    assert [t.status for t in await store.tasks(run_id)] == [T.SUCCESS, T.RETRYING]
    async with PipelineOrchestrator(store) as second:
        while (await store.tasks(run_id))[1].status is not T.RUNNING:
            await asyncio.sleep(0.01)
        await second.cancel(run_id)
        await second.wait(run_id)
    slow = (await store.tasks(run_id))[1]
    assert (slow.attempts, slow.lost) == (2, 0)
    assert (tmp_path / "log").read_text() == "first\n"


def _running(words: str) -> bool:
    """Whether a process of this command line is there."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
                if line == words:
                    return True
    return False
