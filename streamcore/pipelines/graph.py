"""Which task waits for which: the order of a pipeline's tasks, without unknown names and without cycles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from streamcore.pipelines.models import TaskConfig


@dataclass(frozen=True, slots=True)
class TaskGraph:
    """``order``: all tasks, each behind those it needs, otherwise as they were written.

    ``needs`` and ``feeds``: what each task waits for directly, and what waits for it.
    """

    order: tuple[str, ...]
    needs: Mapping[str, tuple[str, ...]]
    feeds: Mapping[str, tuple[str, ...]]

    def levels(self) -> Iterator[tuple[str, ...]]:
        """The tasks in rounds: each needs only tasks of the rounds before it."""
        depth: dict[str, int] = {}
        for task in self.order:
            depth[task] = 1 + max((depth[need] for need in self.needs[task]), default=-1)
        for level in range(max(depth.values(), default=-1) + 1):
            yield tuple(task for task in self.order if depth[task] == level)


def graph_of(tasks: Sequence[TaskConfig]) -> TaskGraph:
    """The graph of *tasks*, which :func:`streamcore.pipelines.checks.problems` has found to be right."""
    needs = {task.task_id: tuple(dict.fromkeys(task.depends_on)) for task in tasks}
    feeds: dict[str, list[str]] = {task: [] for task in needs}
    for task, before in needs.items():
        for need in before:
            feeds[need].append(task)
    return TaskGraph(_ordered(needs, feeds), needs, {task: tuple(after) for task, after in feeds.items()})


def _ordered(needs: Mapping[str, tuple[str, ...]], feeds: Mapping[str, list[str]]) -> tuple[str, ...]:
    """Kahn's algorithm; tasks that wait for nothing come as they were written."""
    waiting = {task: len(before) for task, before in needs.items()}
    ready = [task for task, count in waiting.items() if not count]
    for task in ready:  # grows meanwhile
        for after in feeds[task]:
            waiting[after] -= 1
            if not waiting[after]:
                ready.append(after)
    return tuple(ready)


def cycle_in(needs: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """A cycle of *needs*, its first task once more at the end; empty when there is none.

    Names that are no key of *needs* are passed over.
    """
    done: set[str] = set()
    for root in needs:
        path: dict[str, Iterator[str]] = {}
        task: str | None = root if root not in done else None
        while task is not None:
            path.setdefault(task, iter(needs[task]))
            below = next((n for n in path[task] if n in needs and n not in done), None)
            if below in path:
                names = list(path)
                return (*names[names.index(below) :], below)
            if below is None:
                done.add(task)
                del path[task]
                task = next(reversed(path), None)
            else:
                task = below
    return ()
