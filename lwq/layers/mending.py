"""Healing in process: repairs fitted on one text, kept only where they lower the measured KLD on another.

From the layer before the first cut to the end, layer by layer: the streams of the whole model are the aim, those of the
cut and so far repaired model the state. A layer's repair is fitted from both (``healing``), put in place, and stays if
the KLD on the engine's windows falls by 1.64 standard errors, with the best of a few ridges: a rule that steers, and no
proof.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from lwq.bits.race import KEPT, difference, leads
from lwq.engine.engine import Engine
from lwq.engine.graph import read_node
from lwq.engine.replay import Kept
from lwq.gguf.data import read_tensor
from lwq.layers.healing import Method, Sums, entering, method_of, repaired, token_weights
from lwq.metrics.arrays import Bytes, Floats, Tokens
from lwq.metrics.divergence import Scores
from lwq.metrics.values import Estimate
from lwq.record.prune import HealedSet, HealedTensor

RIDGES: Final = (0.1, 0.3, 1.0)
"""Tried at the first layer; behind it, half and twice the best so far."""
_IN_VAIN: Final = 3
"""Layers in a row without gain after which the rest is left as it is."""
_NOT_CUT: Final = "the graph of this architecture cannot be cut between layers"
_NONE_BEFORE: Final = "no layer stays before the cut, where repairs start"
_NO_PLACE: Final = "no ffn_down adds to the residual stream by itself (experts, or a norm behind it)"
_VAIN: Final = "no repair lowered the KLD"


@dataclass(slots=True, kw_only=True)
class _Place:
    """One kept layer whose ``ffn_down`` adds to the stream and nothing else."""

    layer: int
    tensor: str
    weight: Floats
    product: int
    """Index of the node that multiplies by it."""
    method: Method


@dataclass(slots=True, kw_only=True)
class _Flow:
    """Windows on their way through the layers."""

    kept: Sequence[Kept]
    states: list[Bytes]


@dataclass(slots=True, kw_only=True)
class Mender:
    """Heals sets of removed layers of one engine, whose windows judge.

    Args:
        fit: windows on which repairs are fitted, shape (windows, n_ctx).
        published: ReplaceMe alone: transforms of the layers before cuts, all tokens alike; for comparison.
    """

    engine: Engine
    fit: Tokens
    published: bool = False
    on_done: Callable[[], None] = field(default=lambda: None)

    def heal(self, layers: tuple[int, ...]) -> tuple[HealedSet, dict[str, Floats]]:
        """What healing brings to a model without these layers, and the repaired tensors; the engine is as before."""
        engine = self.engine
        engine.restore()
        first = min(layers) - 1
        names = [name for layer in layers for name in engine.skip_layer(layer)]
        before = engine.score(*names)
        try:
            if first < 0 or not self._can_be_cut(first):
                return _healed(layers, before, before, (), _NONE_BEFORE if first < 0 else _NOT_CUT), {}
            return self._repaired(layers, before, first)
        finally:
            engine.restore()

    def _can_be_cut(self, first: int) -> bool:
        """Whether the graph has a boundary behind each layer from the one before the first that may be repaired."""
        graph, wanted = self.engine.graph, range(first - 1, self.engine.header.n_layer - 1)
        return graph is not None and set(wanted) <= set(graph.boundaries)

    def _repaired(self, layers: tuple[int, ...], before: Scores, first: int) -> tuple[HealedSet, dict[str, Floats]]:
        engine, now = self.engine, before
        fitted = [engine.keep(tokens, (first - 1,)) for tokens in self.fit]
        judges = [engine.stream(w, first - 1) for w in range(len(engine.windows))]
        whole, fit, judged = (_Flow(kept=k, states=[w.states[first - 1] for w in k]) for k in (fitted, fitted, judges))
        tensors: dict[str, Floats] = {}
        accepted: list[HealedTensor] = []
        ridges: tuple[float, ...] = RIDGES
        in_vain, tried = 0, False
        for layer in (i for i in range(first, engine.header.n_layer - 1) if i not in layers):
            if layer + 1 in layers:
                ridges, in_vain = RIDGES, 0
            passed = self.published and layer + 1 not in layers
            self._pass(range(layer, _end(layer, layers) + 1), whole)
            place = self._place(layer) if in_vain < _IN_VAIN and not passed else None
            tried = tried or place is not None
            repair = self._try(place, self._sums(place, fit, whole), judged, ridges) if place else None
            gain = difference(repair[0], now) if repair else None
            if place and repair and gain and leads(gain, KEPT):
                now, (method, ridge), tensors[place.tensor] = repair
                self._put(place.tensor, tensors[place.tensor])
                accepted.append(_accepted(place.tensor, method, ridge, now, gain))
                ridges, in_vain = (ridge / 2, ridge * 2), 0
            elif place:
                engine.restore(place.tensor)
                in_vain += 1
            self._forward(layer, fit)
            self._forward(layer, judged)
            self.on_done()
        note = "" if accepted else _VAIN if tried else _NO_PLACE
        return _healed(layers, before, now, tuple(accepted), note), tensors

    # one layer

    def _place(self, layer: int) -> _Place | None:
        """Where a layer can be repaired: its ffn_down's product reaches the stream through additions alone."""
        engine, tensor = self.engine, f"blk.{layer}.ffn_down.weight"
        assert engine.graph
        nodes, end = engine.graph.nodes, engine.graph.boundaries[layer].index
        at = next(
            (
                i
                for i in range(engine.graph.boundaries[layer - 1].index, end)
                if nodes[i].op in engine.ggml.products and read_node(nodes[i].src[0]).name == tensor
            ),
            None,
        )
        if at is None:
            return None
        carrying = {nodes[at].address}
        for node in nodes[at + 1 : end + 1]:
            if carrying & {*node.src, node.view_src}:
                if engine.ggml.lib.ggml_op_name(node.op) != b"ADD":
                    return None
                carrying.add(node.address)
        if nodes[end].address not in carrying:
            return None
        weight = read_tensor(engine.header, tensor)
        method: Method = "transform" if self.published else method_of(weight.shape[1])
        return _Place(layer=layer, tensor=tensor, weight=weight, product=at, method=method)

    def _sums(self, place: _Place, flow: _Flow, whole: _Flow) -> Sums:
        """Sums over the fitting text for a repair that aims at the streams of the whole model."""
        engine = self.engine
        assert engine.graph
        sums = Sums.empty(place.weight, place.method)
        last = engine.graph.boundaries[place.layer].index
        for window, state, end in zip(flow.kept, flow.states, whole.states, strict=True):
            engine.enter(window.inputs, place.layer - 1, state)
            engine.advance(engine.graph.boundaries[place.layer - 1].index + 1, place.product)
            h = self._rows(engine.graph.nodes[place.product].src[1])
            engine.advance(place.product, last + 1)
            aim = end.view(np.float32).reshape(engine.n_ctx, -1)
            weights = np.full(len(aim), 1 / aim.size, np.float32) if self.published else token_weights(aim)
            lacking = aim - self._rows(engine.graph.nodes[last].address)
            sums.add(entering(h, place.weight, place.method), lacking, weights)
        return sums

    def _rows(self, address: int) -> Floats:
        return self.engine.ggml.read(address).view(np.float32).reshape(self.engine.n_ctx, -1)

    def _try(
        self, place: _Place, sums: Sums, judged: _Flow, ridges: Sequence[float]
    ) -> tuple[Scores, tuple[Method, float], Floats]:
        """The best of the repairs, by measured KLD."""
        best: tuple[Scores, tuple[Method, float], Floats] | None = None
        for ridge in ridges:
            values = repaired(place.weight, sums, place.method, ridge)
            self._put(place.tensor, values)
            scores = self.engine.score_from(place.layer, list(self._states(place.layer, judged)))
            if best is None or scores.mean_kld < best[0].mean_kld:
                best = scores, (place.method, ridge), values
        assert best
        return best

    def _put(self, tensor: str, values: Floats) -> None:
        ggml_type = self.engine.header.find(tensor)[1].ggml_type
        self.engine.swap(tensor, ggml_type, self.engine.ggml.quantize(values, ggml_type, None, self.engine.n_threads))

    def _states(self, layer: int, flow: _Flow) -> Iterator[Bytes]:
        engine = self.engine
        assert engine.graph
        ends = engine.graph.boundaries
        for window, state in zip(flow.kept, flow.states, strict=True):
            engine.enter(window.inputs, layer - 1, state)
            engine.advance(ends[layer - 1].index + 1, ends[layer].index + 1)
            yield engine.ggml.read(ends[layer].address)

    def _pass(self, layers: range, whole: _Flow) -> None:
        """Moves windows of the whole model behind these layers: one that stays, and those removed behind it."""
        for layer in layers:
            removed = layer > layers[0]
            if removed:
                self.engine.restore(*self.engine.ends(layer))
            self._forward(layer, whole)
            if removed:
                self.engine.skip_layer(layer)

    def _forward(self, layer: int, flow: _Flow) -> None:
        flow.states = list(self._states(layer, flow))


def _end(layer: int, gone: Sequence[int]) -> int:
    """The last of the removed layers right behind a kept one; the layer itself where none is."""
    while layer + 1 in gone:
        layer += 1
    return layer


def _accepted(tensor: str, method: str, ridge: float, now: Scores, gain: Estimate) -> HealedTensor:
    return HealedTensor(tensor=tensor, method=method, ridge=ridge, kld=now.estimate(), gain=gain)


def _healed(
    layers: tuple[int, ...], before: Scores, after: Scores, tensors: tuple[HealedTensor, ...], note: str
) -> HealedSet:
    return HealedSet(
        layers=layers,
        file="",
        before=before.estimate(),
        after=after.estimate(),
        gain=difference(after, before),
        tensors=tensors,
        note=note,
    )
