"""How much each step of a plan computes, for its time where none of its kind ran on this machine before.

Counted roughly, as the steps compute: passes of the whole model over windows, a probe half of one (it starts at the
layer that it changes), weights quantized, bytes written and hashed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from lwq.bits.contest import EXPONENTS, N_PROBE_WINDOWS, N_PROBES, N_SWAPS
from lwq.bits.curves import N_ROWS
from lwq.bits.estimates import N_PROBED
from lwq.layers.healing import method_of
from lwq.layers.mending import RIDGES
from lwq.outlook.outlook import Outlook
from lwq.outlook.shape import ModelShape
from lwq.plan.plan import AnyStep
from lwq.steps import (
    baseline,
    bench,
    continuations,
    convert,
    cut,
    evaluate,
    grams,
    heal,
    imatrix,
    lean,
    pace,
    parts,
    prune,
    quantize,
    search,
    sensitivity,
    tasks,
)
from lwq.steps.step import Made
from lwq.values.compensated import N_SAMPLED_ROWS
from lwq.values.compensation import N_PASSES

_TAIL: Final = 0.55
"""Share of a pass that a change of one tensor makes necessary, on average."""
_N_TIMED: Final = 5
"""Files that a least speed is looked for with."""
_TOKENS_OF_AN_ITEM: Final = 100
"""All choices of a task item together."""
_TEST: Final = 128
_COMPENSATED: Final = 5.0
"""Time to compensate a weight ÷ time to quantize it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """What a step computes."""

    passed: float = 0.0
    """Parameters times tokens, many at once."""
    generated: float = 0.0
    """Parameters times tokens, one after another."""
    quantized: float = 0.0
    """Weights."""
    written: float = 0.0
    """Bytes."""

    def __add__(self, other: Effort) -> Effort:
        return Effort(
            passed=self.passed + other.passed,
            generated=self.generated + other.generated,
            quantized=self.quantized + other.quantized,
            written=self.written + other.written,
        )


def effort_of(step: AnyStep, outlook: Outlook) -> Effort | None:
    """What a step computes; None of the quick ones."""
    found = _EFFORTS.get(step.module.NAME)
    return found(step.inputs, outlook, step) if found else None


def _convert(i: convert.Inputs, o: Outlook, _: AnyStep) -> Effort:
    if o.is_base(i.base_type):
        return Effort(written=o.shape.base_bytes if o.drops(i) else 0.0)
    return Effort(quantized=0.1 * o.shape.n_params, written=o.shape.base_bytes)


def _imatrix(i: imatrix.Inputs, o: Outlook, _: AnyStep) -> Effort:
    n = o.collected_windows(i.text.sha256, i.n_ctx, i.n_chunks, i.min_expert_tokens)
    return Effort(passed=float(o.shape.n_params * i.n_ctx * n))


def _baseline(i: baseline.Inputs, o: Outlook, step: AnyStep) -> Effort:
    made = Made(step=baseline.NAME, key=step.key, name="")
    return Effort(passed=o.shape.n_params * i.n_ctx * o.scored_windows(made), written=o.stored(made))


def _evaluate(i: evaluate.Inputs, o: Outlook, _: AnyStep) -> Effort:
    return Effort(passed=o.shape.n_params * i.n_ctx * o.scored_windows(i.baseline))


def _parts(i: parts.Inputs, o: Outlook, _: AnyStep) -> Effort:
    n = i.n_ctx * o.scored_windows(i.baseline)
    return Effort(passed=3.0 * o.shape.n_params * n, written=o.stored(i.baseline))


def _tasks(i: tasks.Inputs, o: Outlook, _: AnyStep) -> Effort:
    return Effort(passed=o.shape.n_params * o.by_key[i.items.key].inputs.n_items * _TOKENS_OF_AN_ITEM)


def _bench(i: bench.Inputs, o: Outlook, _: AnyStep) -> Effort:
    parts_of = [part for test in i.tests for part in test.split("+")]
    prompts = sum(int(p[2:]) for p in parts_of if p.startswith("pp"))
    generated = sum(int(p[2:]) for p in parts_of if p.startswith("tg"))
    runs = 2.0 * o.shape.n_params * i.repetitions * len(i.candidates)  # each test is warmed up
    return Effort(passed=runs * prompts, generated=runs * generated)


def _continuations(i: continuations.Inputs, o: Outlook, _: AnyStep) -> Effort:
    """All prompts go on side by side: a token of each takes one pass over the weights, as one token alone does."""
    each = float(o.shape.n_params * (1 + len(i.candidates)))
    return Effort(passed=each * i.n_prompts * i.n_prompt_tokens, generated=each * i.n_tokens)


def _sensitivity(i: sensitivity.Inputs, o: Outlook, _: AnyStep) -> Effort:
    matrices = o.shape.matrices
    curves = sum(min(N_ROWS, t.n_elements // t.ne[0]) * t.ne[0] for t in matrices) * len(i.types)
    n_probed = len(matrices)
    if i.probes == "layers":
        n_probed = sum(t.layer is None for t in matrices) + N_PROBED * o.shape.n_layer
    return Effort(
        passed=o.shape.n_params
        * i.n_ctx
        * (i.n_windows * (2 + _TAIL * n_probed) + 16 + len(matrices) / o.shape.n_layer),
        quantized=float(o.shape.n_params + curves),
    )


def _grams(i: grams.Inputs, o: Outlook, _: AnyStep) -> Effort:
    """Of a multiplication by n channels, their Gram matrix takes about as much as the n channels' weights."""
    n_tokens, shape = i.n_ctx * (i.n_windows + grams.N_HELD_WINDOWS), o.shape
    squares = sum(n**2 for n, _ in shape.gathered) / 2
    sampled = sum(t.ne[0] for t in shape.matrices) * N_SAMPLED_ROWS * len(i.types)
    return Effort(passed=n_tokens * (shape.n_params + squares)) + _compensated(sampled, shape)


def _compensated(n_weights: float, shape: ModelShape) -> Effort:
    """Rows meet their whole Gram matrix in each pass; the factor of one takes n³ ÷ 6 multiplications."""
    weights = sum(t.n_elements for t in shape.matrices) or 1
    width = sum(t.n_elements * t.ne[0] for t in shape.matrices) / weights
    factors = sum(n_matrices * n**3 for n, n_matrices in shape.gathered) / 6
    return Effort(passed=n_weights * width * (N_PASSES + 1) + factors, quantized=_COMPENSATED * n_weights)


def _search(i: search.Inputs, o: Outlook, _: AnyStep) -> Effort:
    mixes = 1 + len(EXPONENTS) + len(i.rivals)
    probes = _TAIL * N_PROBES * N_PROBE_WINDOWS * i.probe_n_ctx
    raced = i.n_ctx * (i.n_windows * (1 + mixes + _TAIL * 2 * N_SWAPS) + 3 * i.n_confirmation_windows)
    stock = Effort(passed=o.shape.n_params * (probes + raced), quantized=float(o.shape.n_params * mixes))
    # most tensors have the same type in several of the mixes
    return stock + _compensated(1.5 * o.shape.n_params, o.shape) if i.grams else stock


def _prune(i: prune.Inputs, o: Outlook, _: AnyStep) -> Effort:
    n_layer, windows = o.shape.n_layer, i.n_windows * i.n_ctx
    scores = 3 * n_layer * windows * _TAIL
    sets = i.n_layers * n_layer * windows * _TAIL
    return Effort(passed=o.shape.n_params * (scores + sets + 16 * i.n_ctx))


def _heal(i: heal.Inputs, o: Outlook, _: AnyStep) -> Effort:
    """A solution of n equations takes about n³ multiplications."""
    n_sets = 1 if i.layers else len(i.counts) or max(1, o.n_gone((), ()))
    wide = max((t.ne[0] for t in o.shape.matrices if t.tensor_class == "ffn_down"), default=0)
    n_tried = len(RIDGES) * o.shape.n_layer // 2
    solves = float(wide if method_of(wide) == "refit" else o.shape.n_embd)
    fitted = i.n_ctx * (2 * i.n_fit_windows + _TAIL * n_tried * i.n_windows)
    sums = i.n_fit_windows * i.n_ctx * o.shape.n_layer / 2 * wide * solves
    return Effort(passed=n_sets * (o.shape.n_params * fitted + n_tried * solves**3 + sums))


def _cut(i: cut.Inputs, o: Outlook, _: AnyStep) -> Effort:
    return Effort(passed=4.0 * o.shape.n_params * i.n_ctx, written=o.shape.base_bytes)


def _lean(i: lean.Inputs, o: Outlook, _: AnyStep) -> Effort:
    raced = i.n_ctx * (i.n_windows * (2 + o.n_gone((), ())) + 3 * i.n_confirmation_windows)
    n_collected = o.collected_windows(i.fit_text.sha256, i.fit_n_ctx, i.fit_n_chunks, i.min_expert_tokens)
    fitted = i.fit_n_ctx * (20 + n_collected)
    return Effort(
        passed=o.shape.n_params * (raced + fitted), quantized=2.0 * o.shape.n_params, written=o.shape.base_bytes
    )


def _pace(_: pace.Inputs, o: Outlook, step: AnyStep) -> Effort:
    n_models = 1 + (o.n_gone((), ()) if step.inputs.heal else 0)
    each = Effort(
        quantized=o.shape.n_params, generated=4.0 * o.shape.n_params * _TEST, written=o.target(step).file_bytes
    )
    total = Effort()
    for _number in range(_N_TIMED * n_models):
        total += each
    return total


def _quantize(i: quantize.Inputs, o: Outlook, step: AnyStep) -> Effort:
    searched = i.completed is not None  # then nearly all tensors are there already
    stock = Effort(quantized=float(o.shape.n_params), written=o.target(step).file_bytes)
    return stock + _compensated(o.shape.n_params, o.shape) if i.grams and not searched else stock


_EFFORTS: Final[dict[str, Callable[[Any, Outlook, AnyStep], Effort]]] = {
    convert.NAME: _convert,
    imatrix.NAME: _imatrix,
    baseline.NAME: _baseline,
    evaluate.NAME: _evaluate,
    parts.NAME: _parts,
    tasks.NAME: _tasks,
    bench.NAME: _bench,
    continuations.NAME: _continuations,
    sensitivity.NAME: _sensitivity,
    grams.NAME: _grams,
    search.NAME: _search,
    prune.NAME: _prune,
    heal.NAME: _heal,
    cut.NAME: _cut,
    lean.NAME: _lean,
    pace.NAME: _pace,
    quantize.NAME: _quantize,
}
