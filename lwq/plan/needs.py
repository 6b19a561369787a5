"""What each step of a plan needs: memory at its peak, room on the disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from lwq.bits.mixes import probed
from lwq.gguf.header import read_header
from lwq.llama.requests import logits_bytes
from lwq.plan.memory import START, Footprint, Pass, Peak
from lwq.plan.plan import AnyStep, Plan
from lwq.plan.preview import PlannedFile
from lwq.plan.shape import ModelShape
from lwq.plan.sources import Sources
from lwq.steps import (
    baseline,
    bench,
    convert,
    cut,
    evaluate,
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
from lwq.steps.items import LEAST_PARALLEL
from lwq.steps.step import Made, Origin

_TOKEN_BYTES: Final = 4
"""Of a text; only the model's tokenizer knows better."""
_LONGEST_TOKEN_BYTES: Final = 8
"""Longer ones are not the mean of any text."""
_PROBE_BYTES: Final = sensitivity.PROBE_BPW / 8
_N_RIVALS: Final = 2
"""Mixes of a race whose tensors are mostly different."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """A file that tools load."""

    n_bytes: int
    repacked: int = 0
    """Bytes of it that the CPU's kernels may want in another order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """Bytes that a step writes: what stays, and what it removes at its end."""

    kept: int = 0
    scratch: int = 0


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """A plan, and what is known of its model and its files before it runs."""

    plan: Plan
    sources: Sources
    shape: ModelShape
    files: tuple[PlannedFile, ...]
    room_bytes: int
    """What is kept to save time may take."""
    on_device: bool
    least: bool = False
    """Only what is sure to be needed, whatever is found on the way."""

    @cached_property
    def model(self) -> Footprint:
        room = 0 if self.least else self.room_bytes
        return Footprint(shape=self.shape, room_bytes=room, on_device=self.on_device)

    @cached_property
    def by_key(self) -> Mapping[str, AnyStep]:
        return {step.key: step for step in self.plan.steps}

    @cached_property
    def text_bytes(self) -> Mapping[str, int]:
        """Content hash → bytes of a text."""
        return {t.given.sha256: t.paths[0].stat().st_size for t in self.sources.texts.values()}

    def file(self, origin: Origin) -> ModelFile:
        """A model file as it will be."""
        if not isinstance(origin, Made):
            n_bytes = read_header(self.sources.given()[origin.sha256][0]).file_bytes
            return ModelFile(n_bytes=n_bytes, repacked=n_bytes)
        step = self.by_key[origin.key]
        if step.module.NAME == quantize.NAME:
            planned = self.target(step)
            return ModelFile(n_bytes=planned.file_bytes, repacked=planned.repacked_bytes)
        return ModelFile(n_bytes=self.shape.base_bytes)

    def target(self, step: AnyStep) -> PlannedFile:
        """The file of the target that a step works for."""
        return next(f for f in self.files if f.name == step.title[1])

    def n_windows(self, text: str, n_ctx: int, n_chunks: int | None) -> int:
        """Windows of a text (by its hash), at most."""
        token_bytes = _LONGEST_TOKEN_BYTES if self.least else _TOKEN_BYTES
        found = max(1, self.text_bytes[text] // token_bytes // n_ctx)
        return min(found, n_chunks) if n_chunks else found

    def scored_windows(self, made: Made) -> int:
        """Windows of a baseline."""
        inputs = self.by_key[made.key].inputs
        n, n_vocab = self.n_windows(inputs.text.sha256, inputs.n_ctx, inputs.n_chunks), self.shape.n_vocab
        if not inputs.max_bytes:
            return n
        each = logits_bytes(n_vocab, inputs.n_ctx, 1)
        return max(1, min(n, int(inputs.max_bytes) // each))

    def stored(self, made: Made) -> int:
        """Bytes of a baseline's log-probabilities."""
        n_ctx = int(self.by_key[made.key].inputs.n_ctx)
        return logits_bytes(self.shape.n_vocab, n_ctx, self.scored_windows(made))

    def n_gone(self, counts: tuple[int, ...], layers: tuple[int, ...]) -> int:
        """Layers that are left out at once, at most."""
        found = self.plan.prune.inputs.n_layers if self.plan.prune else 0
        return len(layers) or max(counts, default=found)


def peak_of(step: AnyStep, outlook: Outlook) -> Peak:
    """The most memory of a step, of its largest process."""
    found = _PEAKS.get(step.module.NAME)
    return START.and_then(found(step, outlook)) if found else START


def disk_of(step: AnyStep, outlook: Outlook) -> Disk:
    """What a step writes, small files left out."""
    found = _DISKS.get(step.module.NAME)
    return found(step, outlook) if found else Disk()


def is_base_already(outlook: Outlook, base_type: str) -> bool:
    """Whether the original is its own base, which is then linked."""
    header = outlook.shape.header
    types = {t.ggml_type for t in header.tensors}
    return types <= {base_type, "f32"} and base_type in types and len(header.shards) == 1


# the disk


def _convert_disk(step: AnyStep, o: Outlook) -> Disk:
    return Disk() if is_base_already(o, step.inputs.base_type) else Disk(kept=o.shape.base_bytes)


def _imatrix_disk(step: AnyStep, o: Outlook) -> Disk:
    return Disk(kept=o.model.imatrix_bytes())


def _baseline_disk(step: AnyStep, o: Outlook) -> Disk:
    return Disk(kept=o.stored(Made(step=baseline.NAME, key=step.key, name="")))


def _heal_disk(step: AnyStep, o: Outlook) -> Disk:
    """Repaired tensors of each set, in F32: about one before and one behind each cut, or none."""
    if o.least:
        return Disk()
    _, tensor = o.shape.layer_values
    i = step.inputs
    counts = (len(i.layers),) if i.layers else i.counts or range(1, o.n_gone((), ()) + 1)
    return Disk(kept=sum(4 * tensor * (n + 1) for n in counts))


def _lean_disk(step: AnyStep, o: Outlook) -> Disk:
    """Where layers go, the base without them."""
    return Disk() if o.least else Disk(kept=o.shape.base_bytes + 2 * o.model.imatrix_bytes())


_DISKS: Final[dict[str, Callable[[AnyStep, Outlook], Disk]]] = {
    convert.NAME: _convert_disk,
    imatrix.NAME: _imatrix_disk,
    sensitivity.NAME: _imatrix_disk,
    baseline.NAME: _baseline_disk,
    parts.NAME: lambda step, o: Disk(scratch=o.stored(step.inputs.baseline)),
    quantize.NAME: lambda step, o: Disk(kept=o.target(step).file_bytes),
    cut.NAME: lambda step, o: Disk(kept=o.shape.base_bytes),
    heal.NAME: _heal_disk,
    lean.NAME: _lean_disk,
    pace.NAME: lambda step, o: Disk(
        scratch=o.target(step).file_bytes + (o.shape.base_bytes if step.inputs.heal else 0)
    ),
}

# memory


def _convert(step: AnyStep, o: Outlook) -> Peak:
    if is_base_already(o, step.inputs.base_type):
        return Peak(anonymous=0)
    return o.model.quantizer(2)


def _imatrix(step: AnyStep, o: Outlook) -> Peak:
    i = step.inputs
    return o.model.imatrix(i.n_ctx, o.n_windows(i.text.sha256, i.n_ctx, i.n_chunks))


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
    file, items = o.file(step.inputs.candidate), o.by_key[step.inputs.items.key].inputs
    return o.model.scorer(file.n_bytes, LEAST_PARALLEL * items.n_ctx, repacked=file.repacked)


def _bench(step: AnyStep, o: Outlook) -> Peak:
    peak = Peak(anonymous=0)
    for entrant in step.inputs.candidates:
        file = o.file(entrant.origin)
        for test in step.inputs.tests:
            peak = peak.and_then(o.model.tool(file.n_bytes, _timed(test), repacked=file.repacked))
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
    return o.model.quantizer(o.target(step).bpw / 8)


def _probing(o: Outlook, n_ctx: int, n_windows: int, *, own: int = 0) -> Peak:
    """Probes of single tensors."""
    forms, swapped = int(o.shape.n_params * _PROBE_BYTES), int(o.shape.largest * _PROBE_BYTES)
    held = 2 * o.model.imatrix_bytes() + max(own, o.model.mixer(forms) + swapped)
    return o.model.engine(n_ctx, len(probed(n_ctx)), n_windows, own=held, swapped=swapped)


def _sensitivity(step: AnyStep, o: Outlook) -> Peak:
    return _probing(o, step.inputs.n_ctx, step.inputs.n_windows, own=o.model.curves())


def _mixing(o: Outlook, planned: PlannedFile, n_ctx: int, n_windows: int, *, more: int = 0) -> Peak:
    """A whole mix in place, and the next tensor."""
    form = int(o.shape.largest * planned.bpw / 8)
    held = 2 * o.model.imatrix_bytes() + o.model.mixer(_N_RIVALS * planned.tensor_bytes) + form
    swapped = planned.tensor_bytes + form + more
    return o.model.engine(n_ctx, n_ctx - 1 - n_ctx // 2, n_windows, own=held, swapped=swapped)


def _search(step: AnyStep, o: Outlook) -> Peak:
    i = step.inputs
    raced = _mixing(o, o.target(step), i.n_ctx, i.n_windows)
    return _probing(o, i.probe_n_ctx, 2).and_then(raced)


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
    second = o.model.placed(own=0, native=o.model.context(context), mapped=o.shape.base_bytes)
    return Peak(
        anonymous=one.anonymous + second.anonymous,
        mapped=one.mapped + second.mapped,
        device=one.device + second.device,
    )


def _lean(step: AnyStep, o: Outlook) -> Peak:
    i = step.inputs
    n_gone = o.n_gone((), ())
    raced = _mixing(o, o.target(step), i.n_ctx, i.n_windows, more=2 * o.shape.end_values * n_gone)
    n = o.n_windows(i.fit_text.sha256, i.fit_n_ctx, i.fit_n_chunks)
    return raced.and_then(_proved(o, i.fit_n_ctx, n_gone)).and_then(o.model.imatrix(i.fit_n_ctx, n))


_PEAKS: Final[dict[str, Callable[[AnyStep, Outlook], Peak]]] = {
    convert.NAME: _convert,
    imatrix.NAME: _imatrix,
    baseline.NAME: _baseline,
    evaluate.NAME: _evaluate,
    parts.NAME: _parts,
    tasks.NAME: _tasks,
    bench.NAME: _bench,
    pace.NAME: _pace,
    quantize.NAME: _quantize,
    sensitivity.NAME: _sensitivity,
    search.NAME: _search,
    prune.NAME: _prune,
    heal.NAME: _heal,
    cut.NAME: _cut,
    lean.NAME: _lean,
}
