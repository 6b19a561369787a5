"""How much each tensor matters, on the calibration text: a curve of local errors for each, a measured probe for some.

The probe swaps one tensor in process to a coarse type and measures the KLD of the whole model; what it would show of
the other tensors is estimated. What llama-imatrix never collects, the importance of a tied token embedding (or of the
output tensor), is collected on the way.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from lwq.bits.curves import observe_activations, relative_errors, slices
from lwq.bits.estimates import Guess, comparable, guesses, worth_probing
from lwq.bits.frontier import frontier
from lwq.bits.mixes import Mixer, probed
from lwq.bits.output_importance import output_entry, write_with
from lwq.engine.engine import Engine
from lwq.engine.product import Product
from lwq.engine.session import spread_over
from lwq.gguf.header import read_header
from lwq.gguf.imatrix import read_imatrix
from lwq.gguf.importance import importance_rows
from lwq.gguf.types import TensorInfo, type_bpw
from lwq.llama import tools
from lwq.llama.requests import DryRunRequest
from lwq.metrics.arrays import Floats, Tokens
from lwq.metrics.values import Estimate
from lwq.recipe.constraints import NEED_IMPORTANCE, Constraints, legal_types
from lwq.record.search import Coverage, FrontierPoint, TensorSensitivity
from lwq.steps.step import Context, Given, Made, Origin

NAME = "sensitivity"
VERSION = 3
USES_TOOLS = True
PROBE_BPW: Final = 4.5
UNREAD_TYPE: Final = "q8_0"
_FAINT: Final = 1e-7
_LOUD: Final = 0.5
_N_OBSERVED: Final = 4
_N_OUTPUT: Final = 16
"""Windows from which the importance of the output tensor is collected."""
_SHARE: Final = 1 / 3
"""Of the tensors that are alike enough to be estimated from each other, the share that is probed."""
_LEAST: Final = 4
"""Probes at least for each tensor class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    base: Made
    imatrix: Origin
    text: Given
    n_ctx: int
    n_windows: int
    """Windows that a probe is scored on at most; fewer where its error is small already."""
    types: tuple[str, ...]
    probes: Coverage
    minutes: float | None
    """Time after which no further tensor is probed; then all may be, as far as it reaches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    file: str
    output_tensor: str
    n_scored: int
    n_windows: int
    tensors: tuple[TensorSensitivity, ...]
    frontier: tuple[FrontierPoint, ...]
    """Best predicted allocations of all types measured, by size."""
    notes: tuple[str, ...]


def file_of(imatrix: Origin) -> str:
    """The name of the importance matrix with the output tensor."""
    return f"{imatrix.name.removesuffix('.gguf')}-output.gguf"


def run(inputs: Inputs, ctx: Context) -> Result:
    """Curve and probe of every tensor that llama-quantize may convert.

    Raises:
        ModelError: values that are not finite; an imatrix of another model; a text without two windows.
    """
    n_ctx, base = inputs.n_ctx, ctx.find(inputs.base)
    entries = read_imatrix(ctx.find(inputs.imatrix)).entries
    importance_rows(entries, read_header(base).tensors)  # of this model, before an entry of it is added
    targets = quantizable(inputs, ctx)
    with Engine(ctx.toolchain, base, n_ctx=n_ctx, n_threads=ctx.n_threads, scored=probed(n_ctx)) as engine:
        windows = engine.cut_file(ctx.find(inputs.text), inputs.text.name)
        engine.set_windows(spread_over(windows, inputs.n_windows))
        output = output_entry(engine, spread_over(windows, _N_OUTPUT), entries)
        write_with(ctx.find(inputs.imatrix), output, ctx.folder / file_of(inputs.imatrix))
        importance = importance_rows((*entries, *output), targets)
        measuring = _Measuring(inputs, ctx, engine, targets, importance)
        tensors = tuple(measuring.all(spread_over(windows, _N_OBSERVED)))
        return Result(
            file=file_of(inputs.imatrix),
            output_tensor=output[0].name if output else "",
            n_scored=engine.n_scored * len(engine.windows),
            n_windows=len(engine.windows),
            tensors=tensors,
            frontier=frontier(engine.header, tensors, Constraints(types=inputs.types)),
            notes=tuple(_notes(tensors, importance)),
        )


def quantizable(inputs: Inputs, ctx: Context) -> tuple[TensorInfo, ...]:
    """The tensors that llama-quantize may convert, asked of it in a dry run."""
    request = DryRunRequest(model=ctx.place(inputs.base), ftype="Q8_0", imatrix=ctx.place(inputs.imatrix))
    answer = tools.dry_run(ctx.toolchain, request, cwd=ctx.folder)
    names = {t.name for t in answer.plan.tensors if t.target_type != t.source_type}
    return tuple(t for t in read_header(ctx.find(inputs.base)).tensors if t.name in names)


class _Measuring:
    """One engine's measurements, each a piece that is kept."""

    def __init__(
        self,
        inputs: Inputs,
        ctx: Context,
        engine: Engine,
        targets: tuple[TensorInfo, ...],
        importance: Mapping[str, Floats],
    ) -> None:
        self.inputs, self.ctx, self.engine, self.targets, self.importance = inputs, ctx, engine, targets, importance
        self.pieces = ctx.pieces()
        self.mixer = Mixer(engine, importance)
        self.always, self.likely = self._split()
        self.on_done = ctx.counted(len(targets) + len(self.always) + len(self.likely))

    def _split(self) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
        """(tensors that are always probed, tensors that may be probed, the most telling first).

        Where no layer's end is known, nobody has tried whether estimates hold: all are probed.
        """
        assert self.engine.graph
        alike = comparable(self.targets, _LEAST) if self.engine.graph.boundaries else ()
        alike = tuple(t for t in alike if self._is_read(t.name))
        if self.inputs.probes == "all":
            return self.targets, ()
        n_classes = len({t.tensor_class for t in alike})
        n = len(alike) if self.inputs.minutes else max(round(_SHARE * len(alike)), _LEAST * n_classes)
        return tuple(t for t in self.targets if t not in alike), worth_probing(alike, n)

    def all(self, observed: Tokens) -> Iterator[TensorSensitivity]:
        """Every tensor, in file order."""
        curves = self._curves(observed)
        probes = {t.name: self._probe(t, curves[t.name]) for t in self.always}
        probes |= self._sample(curves)
        alphas = {n: kld.value / curves[n][q] for n, (q, kld) in probes.items() if curves[n][q] > 0 and kld.value > 0}
        likely = guesses(comparable(self.targets, 0), alphas, {t.name for t in self.targets} - probes.keys())
        for tensor in self.targets:
            curve = curves[tensor.name]
            is_probed = tensor.name in probes
            probe_type, kld = probes[tensor.name] if is_probed else _expected(curve, likely[tensor.name])
            yield TensorSensitivity(
                tensor=tensor.name,
                layer=tensor.layer,
                tensor_class=tensor.tensor_class,
                n_elements=tensor.n_elements,
                probe_type=probe_type,
                kld=kld,
                alpha=kld.value / curve[probe_type] if curve[probe_type] > 0 else 0.0,
                errors=tuple(curve.items()),
                is_probed=is_probed,
            )

    def _sample(self, curves: Mapping[str, Mapping[str, float]]) -> dict[str, tuple[str, Estimate]]:
        """Probes of those that may be probed, as long as the time that was given lasts."""
        limit, spent = self.inputs.minutes, 0.0
        n_least = _LEAST * len({t.tensor_class for t in self.likely})
        probes = {}
        for i, tensor in enumerate(self.likely):
            if limit and spent > 60 * limit and i >= n_least:
                break
            began = time.monotonic()
            probes[tensor.name] = self._probe(tensor, curves[tensor.name])
            spent += self.pieces.get(f"seconds/{tensor.name}", partial(_since, began))
        return probes

    def _curves(self, observed: Tokens) -> dict[str, dict[str, float]]:
        missing = [t.name for t in self.targets if f"curve/{t.name}" not in self.pieces.by_key]
        seen = observe_activations(self.engine, observed, missing)
        assert self.engine.graph
        backend = self.engine.ggml.backend(self.engine.graph.result(), self.engine.n_threads)
        product = Product(self.engine.ggml, backend)

        def curve(tensor: TensorInfo) -> dict[str, float]:
            rows = slices(self.engine, tensor.name, seen.get(tensor.name), self.importance.get(tensor.name))
            types = self.inputs.types if self._is_read(tensor.name) else (UNREAD_TYPE,)
            types = legal_types(tensor, types, has_importance=tensor.name in self.importance)
            return relative_errors(self.engine, product, rows, tensor.ggml_type, types)

        curves = {}
        for tensor in self.targets:
            curves[tensor.name] = self.pieces.get(f"curve/{tensor.name}", partial(curve, tensor))
            self.on_done()
        self.engine.ggml.lib.ggml_backend_free(backend)
        return curves

    def _is_read(self, name: str) -> bool:
        """Whether predicting text uses the tensor at all; heads that predict further tokens are not used."""
        assert self.engine.graph
        return name in self.engine.graph.weights

    def _probe(self, tensor: TensorInfo, curve: Mapping[str, float]) -> tuple[str, Estimate]:
        """The probe whose effect is neither lost in rounding nor beyond the linear range."""
        by_size = sorted(curve, key=lambda q: (type_bpw(q), q))
        at = by_size.index(_first_type(curve))
        kld = self.measured(tensor.name, by_size[at])
        while kld.value < _FAINT and at > 0 and curve[by_size[at]] > 0:
            at -= 1
            kld = self.measured(tensor.name, by_size[at])
        while kld.value > _LOUD and at < len(by_size) - 1:
            at += 1
            kld = self.measured(tensor.name, by_size[at])
        self.on_done()
        return by_size[at], kld

    def measured(self, name: str, ggml_type: str) -> Estimate:
        """KLD with that tensor alone in that type, on as many windows as its error asks for."""
        if not self._is_read(name):
            return Estimate(value=0.0, stderr=0.0, unit="nats")
        value, error = self.pieces.get(f"probe/{name}/{ggml_type}", partial(self.mixer.measured, name, ggml_type))
        return Estimate(value=value, stderr=error, unit="nats")


def _first_type(curve: Mapping[str, float]) -> str:
    """The type in which a tensor is probed first."""
    return min(curve, key=lambda q: (abs(type_bpw(q) - PROBE_BPW), q != "q4_K", q))


def _expected(curve: Mapping[str, float], guess: Guess) -> tuple[str, Estimate]:
    """What the first probe of a tensor is likely to show."""
    probe_type = _first_type(curve)
    kld = guess.alpha * curve[probe_type]
    return probe_type, Estimate(value=kld, stderr=kld * guess.spread, unit="nats")


def _since(began: float) -> float:
    return time.monotonic() - began


def _notes(tensors: tuple[TensorSensitivity, ...], importance: Mapping[str, Floats]) -> Iterator[str]:
    bare = [t.tensor for t in tensors if t.tensor not in importance]
    if bare:
        needy = ", ".join(sorted(NEED_IMPORTANCE))
        yield (
            f"No importance data for {_listed(bare)}: quantized unweighted, and never to {needy}, which llama-quantize"
            " refuses without them."
        )
    unread = [t.tensor for t in tensors if t.kld.value == 0.0 and [q for q, _ in t.errors] == [UNREAD_TYPE]]
    if unread:
        yield f"Predicting text does not read {_listed(unread)}: kept at {UNREAD_TYPE}; no damage can be measured."
    still = [t.tensor for t in tensors if t.kld.value == 0.0 and t.tensor not in unread]
    if still:
        yield f"Changing {_listed(still)} changed nothing that could be measured: the smallest type serves."


def _listed(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
