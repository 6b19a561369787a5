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
from lwq.bits.estimates import N_PROBED, carried_errors, carrying_layers, estimated, loudest
from lwq.bits.frontier import frontier
from lwq.bits.mixes import Mixer, probed
from lwq.bits.output_importance import output_entry, write_with
from lwq.bits.stock import unread
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
from lwq.recipe.constraints import NEED_IMPORTANCE, UNREAD_TYPE, Constraints, legal_types
from lwq.record.search import Coverage, FrontierPoint, TensorSensitivity
from lwq.steps.step import Context, Given, Made, Origin

NAME = "sensitivity"
VERSION = 4
USES_TOOLS = True
IN_PROCESS = True
PROBE_BPW: Final = 4.5
_FAINT: Final = 1e-7
_LOUD: Final = 0.5
_N_OBSERVED: Final = 4
_N_OUTPUT: Final = 16
"""Windows from which the importance of the output tensor is collected."""


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
    """Time that probes may take beyond those that estimates need; None: those alone."""


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
        self.on_done = ctx.counted(2 * len(targets))
        self.spent = 0.0

    def all(self, observed: Tokens) -> Iterator[TensorSensitivity]:
        """Every tensor, in file order; probed from the last layer to the first."""
        curves = self._curves(observed)
        carried = self._carried(curves)
        open_ = {name for errors in carried.values() for name in errors.keys() - set(loudest(errors))}
        late_first = sorted(self.targets, key=lambda t: (-self.engine.place(t.name), t.name))
        probes = {t.name: self._probe(t, curves[t.name]) for t in late_first if t.name not in open_}
        likely = self._estimates(curves, carried, probes)
        for tensor in self.targets:
            curve, is_probed = curves[tensor.name], tensor.name in probes
            first = _first_type(curve)
            probe_type, kld = probes[tensor.name] if is_probed else (first, likely[tensor.name])
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

    def _carried(self, curves: Mapping[str, Mapping[str, float]]) -> dict[int, dict[str, float]]:
        """Layer → tensor → error at its end, of the layers of which not all tensors are probed."""
        layers = carrying_layers(self.engine) if self.inputs.probes == "layers" else ()
        found = {}
        for layer in sorted(layers):
            names = [t.name for t in self.targets if t.layer == layer and self._is_read(t.name)]
            types = {name: _first_type(curves[name]) for name in names}
            if len(types) > N_PROBED:
                errors = partial(carried_errors, self.mixer, layer, types)
                found[layer] = self.pieces.get(f"carried/{layer}", errors)
        return found

    def _estimates(
        self,
        curves: Mapping[str, Mapping[str, float]],
        carried: Mapping[int, Mapping[str, float]],
        probes: dict[str, tuple[str, Estimate]],
    ) -> dict[str, Estimate]:
        """What the open probes would show, once those that could be wrong by most were made, while time lasts."""

        def likely() -> dict[str, Estimate]:
            shown = {n: _at_first(curves[n], q, kld.value) for n, (q, kld) in probes.items()}
            return estimated(tuple(carried.values()), shown)

        first, limit = likely(), 60 * (self.inputs.minutes or 0)
        tensors = {t.name: t for t in self.targets}
        for name in sorted(first, key=lambda n: (-(first[n].stderr or 0.0), n)):
            if self.spent < limit:
                probes[name] = self._probe(tensors[name], curves[name])
            else:
                self.on_done()
        return likely()

    def _curves(self, observed: Tokens) -> dict[str, dict[str, float]]:
        missing = [t.name for t in self.targets if f"curve/{t.name}" not in self.pieces.by_key]
        seen = observe_activations(self.engine, observed, missing)
        assert self.engine.graph
        ggml = self.engine.ggml
        backend = ggml.backend(ggml.device_of(self.engine.graph.result()) or ggml.cpu, self.engine.n_threads)
        product = Product(ggml, backend)

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
        began = time.monotonic()
        by_size = sorted(curve, key=lambda q: (type_bpw(q), q))
        at = by_size.index(_first_type(curve))
        kld = self.measured(tensor.name, by_size[at])
        while kld.value < _FAINT and at > 0 and curve[by_size[at]] > 0:
            at -= 1
            kld = self.measured(tensor.name, by_size[at])
        while kld.value > _LOUD and at < len(by_size) - 1:
            at += 1
            kld = self.measured(tensor.name, by_size[at])
        if self.inputs.minutes:
            self.spent += self.pieces.get(f"seconds/{tensor.name}", partial(_since, began))
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


def _at_first(curve: Mapping[str, float], probe_type: str, kld: float) -> float:
    """A probe's KLD in the type in which tensors are probed first."""
    first = _first_type(curve)
    return kld if probe_type == first else kld * curve[first] / curve[probe_type] if curve[probe_type] > 0 else 0.0


def _since(began: float) -> float:
    return time.monotonic() - began


def _notes(tensors: tuple[TensorSensitivity, ...], importance: Mapping[str, Floats]) -> Iterator[str]:
    unseen = unread(tensors)
    bare = [t.tensor for t in tensors if t.tensor not in importance and t.tensor not in unseen]
    if bare:
        needy = ", ".join(sorted(NEED_IMPORTANCE))
        yield (
            f"No importance data for {_listed(bare)}: quantized unweighted, and never to {needy}, which llama-quantize"
            " refuses without them."
        )
    if unseen:
        yield (
            f"Predicting the next token does not read {_listed(sorted(unseen))}: not measured; each gets the type that"
            " the stock mix of its budget gives it."
        )
    still = [t.tensor for t in tensors if t.kld.value == 0.0 and t.tensor not in unseen]
    if still:
        yield f"Changing {_listed(still)} changed nothing that could be measured: the smallest type serves."


def _listed(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
