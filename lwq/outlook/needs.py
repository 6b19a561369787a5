"""What memory each step of a plan needs at its peak."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from lwq.bits.mixes import probed
from lwq.engine.session import BESIDE
from lwq.outlook.memory import LWQ_BYTES, START, Pass, Peak, padded
from lwq.outlook.outlook import ModelFile, Outlook
from lwq.plan.plan import AnyStep
from lwq.plan.preview import PlannedFile
from lwq.steps import (
    baseline,
    bench,
    contexts,
    continuations,
    convert,
    cut,
    evaluate,
    grams,
    heal,
    imatrix,
    items,
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
from lwq.values.collecting import MATRIX_BYTES

_PROBE_BYTES: Final = sensitivity.PROBE_BPW / 8
_CONVERTER_BYTES: Final = 700 << 20
"""Of the converter itself (PyTorch, transformers, a vocabulary), before any tensor; measured on tiny folders."""
_N_RIVALS: Final = 2
"""Mixes of a race whose tensors are mostly different."""


def peak_of(step: AnyStep, outlook: Outlook) -> Peak:
    """The most memory of a step, of its largest process."""
    found = _PEAKS.get(step.module.NAME)
    return START.and_then(found(step, outlook)) if found else START


def _convert(step: AnyStep, o: Outlook) -> Peak:
    after = Peak(anonymous=0) if o.is_base(step.inputs.base_type) else o.model.quantizer(2)
    if step.inputs.kind == "hf-folder":
        return max(after, Peak(anonymous=_CONVERTER_BYTES + 8 * o.shape.largest), key=lambda peak: peak.resident)
    return after


def _imatrix(step: AnyStep, o: Outlook) -> Peak:
    i = step.inputs
    return o.model.imatrix(i.n_ctx, o.collected_windows(i.text.sha256, i.n_ctx, i.n_chunks, i.min_expert_tokens))


def _baseline(step: AnyStep, o: Outlook) -> Peak:
    i = step.inputs
    n = o.scored_windows(Made(step=baseline.NAME, key=step.key, name=""))
    return o.model.perplexity(o.shape.base_bytes, i.n_ctx, n, stores=True)


def _evaluate(step: AnyStep, o: Outlook) -> Peak:
    i = step.inputs
    return _compared(o, o.file(i.candidate), i.n_ctx, o.scored_windows(i.baseline))


def _compared(o: Outlook, file: ModelFile, n_ctx: int, n_windows: int) -> Peak:
    return o.model.perplexity(file.n_bytes, n_ctx, n_windows, stores=False, repacked=file.repacked)


def _parts(step: AnyStep, o: Outlook) -> Peak:
    i = step.inputs
    n, base = o.scored_windows(i.baseline), o.file(i.base)
    stored = o.model.perplexity(base.n_bytes, i.n_ctx, n, stores=True)
    return stored.and_then(_compared(o, o.file(i.candidate), i.n_ctx, n))


def _tasks(step: AnyStep, o: Outlook) -> Peak:
    file, drawn = o.file(step.inputs.candidate), o.by_key[step.inputs.items.key].inputs
    return o.model.scorer(file.n_bytes, items.LEAST_PARALLEL * drawn.n_ctx, repacked=file.repacked)


def _bench(step: AnyStep, o: Outlook) -> Peak:
    peak = Peak(anonymous=0)
    for entrant in step.inputs.candidates:
        file = o.file(entrant.origin)
        for test in step.inputs.tests:
            peak = peak.and_then(o.model.tool(file.n_bytes, _timed(test), repacked=file.repacked))
    return peak


def _continuations(step: AnyStep, o: Outlook) -> Peak:
    i = step.inputs
    given = i.n_prompts * (i.n_prompt_tokens + 1)
    used = Pass(n_cells=padded(given + i.n_prompts * i.n_tokens), n_tokens=min(512, given), n_scored=i.n_prompts)
    peak = Peak(anonymous=0)
    for origin in (i.base, *i.candidates):
        file = o.file(origin)
        peak = peak.and_then(o.model.tool(file.n_bytes, used, own=LWQ_BYTES, repacked=file.repacked))
    return peak


def _timed(test: str) -> Pass:
    """``pp512``, ``tg128`` or ``pp1024+tg1024``: one token of it is scored."""
    n = sum(int(part[2:]) for part in test.split("+"))
    return Pass(n_cells=-(-n // 256) * 256, n_tokens=min(n, 512), n_scored=1)


def _pace(step: AnyStep, o: Outlook) -> Peak:
    planned = o.target(step)
    timed = o.model.tool(planned.file_bytes, _timed("tg128"), repacked=planned.repacked_bytes)
    return o.model.quantizer(planned.bpw / 8).and_then(timed)


def _quantize(step: AnyStep, o: Outlook) -> Peak:
    written = o.model.quantizer(o.target(step).bpw / 8)
    return written.and_then(Peak(anonymous=LWQ_BYTES + o.model.compensated())) if step.inputs.grams else written


def _probing(o: Outlook, n_ctx: int, n_windows: int, *, own: int = 0) -> Peak:
    """Probes of single tensors."""
    forms, swapped = int(o.shape.n_params * _PROBE_BYTES), int(o.shape.largest * _PROBE_BYTES)
    held = 2 * o.model.imatrix_bytes() + max(own, o.model.mixer(forms) + swapped)
    return o.model.engine(n_ctx, len(probed(n_ctx)), n_windows, own=held, swapped=swapped)


def _sensitivity(step: AnyStep, o: Outlook) -> Peak:
    return _probing(o, step.inputs.n_ctx, step.inputs.n_windows, own=o.model.curves())


def _mixing(o: Outlook, planned: PlannedFile, n_ctx: int, n_windows: int, *, n_mixes: int = 1, more: int = 0) -> Peak:
    """A whole mix in place, and the next tensor; ``n_mixes`` of which tensors are kept while there is room."""
    form = int(o.shape.largest * planned.bpw / 8)
    held = 2 * o.model.imatrix_bytes() + o.model.mixer(n_mixes * planned.tensor_bytes) + form
    swapped = planned.tensor_bytes + form + more
    return o.model.engine(n_ctx, n_ctx - 1 - n_ctx // 2, n_windows, own=held, swapped=swapped)


def _grams(step: AnyStep, o: Outlook) -> Peak:
    """Windows are computed one at a time and stand between two layers each; no logits are kept."""
    i = step.inputs
    n_windows = min(i.n_windows, o.n_windows(i.text.sha256, i.n_ctx, None)) + grams.N_HELD_WINDOWS
    standing = 4 * i.n_ctx * (2 * o.shape.n_embd + padded(i.n_ctx)) * n_windows
    return o.model.engine(
        i.n_ctx, i.n_ctx - 1, 0, own=standing + max(o.model.summed(MATRIX_BYTES), o.model.compensated())
    )


def _search(step: AnyStep, o: Outlook) -> Peak:
    i = step.inputs
    more = o.model.compensated() if i.grams else 0
    n_windows = max(i.n_windows, i.n_confirmation_windows)
    raced = _mixing(o, o.target(step), i.n_ctx, n_windows, n_mixes=_N_RIVALS)
    raced = replace(raced, anonymous=raced.anonymous + more)
    return _probing(o, i.probe_n_ctx, 2, own=more).and_then(raced)


def _prune(step: AnyStep, o: Outlook) -> Peak:
    i = step.inputs
    streams = 2 * (o.shape.n_layer + 1) * i.n_ctx * o.shape.n_embd * 4
    looked = o.model.engine(i.n_ctx, i.n_ctx, 1, own=max(streams, o.model.weights_of_a_layer()))
    gone = 2 * o.shape.end_values * max(1, i.n_layers)
    return looked.and_then(o.model.engine(i.n_ctx, len(probed(i.n_ctx)), 2 * i.n_windows, swapped=gone))


def _heal(step: AnyStep, o: Outlook) -> Peak:
    i = step.inputs
    _, tensor = o.shape.layer_values
    gone = 2 * (o.shape.end_values * o.n_gone(i.counts, i.layers) + 2 * tensor)
    own = o.model.repair(i.n_fit_windows, i.n_ctx)
    return o.model.engine(i.n_ctx, len(probed(i.n_ctx)), i.n_windows, own=own, swapped=gone)


def _cut(step: AnyStep, o: Outlook) -> Peak:
    i = step.inputs
    return _proved(o, i.n_ctx, o.n_gone((i.count,) if i.count else (), i.layers))


def _proved(o: Outlook, n_ctx: int, n_gone: int) -> Peak:
    """Two models loaded: the original and what was written without layers."""
    one = o.model.engine(n_ctx, len(probed(n_ctx)), 1, swapped=2 * o.shape.end_values * n_gone)
    context = Pass(n_cells=n_ctx, n_tokens=n_ctx, n_scored=len(probed(n_ctx)))
    base = o.shape.base_bytes
    share = o.model.share(base, beside=BESIDE)
    second = o.model.placed(own=0, native=o.model.context(context), mapped=base, share=share)
    return Peak(
        anonymous=one.anonymous + second.anonymous,
        mapped=one.mapped + second.mapped,
        device=one.device + second.device,
    )


def _lean(step: AnyStep, o: Outlook) -> Peak:
    i = step.inputs
    n_gone = o.n_gone((), ())
    n_windows = max(i.n_windows, i.n_confirmation_windows)
    raced = _mixing(o, o.target(step), i.n_ctx, n_windows, more=2 * o.shape.end_values * n_gone)
    n = o.collected_windows(i.fit_text.sha256, i.fit_n_ctx, i.fit_n_chunks, i.min_expert_tokens)
    return raced.and_then(_proved(o, i.fit_n_ctx, n_gone)).and_then(o.model.imatrix(i.fit_n_ctx, n))


_PEAKS: Final[dict[str, Callable[[AnyStep, Outlook], Peak]]] = {
    convert.NAME: _convert,
    imatrix.NAME: _imatrix,
    baseline.NAME: _baseline,
    evaluate.NAME: _evaluate,
    parts.NAME: _parts,
    tasks.NAME: _tasks,
    bench.NAME: _bench,
    contexts.NAME: lambda step, o: Peak(anonymous=LWQ_BYTES + o.model.vocabulary(), mapped=START.mapped),
    continuations.NAME: _continuations,
    items.NAME: lambda step, o: Peak(anonymous=LWQ_BYTES, mapped=START.mapped),
    pace.NAME: _pace,
    quantize.NAME: _quantize,
    sensitivity.NAME: _sensitivity,
    grams.NAME: _grams,
    search.NAME: _search,
    prune.NAME: _prune,
    heal.NAME: _heal,
    cut.NAME: _cut,
    lean.NAME: _lean,
}
