"""The card's scores of task sets: the table, where the items are from, and which rows the scores tell apart."""

from __future__ import annotations

import math

from lwq.metrics.values import Estimate, TaskScore
from lwq.record.record import Record, TaskSet
from lwq.report.markdown import code, either, plain
from lwq.report.numerals import NOT_MEASURED, count, percent
from lwq.report.tables import MODEL, Column, Table, columns, label


def scores(record: Record) -> Table | None:
    """Task scores in %, with the mean of all tasks where a row has them all; None without any."""
    keys = tuple(dict.fromkeys((task.name, task.n_items) for row in record.rows for task in row.tasks))
    if not keys:
        return None
    titles = (*(f"{name} ({n})" for name, n in keys), "Average")
    body = []
    for row in record.rows:
        task_scores = {(task.name, task.n_items): task for task in row.tasks}
        cells = tuple(percent(task_scores[key].score, 2) if key in task_scores else NOT_MEASURED for key in keys)
        body.append((label(row), *cells, average(tuple(task_scores.values()), len(keys))))
    return Table(
        caption="Task scores in %, in brackets how many items were asked. ± is one standard error.",
        columns=(MODEL, *columns(*titles)),
        rows=tuple(body),
    )


def title(record: Record) -> str:
    """``ARC, HellaSwag and WinoGrande``: the task sets that were asked."""
    return either(tuple(dict.fromkeys(task.name for row in record.rows for task in row.tasks)))


def average(task_scores: tuple[TaskScore, ...], n_tasks: int) -> str:
    """The mean of all tasks in %; a dash where one is missing."""
    found = mean_score(task_scores, n_tasks)
    return percent(found, 2) if found else "–"


def mean_score(task_scores: tuple[TaskScore, ...], n_tasks: int) -> Estimate | None:
    """The mean of all tasks, a fraction; None where one is missing."""
    if len(task_scores) < n_tasks:
        return None
    errors = [task.score.stderr for task in task_scores]
    known = [error for error in errors if error is not None]
    stderr = math.hypot(*known) / n_tasks if len(known) == n_tasks else None
    return Estimate(value=sum(task.score.value for task in task_scores) / n_tasks, stderr=stderr)


def sets(record: Record) -> Table | None:
    """Where the items of each set are from, and how they were asked; None without any."""
    if not record.task_sets:
        return None
    return Table(
        caption="The task sets, scored by llama-perplexity. The ids of the items drawn are in record.json, the items"
        " in SET.items.",
        columns=(
            Column(title="Set", right=False),
            *columns("Items", "Drawn from", "Seed", "Context", "Sequences at once"),
            Column(title="Source", right=False),
        ),
        rows=tuple(
            (
                s.name,
                count(len(s.ids)),
                "made from a text" if s.cloze else count(s.n_given),
                str(s.seed),
                str(s.n_ctx),
                str(s.n_parallel),
                _source(s),
            )
            for s in record.task_sets
        ),
    )


def _source(task_set: TaskSet) -> str:
    """Labels of the sources, and what a reader must know of the items."""
    made = f"gaps in {task_set.cloze} of " if task_set.cloze else ""
    parts = f" ({task_set.parts})" if task_set.parts else ""
    faulty = f"; {count(task_set.n_faulty)} items with faults left out" if task_set.n_faulty else ""
    unfair = f"; {count(len(task_set.unfair))} items scored unfairly (note)" if task_set.unfair else ""
    return f"{made}{', '.join(task_set.sources)}{parts}{faulty}{unfair}"


def unfair(record: Record) -> str:
    """What is wrong with items of which one choice is the beginning of all others; empty where there are none."""
    if not any(s.unfair for s in record.task_sets):
        return ""
    return (
        "Items scored unfairly: all their choices begin with the shortest one, and llama-perplexity scores that one by"
        " a token that is not its own. They stay in, as in everybody's scores; record.json has their ids."
    )


def made_up(record: Record) -> str:
    """That some sets are no benchmark of anybody, where that is so; empty otherwise."""
    names = tuple(code(s.name) for s in record.task_sets if s.cloze)
    if not names:
        return ""
    sources = either(tuple(dict.fromkeys(plain(source) for s in record.task_sets if s.cloze for source in s.sources)))
    return (
        f"{either(names)} {'is' if len(names) == 1 else 'are'} no published benchmark: lwq made the items from"
        f" {sources}. They compare these files with each other and with nothing else."
    )
