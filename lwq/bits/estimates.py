"""What probes that were not made would show: a tensor's error at the end of its layer, times what errors there cost.

Computing one layer is cheap beside computing all behind it. So each tensor's error is carried to the end of its layer:
d = mean over tokens of |h' − h|² ÷ |h|², h the residual stream behind the layer, h' the same with that tensor in the
type of a probe. Only the tensors of a layer with the largest d are probed; the geometric mean of their KLD ÷ d is the
layer's effect, and effect · d is what the others' probes would show.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Final

import numpy as np

from lwq.bits.mixes import Mixer
from lwq.engine.engine import Engine
from lwq.metrics.arrays import Bytes
from lwq.metrics.values import Estimate

N_PROBED: Final = 3
"""Tensors of a layer that are probed."""


def carrying_layers(engine: Engine) -> frozenset[int]:
    """The layers through which errors can be carried: their ends are known, and all tokens leave (not so the last)."""
    assert engine.graph
    ends = engine.graph.boundaries
    return frozenset(layer for layer in ends if layer - 1 in ends and layer < engine.header.n_layer - 1)


def carried_errors(mixer: Mixer, layer: int, types: Mapping[str, str]) -> dict[str, float]:
    """Tensor → relative change of the stream behind its layer, of the first window, with it alone in that type."""
    engine = mixer.engine
    assert engine.graph
    ends = engine.graph.boundaries
    entering, leaving = engine.stream(0, layer - 1), engine.stream(0, layer)
    found = {}
    for name, ggml_type in types.items():
        engine.swap(name, ggml_type, mixer.stored(name, ggml_type))
        try:
            engine.enter(entering.inputs, layer - 1, entering.states[layer - 1])
            engine.advance(ends[layer - 1].index + 1, ends[layer].index + 1)
            found[name] = _change(
                leaving.states[layer], engine.ggml.read(ends[layer].address), engine.n_ctx, engine.scored[0]
            )
        finally:
            engine.restore(name)
    return found


def _change(before: Bytes, after: Bytes, n_tokens: int, first: int) -> float:
    """Mean of the relative squared changes of tokens from ``first`` on."""
    was, now = (stream.view(np.float32).reshape(n_tokens, -1)[first:].astype(np.float64) for stream in (before, after))
    energy = (was**2).sum(axis=1)
    return float((((now - was) ** 2).sum(axis=1)[energy > 0] / energy[energy > 0]).mean())


def loudest(errors: Mapping[str, float], n: int = N_PROBED) -> tuple[str, ...]:
    """The ``n`` tensors of a layer whose carried errors are the largest."""
    return tuple(sorted(errors, key=lambda name: (-errors[name], name))[:n])


def estimated(carried: Collection[Mapping[str, float]], klds: Mapping[str, float]) -> dict[str, Estimate]:
    """Tensor → the KLD (nats) that its probe would show, for each without one; 0 where its layer's probes show nothing.

    Args:
        carried: of each layer, tensor → carried error.
        klds: tensor → measured KLD in the type whose error was carried.
    """
    effects = [
        [math.log(klds[n] / d) for n, d in errors.items() if d > 0 and klds.get(n, 0.0) > 0] for errors in carried
    ]
    n_free = sum(len(e) - 1 for e in effects if e)
    pooled = sum(float(np.var(e)) * len(e) for e in effects if e) / n_free if n_free else 1.0
    found = {}
    for errors, logs in zip(carried, effects, strict=True):
        effect = math.exp(sum(logs) / len(logs)) if logs else 0.0
        spread = math.sqrt(pooled * (1 + 1 / max(1, len(logs))))
        for name in errors.keys() - klds.keys():
            kld = effect * errors[name]
            found[name] = Estimate(value=kld, stderr=kld * spread, unit="nats")
    return found
