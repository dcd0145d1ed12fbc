"""Laws of runs, whatever the pipeline and however its attempts end.

Random graphs are run by a played orchestrator on a clock that jumps: attempts end in any order and in any
way, some are lost together, the run may be cancelled at any moment. Then always: the run ends, what ran never
exceeded ``max_parallel_tasks``, no task began before what it depends on had ended well, every change is
legal, and the end says what happened.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.metadata.records import AttemptMoved, RunMoved, TaskMoved, TaskRecord
from streamcore.metadata.states import (
    RUN_ENDS,
    TASK_ENDS,
    AttemptStatus,
    PipelineStatus,
    TaskStatus,
    check_move,
)
from streamcore.pipelines.deciding import (
    LOST_LIMIT,
    Decision,
    Ended,
    Plan,
    RunState,
    decide,
    lost,
    retry_delay,
    to_reopen,
)
from streamcore.pipelines.kinds.contract import TaskResult
from streamcore.pipelines.models import PipelineConfig, TaskConfig, TaskType

OUTCOMES = [
    AttemptStatus.SUCCESS,
    AttemptStatus.SUCCESS,
    AttemptStatus.SUCCESS,
    AttemptStatus.FAILED,
    AttemptStatus.SKIPPED,
]


@st.composite
def pipelines(draw: st.DrawFn) -> PipelineConfig:
    count = draw(st.integers(1, 9))
    tasks = []
    for number in range(count):
        needs = draw(st.sets(st.integers(0, number - 1), max_size=3)) if number else set()
        tasks.append(
            TaskConfig(
                task_id=f"t{number}",
                task_type=TaskType.EMPTY if draw(st.booleans()) and number % 3 == 2 else TaskType.PYTHON,
                depends_on=[f"t{need}" for need in sorted(needs)],
                retry_count=draw(st.integers(0, 2)),
                retry_delay=draw(st.sampled_from([0.0, 1.0, 60.0])),
                timeout=draw(st.sampled_from([None, None, 5.0])),
                parameters={"continue_on_error": True} if draw(st.integers(0, 3)) == 0 else {},
            )
        )
    order = draw(st.permutations(tasks))
    return PipelineConfig(pipeline_id="p", tasks=order, max_parallel_tasks=draw(st.integers(1, 4)))


def plan_of(config: PipelineConfig) -> Plan:
    return Plan.of(config, [t.task_id for t in config.tasks if t.task_type is TaskType.EMPTY])


def begin(plan: Plan) -> RunState:
    return RunState("run", PipelineStatus.QUEUED, {task: TaskRecord(task) for task in plan.tasks})


@dataclass
class Played:
    """An orchestrator without I/O: applies what is decided, and checks each step."""

    plan: Plan
    draw: st.DataObject
    state: RunState = field(init=False)
    now: int = 1_000_000
    running: set[str] = field(default_factory=set)
    wake: int | None = None
    stopping: dict[str, Ended] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.state = begin(self.plan)

    def round(self, ended: list[Ended]) -> None:
        before = self.state
        for one in ended:
            self.running.discard(one.task_id)
            self.stopping.pop(one.task_id, None)
        decision = decide(self.plan, self.state, ended, self.now)
        self.check(before, decision)
        self.state, self.wake = decision.state, decision.wake_us
        self.running |= set(decision.start)
        for stop in decision.stop:
            self.stopping[stop.task_id] = Ended(stop.task_id, stop.status, error=stop.error)

    def check(self, before: RunState, decision: Decision) -> None:
        states = {task: record.status for task, record in before.tasks.items()}
        run = before.status
        for change in decision.changes:
            if isinstance(change, RunMoved):
                assert change.before == run
                check_move(change.before, change.after, "the run")
                run = change.after
            elif isinstance(change, TaskMoved):
                task = change.after.task_id
                assert change.before == states[task]
                check_move(change.before, change.after.status, task)
                if change.after.status is TaskStatus.RUNNING:
                    self.check_needs(task, states)
                states[task] = change.after.status
            else:
                assert isinstance(change, AttemptMoved)
        assert states == {task: record.status for task, record in decision.state.tasks.items()}
        assert run == decision.state.status
        active = sum(status is TaskStatus.RUNNING for status in states.values())
        assert active <= self.plan.config.max_parallel_tasks
        assert active == len(self.running | set(decision.start))

    def check_needs(self, task: str, states: dict[str, TaskStatus]) -> None:
        for need in self.plan.graph.needs[task]:
            tolerated = self.plan.tasks[need].continue_on_error and states[need] is TaskStatus.FAILED
            assert states[need] is TaskStatus.SUCCESS or tolerated, f"{task} began before {need} was done"

    def step(self) -> None:
        if self.stopping:
            self.round([self.stopping[task] for task in sorted(self.stopping)])
        elif self.running and self.draw.draw(st.integers(0, 9)):
            self.end_some()
        elif self.running and self.draw.draw(st.booleans()):
            self.round(lost(self.state))
        else:
            assert self.wake is not None or self.running, "nothing runs and nothing is due: it hangs"
            self.now = max(self.now, self.wake or 0)
            if self.wake is None:
                self.end_some()
            else:
                self.round([])

    def end_some(self) -> None:
        chosen = self.draw.draw(st.lists(st.sampled_from(sorted(self.running)), min_size=1, unique=True))
        self.now += self.draw.draw(st.integers(0, 3_000_000))
        self.round([self.outcome(task) for task in chosen])

    def outcome(self, task: str) -> Ended:
        status = self.draw.draw(st.sampled_from(OUTCOMES))
        return Ended(task, status, TaskResult(rows=1), error="" if status is AttemptStatus.SUCCESS else "x")


@settings(deadline=None, max_examples=150)
@given(pipelines(), st.data())
def test_every_run_ends_as_the_rules_say(config: PipelineConfig, data: st.DataObject) -> None:
    played = Played(plan_of(config), data)
    cancel_after = data.draw(st.one_of(st.none(), st.integers(0, 6)))
    played.round([])
    steps = 0
    while played.state.status not in RUN_ENDS:
        if steps == cancel_after:
            state = played.state
            played.state = RunState(state.run_id, state.status, state.tasks, cancel=True)
            played.round([])
        else:
            played.step()
        steps += 1
        assert steps < 2000, "the run does not end"
    check_end(played)


def check_end(played: Played) -> None:
    plan, tasks = played.plan, played.state.tasks
    assert not played.running
    assert all(task.status in TASK_ENDS for task in tasks.values())
    hard = [
        task
        for task, record in tasks.items()
        if record.status is TaskStatus.FAILED and not plan.tasks[task].continue_on_error
    ]
    if played.state.status is PipelineStatus.SUCCESS:
        assert not hard
    if hard and not played.state.cancel:
        assert played.state.status is PipelineStatus.FAILED
    for task, record in tasks.items():
        config = plan.tasks[task]
        assert record.attempts <= config.retry_count + 1 + LOST_LIMIT
        if record.status is TaskStatus.SKIPPED:
            assert record.reason
        if record.status is TaskStatus.FAILED:
            assert record.failures > config.retry_count or record.lost >= LOST_LIMIT


@settings(deadline=None)
@given(pipelines())
def test_a_re_run_does_again_what_did_not_succeed(config: PipelineConfig) -> None:
    plan = plan_of(config)
    first = next(task for task in plan.graph.order if task not in plan.instant) if plan.tasks else ""
    state = begin(plan)
    decision = decide(plan, state, [], 0)
    while decision.state.status not in RUN_ENDS:
        ended = [
            Ended(
                task.task_id,
                AttemptStatus.FAILED if task.task_id == first else AttemptStatus.SUCCESS,
                retry=False,
            )
            for task in decision.state.tasks.values()
            if task.status is TaskStatus.RUNNING
        ]
        decision = decide(plan, decision.state, ended, 0)
    again = to_reopen(decision.state.tasks.values())
    assert set(again) == {
        task for task, record in decision.state.tasks.items() if record.status is not TaskStatus.SUCCESS
    }


@pytest.mark.parametrize("failures", range(1, 12))
def test_waits_grow_up_to_the_longest_and_are_the_same_each_time(failures: int) -> None:
    task = TaskConfig(task_id="t", retry_delay=2, retry_backoff=3, retry_max_delay="5m", retry_jitter=0.5)
    wait = retry_delay(task, "run", failures)
    plain = min(2 * 3 ** (failures - 1), 300)
    assert plain <= wait <= plain * 1.5
    assert wait == retry_delay(task, "run", failures)
    assert wait != retry_delay(task, "other", failures)


def test_a_task_that_ends_its_orchestrators_fails_in_the_end() -> None:
    plan = plan_of(
        PipelineConfig(pipeline_id="p", tasks=[TaskConfig(task_id="t", task_type=TaskType.PYTHON)])
    )
    decision = decide(plan, begin(plan), [], 0)
    for turn in range(1, LOST_LIMIT + 1):
        assert decision.state.tasks["t"].status is TaskStatus.RUNNING
        decision = decide(plan, decision.state, lost(decision.state), turn)
    assert decision.state.status is PipelineStatus.FAILED
    assert "does this task end it" in decision.state.tasks["t"].reason


def test_attempts_that_were_handed_over_do_not_count_as_lost() -> None:
    plan = plan_of(
        PipelineConfig(pipeline_id="p", tasks=[TaskConfig(task_id="t", task_type=TaskType.PYTHON)])
    )
    state = decide(plan, begin(plan), [], 0).state
    for turn in range(LOST_LIMIT * 2):
        ended = Ended("t", AttemptStatus.LOST, counts=False)
        state = decide(plan, state, [ended], turn, begin=False).state
        assert state.tasks["t"].status is TaskStatus.RETRYING
        state = decide(plan, state, [], turn).state
    assert state.tasks["t"].lost == 0
