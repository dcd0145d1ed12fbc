"""What the orchestrator costs: tasks of nothing, the start of a data task, a long history.

``python -m benchmarks.pipelines``: a table, and exit code 1 when a target is missed. Metadata is in an SQLite
file that syncs each commit, as by default.

=========================  ==============================================================================
tasks of nothing           coroutines of one line in the orchestrator's loop, 1,000 in a chain and in a fan
                           (16 at a time): seconds from the trigger to the end, by the tasks
a data task starts         from the trigger until an ingestion has looked for its source, and said so
history                    10,000 runs listed, and the newest 50
=========================  ==============================================================================
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from streamcore.metadata import open_store
from streamcore.metadata.contract import NewRun
from streamcore.pipelines.checks import Kinds
from streamcore.pipelines.kinds.contract import Kind, Options, TaskContext, TaskResult
from streamcore.pipelines.kinds.ingestion import INGESTION
from streamcore.pipelines.models import PipelineConfig, TaskConfig, TaskType
from streamcore.pipelines.orchestrator import PipelineOrchestrator

TASKS, RUNS, ROUNDS = 1000, 10_000, 5
TARGETS = {"chain": 5.0, "fan": 5.0, "data task": 300.0, "history": 200.0}
"""Milliseconds: a task; the start; the list."""


async def nothing(options: Options, context: TaskContext) -> TaskResult:
    """A task of nothing, which is started and ended like any other."""
    return TaskResult()


KINDS: Kinds = {TaskType.PYTHON: Kind(Options, nothing), TaskType.INGESTION: INGESTION}


def chain() -> PipelineConfig:
    """Each task waits for the one before it."""
    tasks = [
        TaskConfig(task_id=f"t{n}", task_type=TaskType.PYTHON, depends_on=(f"t{n - 1}",) if n else ())
        for n in range(TASKS)
    ]
    return PipelineConfig(pipeline_id="chain", tasks=tuple(tasks))


def fan() -> PipelineConfig:
    """All wait for the first one, and the last one for all."""
    first = TaskConfig(task_id="first", task_type=TaskType.PYTHON)
    middle = [
        TaskConfig(task_id=f"t{n}", task_type=TaskType.PYTHON, depends_on=("first",))
        for n in range(TASKS - 2)
    ]
    needs = tuple(task.task_id for task in middle)
    last = TaskConfig(task_id="last", task_type=TaskType.PYTHON, depends_on=needs)
    return PipelineConfig(pipeline_id="fan", tasks=(first, *middle, last), max_parallel_tasks=16)


async def a_task(folder: Path, config: PipelineConfig) -> tuple[float, float]:
    """Milliseconds that one task of *config* takes, and those of CPU time."""
    url = f"sqlite:///{folder}/{config.pipeline_id}.db"
    async with PipelineOrchestrator(url, kinds=KINDS) as orchestrator:
        await orchestrator.register_pipeline(config)
        began, used = time.perf_counter(), time.process_time()
        run_id = await orchestrator.trigger_pipeline(config.pipeline_id, wait=True)
        took, used = time.perf_counter() - began, time.process_time() - used
        view = await orchestrator.get_pipeline_status(run_id)
        assert view is not None
        assert view.status == "success", view.reason
    return took * 1000 / TASKS, used * 1000 / TASKS


async def data_task(folder: Path) -> float:
    """Milliseconds from the trigger to what an ingestion says of its source, in a process started ahead."""
    parameters = {
        "source_config": {"type": "file", "file_path": f"{folder}/none.csv"},
        "destination_config": {"type": "file", "file_path": f"{folder}/out.csv"},
    }
    config = PipelineConfig(
        pipeline_id="data",
        tasks=(TaskConfig(task_id="t", task_type=TaskType.INGESTION, parameters=parameters),),
    )
    times = []
    async with PipelineOrchestrator(f"sqlite:///{folder}/data.db", kinds=KINDS) as orchestrator:
        await orchestrator.register_pipeline(config)
        for _ in range(ROUNDS):
            await orchestrator.warmed_up()
            began = time.perf_counter()
            run_id = await orchestrator.trigger_pipeline("data", wait=True)
            times.append((time.perf_counter() - began) * 1000)
            view = await orchestrator.get_pipeline_status(run_id)
            assert view is not None
            assert "none.csv" in view.tasks["t"].reason, view.tasks["t"].reason
    return statistics.median(times)


async def history(folder: Path) -> tuple[float, float]:
    """Milliseconds to list all of RUNS runs, and the newest 50."""
    store = await open_store(f"sqlite:///{folder}/history.db")
    for start in range(0, RUNS, 500):
        await asyncio.gather(
            *(
                store.create_run(NewRun(f"run{n}", f"p{n % 20}", 1, ["a"]), n)
                for n in range(start, start + 500)
            )
        )

    async def measured(limit: int) -> float:
        times = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            assert len(await store.runs(limit=limit)) == limit
            times.append((time.perf_counter() - began) * 1000)
        return statistics.median(times)

    found = await measured(RUNS), await measured(50)
    await store.close()
    return found


async def measure() -> dict[str, float]:
    """All figures, in milliseconds."""
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory(dir=".") as name:
        folder = Path(name).absolute()
        for config in (chain(), fan()):
            what = config.pipeline_id
            found[what], found[f"{what}, CPU"] = await a_task(folder, config)
        found["data task"] = await data_task(folder)
        found["history"], found["newest 50"] = await history(folder)
    return found


def main() -> int:
    found = asyncio.run(measure())
    table = Table(title="Pipelines")
    for column in ("what", "ms", "at most"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for what, milliseconds in found.items():
        table.add_row(what, f"{milliseconds:.2f}", f"{TARGETS[what]:.0f}" if what in TARGETS else "")
    Console(width=100).print(table)
    return int(any(found[what] > most for what, most in TARGETS.items()))


if __name__ == "__main__":
    sys.exit(main())
