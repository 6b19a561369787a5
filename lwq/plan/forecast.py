"""How long a plan may take: at the pace of like steps that ran on this machine before, else of a small model."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from lwq.gguf.header import GgufHeader
from lwq.plan.plan import AnyStep, Plan
from lwq.plan.removals import sets_wanted
from lwq.recipe.schema import Recipe
from lwq.store.cache import Cache

Guess = Callable[[AnyStep], float | None]
"""Seconds of a step of whose kind none ran here yet; None of a quick one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Steps that are not in the cache, and seconds for them."""

    n_missing: int
    by_key: Mapping[str, float]
    """Key of a costly step → seconds, as far as they are known."""
    unknown: tuple[str, ...] = ()
    """Kinds of costly steps that are missing and have never run here: not in the seconds."""
    guessed: tuple[str, ...] = ()
    """Kinds whose seconds are computed from the pace of a small model."""

    @property
    def seconds(self) -> float | None:
        """Of all steps together; None where nothing is known of any."""
        return None if self.unknown and not self.by_key else sum(self.by_key.values())


def forecast(steps: Iterable[AnyStep], cache: Cache, work: Mapping[str, float], guess: Guess | None = None) -> Forecast:
    """Missing steps, and their time at the pace of earlier steps of the same kind.

    Args:
        work: key → amount of work, in units that only need to agree within a kind of step.
        guess: for kinds that never ran here.
    """
    missing = [step for step in steps if cache.lookup(step.module.NAME, step.key) is None]
    paces: dict[str, list[float]] = {}
    for entry in cache.entries():
        if entry.work:
            paces.setdefault(entry.step, []).append(entry.seconds / entry.work)
    seconds: dict[str, float] = {}
    unknown, guessed = dict[str, None](), dict[str, None]()
    for step in (s for s in missing if s.key in work):
        kind = step.module.NAME
        if kind in paces:
            seconds[step.key] = statistics.median(paces[kind]) * work[step.key]
        elif guess and (found := guess(step)) is not None:
            seconds[step.key] = found
            guessed[kind] = None
        else:
            unknown[kind] = None
    return Forecast(n_missing=len(missing), by_key=seconds, unknown=tuple(unknown), guessed=tuple(guessed))


def waits_for_experts(recipe: Recipe, header: GgufHeader) -> bool:
    """Whether calibration may go on to the end of its text, until each expert saw enough of it."""
    has_experts = (header.number(f"{header.architecture}.expert_count") or 0) > 0
    return recipe.calibration.min_expert_tokens > 0 and has_experts


def work_of(plan: Plan, recipe: Recipe, header: GgufHeader, text_bytes: Mapping[str, int]) -> dict[str, float]:
    """Key → parameters times tokens (or parameters alone) of each costly step.

    Args:
        header: of the original; its rows are taken for as large as it is.
        text_bytes: role → bytes of the text; a token is taken for four.
    """
    n_params = float(header.n_params)
    tokens = {
        role: text.n_ctx * (text.n_chunks or text_bytes.get(role, 0) / 4 / text.n_ctx)
        for role, text in recipe.texts().items()
    }
    if waits_for_experts(recipe, header):  # at the worst
        tokens["calibration"] = max(tokens["calibration"], text_bytes.get("calibration", 0) / 4)
    by_kind = _by_kind(recipe, header) | {"imatrix": n_params * tokens["calibration"]}
    work = {step.key: by_kind[step.module.NAME] for step in plan.steps if step.module.NAME in by_kind}
    work |= {step.key: n_params * tokens[role] for role, step in plan.baselines.items()}
    set_tokens = {task.name: task.n_items * task.n_ctx for task in recipe.tasks}
    for row in plan.rows:
        work |= {step.key: n_params * tokens[role] for role, step in row.evaluations.items()}
        if row.own and row.own.twin:
            work[row.own.twin.evaluate.key] = n_params * tokens["evaluation"]
        work |= {step.key: n_params * set_tokens[step.inputs.name] for step in row.tasks}
    if plan.continuations:
        asked = plan.continuations.inputs
        passed = asked.n_prompts * (asked.n_prompt_tokens + asked.n_tokens)
        work[plan.continuations.key] = n_params * passed * (1 + len(asked.candidates))
    if plan.bench:
        bench = plan.bench.inputs
        work[plan.bench.key] = n_params * bench.repetitions * len(bench.tests) * len(bench.candidates)
    return work


def _by_kind(recipe: Recipe, header: GgufHeader) -> dict[str, float]:
    """Work of the kinds of steps of which each is about as costly."""
    n_params = float(header.n_params)
    n_ctx, pruning = recipe.calibration.n_ctx, recipe.pruning
    work = dict.fromkeys(("convert", "quantize", "search", "lean", "pace", "cut", "parts"), n_params)
    work["sensitivity"] = n_params * recipe.sensitivity.n_windows * n_ctx
    work["grams"] = n_params * recipe.sensitivity.n_gram_windows * n_ctx
    if sets := sets_wanted(recipe):
        window = n_params * header.n_layer * n_ctx
        work["prune"] = window * pruning.n_windows * (2 + max(sets))
        work["heal"] = window * pruning.n_fit_windows * len(sets)
    return work
