"""What each layer is worth: scores of the literature, measured damage of its removal, and the best sets to remove.

All on the calibration text; healing and the choice between candidates come later, on the selection text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from lwq.bits.damage import damages
from lwq.bits.mixes import probed
from lwq.bits.options import groups
from lwq.bits.stock import mix_and_bytes, with_unread
from lwq.engine.engine import Engine
from lwq.engine.session import spread_over
from lwq.engine.swapping import ENDS
from lwq.errors import ModelError
from lwq.gguf.data import read_tensor
from lwq.gguf.header import GgufHeader
from lwq.gguf.imatrix import read_imatrix
from lwq.gguf.importance import importance_rows
from lwq.gguf.statistics import ImatrixEntry, layer_statistics, tensor_statistics
from lwq.layers.cuts import Cuts, Removal, grow
from lwq.layers.pruning import NAME_THEM, barred_layers
from lwq.layers.scores import StreamStatistics, lowest, nearest_run, weights_above
from lwq.metrics.arrays import Floats, Tokens
from lwq.recipe.budget import Budget
from lwq.recipe.constraints import Constraints
from lwq.record.prune import LayerScore, RemovedSet
from lwq.record.search import TensorSensitivity
from lwq.steps.step import Context, Given, Made, Origin

NAME = "prune"
VERSION = 2
USES_TOOLS = True
IN_PROCESS = True
_N_STREAMS = 16
"""Windows from which the scores of activations are computed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A budget for which layers may go."""

    budget: Budget
    constraints: Constraints


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    base: Made
    imatrix: Origin
    text: Given
    n_ctx: int
    n_windows: int
    """Windows on which a layer is scored; sets race on up to twice as many, and those far behind stop."""
    n_layers: int
    """Sets of 1 to so many layers are looked for; 0: scores only."""
    sensitivity: Made | None
    budgets: tuple[Wanted, ...]
    """Sets grow until the smallest allowed types fit each of these."""
    beam: int
    contiguous: bool
    allow_edge: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    layers: tuple[LayerScore, ...]
    sets: tuple[RemovedSet, ...]
    """By number of layers, from one."""
    n_windows: int
    n_scored: int
    """Scored tokens of these windows."""
    n_set_windows: int
    """Windows on which sets raced at most."""
    base_ppl: float
    barred: tuple[tuple[int, str], ...]
    """(layer, why it may not go)."""


def run(inputs: Inputs, ctx: Context) -> Result:
    """Scores of all layers, and the best sets to remove.

    Raises:
        ModelError: an imatrix of another model; an architecture whose layers cannot be left out; a text too short.
    """
    entries = read_imatrix(ctx.find(inputs.imatrix)).entries
    pieces = ctx.pieces(inputs.base.key)  # scores of a layer serve every number of layers and every budget
    prefix = f"{NAME} {VERSION}, {inputs.text.sha256[:16]}, {inputs.n_ctx}, {inputs.n_windows}"
    base, n_ctx = ctx.find(inputs.base), inputs.n_ctx
    with Engine(ctx.toolchain, base, n_ctx=n_ctx, n_threads=ctx.n_threads, scored=probed(n_ctx)) as engine:
        header, n_layer = engine.header, engine.header.n_layer
        _check_imatrix(entries, header, inputs.imatrix.name)
        windows = engine.cut_file(ctx.find(inputs.text), inputs.text.name)
        streams = pieces.get(f"{prefix}/streams", partial(_streams, engine, windows))
        engine.set_windows(_in_turn(spread_over(windows, 2 * inputs.n_windows)))
        barred = barred_layers(header, allow_edge=inputs.allow_edge)
        candidates = [layer for layer in range(n_layer) if layer not in barred]
        on_done = ctx.counted(3 * n_layer + inputs.n_layers * len(candidates))
        cuts = Cuts(engine=engine, pieces=pieces, text=prefix, on_done=on_done)
        cuts.check(range(n_layer))
        cossim = {row.layer: row.cossim for row in layer_statistics(tensor_statistics(entries))}
        scored = range(min(inputs.n_windows, len(engine.windows)))
        scores = tuple(_score(cuts, layer, scored, streams[layer], cossim.get(layer)) for layer in range(n_layer))
        n = max((inputs.n_layers, *_needed(inputs, ctx, header, candidates)))
        named = partial(suggested, scores, candidates)
        sets = grow(cuts, candidates, n, beam=inputs.beam, contiguous=inputs.contiguous, suggested=named)
        return Result(
            layers=scores,
            sets=tuple(_removed(s) for s in sets),
            n_windows=len(scored),
            n_scored=engine.n_scored * len(scored),
            n_set_windows=len(engine.windows),
            base_ppl=engine.score(windows=scored).ppl,
            barred=tuple(barred.items()),
        )


def _check_imatrix(entries: Sequence[ImatrixEntry], header: GgufHeader, name: str) -> None:
    """Raises ModelError for an importance matrix of another model."""
    importance_rows(entries, header.tensors)
    if strange := sorted({e.name for e in entries} - {t.name for t in header.tensors}):
        raise ModelError(
            f"{name}: has data for {strange[0]}, which this model does not have",
            hint="it was collected from another model; leave --imatrix out to collect it from this one",
        )


def _needed(inputs: Inputs, ctx: Context, header: GgufHeader, candidates: Sequence[int]) -> Iterator[int]:
    """Layers that must go at least, for each budget, if those that free least are taken."""
    if inputs.sensitivity is None:
        return
    tensors = ctx.result(inputs.sensitivity, "tensors", tuple[TensorSensitivity, ...])
    known = damages(tensors, {})
    stock_mix_of = ctx.stock_mixes(inputs.base, inputs.imatrix)
    for wanted in inputs.budgets:
        mix, n_bytes = mix_and_bytes(wanted.budget, header, stock_mix_of)
        constraints = with_unread(wanted.constraints, tensors, mix)
        free = groups((t for t in header.tensors if t.name in known), known, constraints)
        least = [(g.layer, min(o.n_bytes for o in g.options)) for g in free]
        least += [(t.layer, t.n_bytes) for t in header.tensors if t.name not in known]
        freed = sorted(sum(n for layer, n in least if layer == c) for c in candidates)
        over = sum(n for _, n in least) - n_bytes
        yield next((k for k in range(len(freed) + 1) if sum(freed[:k]) >= over), len(freed))


def _streams(engine: Engine, windows: Tokens) -> list[dict[str, Any]]:
    """Scores of activations and weights, by layer."""
    n_layer = engine.header.n_layer
    engine.set_windows(windows[:1], scored=range(engine.n_ctx))
    assert engine.graph
    if not set(range(-1, n_layer)) <= set(engine.graph.boundaries):
        raise ModelError(
            f"{engine.path.name}: the graph of {engine.header.architecture} cannot be cut at every layer, so what they"
            " are worth cannot be measured",
            hint=NAME_THEM,
        )
    statistics = StreamStatistics(n_layer)
    for tokens in spread_over(windows, _N_STREAMS):
        statistics.add(engine.streams(tokens))
    engine.scored = probed(engine.n_ctx)
    return [
        {
            "block_influence": statistics.block_influence(layer),
            "lim": -statistics.lim_cosine(layer),
            "zd": weights_above(_matrices(engine.header, layer)),
            "angular": statistics.angular(layer),
        }
        for layer in range(n_layer)
    ]


def _score(cuts: Cuts, layer: int, windows: range, streams: Mapping[str, Any], cossim: float | None) -> LayerScore:
    each = (tuple(ENDS), *zip(ENDS, strict=True))
    whole, attention, ffn = (cuts.scores((layer,), windows, parts) for parts in each)
    return LayerScore(
        layer=layer,
        cossim=cossim,
        kld=whole.estimate(),
        ppl=whole.ppl,
        attention_kld=attention.estimate(),
        ffn_kld=ffn.estimate(),
        **{**streams, "angular": tuple(streams["angular"])},
    )


def suggested(scores: Sequence[LayerScore], candidates: Sequence[int], n: int) -> set[tuple[int, ...]]:
    """The sets of ``n`` layers that the literature's scores name: they race beside the grown ones."""
    known = [s for s in scores if s.layer in candidates]
    named = [lowest({s.layer: s.block_influence for s in known}, n), nearest_run(scores, n, candidates)]
    if all(s.cossim is not None for s in known):
        named.append(lowest({s.layer: -(s.cossim or 0.0) for s in known}, n))
    return {layers for layers in named if len(layers) == n}


def _in_turn(windows: Tokens) -> Tokens:
    """Every second window, then the others: the first half is spread over the text as all are."""
    return np.concatenate([windows[0::2], windows[1::2]])


def _matrices(header: GgufHeader, layer: int) -> Iterator[Floats]:
    for tensor in header.tensors:
        if tensor.layer == layer and len(tensor.ne) > 1:
            yield read_tensor(header, tensor.name)


def _removed(best: Removal) -> RemovedSet:
    return RemovedSet(layers=best.layers, kld=best.scores.estimate(), ppl=best.scores.ppl)
