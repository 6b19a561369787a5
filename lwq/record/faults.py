"""What in a record does not fit together, as a hand may have left it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from lwq.metrics.values import TaskScore
from lwq.record.record import Record, Row


def faults(record: Record) -> Iterator[str]:
    """Each fault as ``where: what``, where as in record.json."""
    if not record.rows:
        yield "rows: empty; a record has the base's row at least"
    for name, n in Counter(row.name for row in record.rows).items():
        if n > 1:
            yield f"rows: {n} rows are named {name!r}"
    roles = {"calibration", "selection", "evaluation", *(domain.role for domain in record.domains)}
    for i, text in enumerate(record.texts):
        if text.role not in roles:
            yield f"texts.{i}.role: {text.role!r} is neither of {', '.join(sorted(roles))}"
    if not record.baseline.ppl.value > 0:
        yield f"baseline.ppl.value: {record.baseline.ppl.value:g} is no perplexity"
    n_items = {task_set.name: len(task_set.ids) for task_set in record.task_sets}
    for i, row in enumerate(record.rows):
        yield from (f"rows.{i}.{fault}" for fault in _of_row(row, n_items))


def _of_row(row: Row, n_items: dict[str, int]) -> Iterator[str]:
    for i, task in enumerate(row.tasks):
        if fault := _of_task(task, n_items.get(task.name, task.n_items)):
            yield f"tasks.{i}.{fault}"


def _of_task(task: TaskScore, n_ids: int) -> str:
    if strange := sorted(set(task.outcomes) - {"0", "1"}):
        return f"outcomes: {strange[0]!r} is neither 0 nor 1"
    if task.outcomes and len(task.outcomes) != task.n_items:
        return f"outcomes: {len(task.outcomes)} of {task.n_items} items"
    if task.outcomes and n_ids != task.n_items:
        return f"n_items: {task.n_items}, but the set {task.name} has {n_ids} ids"
    return ""
