"""Why a step is done or would run again, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lwq.plan.plan import AnyStep
from lwq.store.cache import Cache, key_of


def why(step: AnyStep, steps: tuple[AnyStep, ...], cache: Cache, recipe: str) -> tuple[str, ...]:
    """Whether a step is done, and what differs from the recipe's last run."""
    entry = cache.lookup(step.module.NAME, step.key)
    before = cache.remembered(recipe)
    state = f"{step.label}: " + (f"done {entry.finished} ({entry.folder})" if entry else "not done yet")
    last = before.get(step.label)
    if last is None:
        return (state, "this recipe has not run this step before")
    if last == step.key_value:
        lost = "nothing changed since this recipe last ran it"
        return (state, lost if entry else f"{lost}, but its result is no longer in the cache")
    return (state, *_changes(step.label, last, step.key_value, steps, before))


def _changes(
    label: str,
    last: Mapping[str, Any],
    now: Mapping[str, Any],
    steps: tuple[AnyStep, ...],
    before: Mapping[str, Mapping[str, Any]],
) -> Iterator[str]:
    """One sentence for each difference; a changed upstream key is followed to its own difference."""
    by_key = {step.key: step for step in steps}
    for path, old, new in differences(last, now):
        upstream = by_key.get(new) if isinstance(new, str) else None
        if upstream is None:
            yield f"{label}: {path} was {_shown(old)}, is {_shown(new)}"
            continue
        yield f"{label}: {upstream.label} changed, on which it depends"
        earlier = before.get(upstream.label)
        if earlier is not None and key_of(earlier) != upstream.key:
            yield from _changes(upstream.label, earlier, upstream.key_value, steps, before)


def differences(old: Any, new: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(path, old, new) of everything that differs between two JSON values."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            yield from differences(old.get(key), new.get(key), f"{path}.{key}" if path else str(key))
    elif old != new:
        yield path, old, new


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "…"
