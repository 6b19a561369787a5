"""Steps as tasks: which wait for which, which share the machine, which must have it for themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Final, Literal, TypeVar

from lwq.plan.plan import AnyStep
from lwq.plan.twins import Alike
from lwq.steps.step import Given, Made

Needs = Mapping[str, int]
"""What of a machine (``memory``, ``device``) → bytes."""
Where = Literal["anywhere", "here", "alone"]
T = TypeVar("T")
_UNKNOWN_SECONDS: Final = 1.0
"""Of a step of which nobody knows how long it takes: most are quick."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A step as something to be done some time, somewhere."""

    key: str
    after: frozenset[str] = frozenset()
    """Keys of what must be finished before."""
    seconds: float = _UNKNOWN_SECONDS
    needs: Needs = field(default_factory=dict)
    where: Where = "anywhere"
    """``here``: in the client's process, since it is quick; ``alone``: there too, with nothing beside it on that
    machine, since it measures time."""


def pending_of(
    steps: Iterable[AnyStep],
    alike: Mapping[str, Alike],
    seconds: Mapping[str, float] | None = None,
    needs: Mapping[str, Needs] | None = None,
) -> tuple[Pending, ...]:
    """The tasks of steps, in their order: each stands behind all that it waits for.

    Args:
        alike: key of a twin's step → the step whose result it may have too, which is waited for.
        seconds: key → how long it takes, where that is known.
        needs: key → what it needs.
    """
    steps, seconds, needs = tuple(steps), seconds or {}, needs or {}
    keys = {step.key for step in steps}
    found = dict[str, Pending]()
    for step in steps:
        after = {made.key for made in made_of(step)}
        if twin := alike.get(step.key):
            after |= {twin.writes.key, twin.step.key}
        found[step.key] = Pending(
            key=step.key,
            after=frozenset(after & keys - {step.key}),
            seconds=seconds.get(step.key, _UNKNOWN_SECONDS),
            needs=needs.get(step.key, {}),
            where="alone" if is_timed(step) else "anywhere" if step.module.USES_TOOLS else "here",
        )
    return tuple(found.values())


def is_timed(step: AnyStep) -> bool:
    """Whether a step measures how fast something is: its key names the processor, or it chooses by such figures."""
    return hasattr(step.inputs, "cpu") or getattr(step.inputs, "paced", None) is not None


def made_of(step: AnyStep) -> tuple[Made, ...]:
    """What a step reads of earlier steps."""
    return tuple(_of_kind(step.inputs, Made))


def given_of(step: AnyStep) -> tuple[Given, ...]:
    """What a step reads of files that the user gave."""
    return tuple(_of_kind(step.inputs, Given))


def longest_chain(tasks: Iterable[Pending]) -> float:
    """Seconds of the longest chain of tasks of which each waits for the one before."""
    return max(ranks(tasks).values(), default=0.0)


def ranks(tasks: Iterable[Pending]) -> dict[str, float]:
    """Key → seconds from a task's beginning to the end of the longest chain that it begins."""
    found: dict[str, float] = {}
    behind: dict[str, float] = {}
    for task in reversed(tuple(tasks)):
        found[task.key] = task.seconds + behind.get(task.key, 0.0)
        for key in task.after:
            behind[key] = max(behind.get(key, 0.0), found[task.key])
    return found


def _of_kind(value: Any, kind: type[T]) -> Iterator[T]:
    return (part for part in _within(value) if isinstance(part, kind))


def _within(value: Any) -> Iterator[Any]:
    """A value and everything inside it."""
    yield value
    if isinstance(value, tuple | list):
        inside: Iterable[Any] = value
    elif isinstance(value, Mapping):
        inside = value.values()
    else:
        inside = (getattr(value, f.name) for f in fields(value)) if is_dataclass(value) else ()
    for part in inside:
        yield from _within(part)
