"""What a type costs a tensor on the spot: the relative error of its product with real activations, type by type.

e(q) is the mean over tokens of |Q x − W x|² ÷ |W x|², Q the stored form in type q, computed by the kernel that will
run: unlike the error of the weights alone it holds what the kernel loses by quantizing x (which decides above 5 bpw)
and the correlations of the channels. A sample of rows and tokens is enough for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from lwq.engine.activations import Activations, activation_sources
from lwq.engine.engine import Engine
from lwq.engine.product import Product
from lwq.errors import ModelError
from lwq.gguf.data import read_tensor
from lwq.metrics.arrays import Bytes, Floats, Tokens

N_ROWS: Final = 256
N_TOKENS: Final = 128
N_EXPERTS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """Rows of one matrix (of an expert, say), what multiplies them, and its importance row."""

    rows: Floats
    activations: Floats | None
    importance: Floats | None


def observe_activations(engine: Engine, windows: Tokens, names: Iterable[str]) -> dict[str, Activations]:
    """A sample of what enters the multiplication by each tensor; tensors that only look rows up are not in it."""
    found = activation_sources(engine, frozenset(names))
    addresses = {a for s in found.values() for a in s.addresses}
    shapes = {a: engine.ggml.shape(a) for a in addresses}
    by_head = {s.node for s in found.values() if s.n_heads > 1}
    each = max(1, N_TOKENS // max(1, len(windows)))
    caught: dict[int, list[Bytes]] = {}

    def keep(address: int, data: Bytes) -> None:
        n_tokens = shapes[address][-1] if len(shapes[address]) > 1 else 1
        if address in by_head:
            n_heads, n_tokens = n_tokens, shapes[address][1]
            some = data.reshape(n_heads, n_tokens, -1)[:, :: max(1, n_tokens // each)].reshape(n_heads, -1)
        else:
            some = data.reshape(n_tokens, -1)[:: max(1, n_tokens // each)].copy()
        caught.setdefault(address, []).append(some)

    for tokens in windows:
        engine.observe(tokens, addresses, keep)
    return {name: source.activations(caught, shapes[source.node][0]) for name, source in found.items()}


def slices(engine: Engine, name: str, activations: Activations | None, importance: Floats | None) -> tuple[Slice, ...]:
    """Strided rows of a tensor with what multiplies them; of experts, the few that saw most tokens.

    Raises:
        ModelError: values that are not finite.
    """
    values = read_tensor(engine.header, name)
    if not np.isfinite(values).all():
        raise ModelError(f"{engine.path.name}: {name} has values that are not finite", hint="the model is broken")
    stack = values.reshape(-1, *values.shape[-2:])
    seen = activations.by_expert if activations else {}
    experts = sorted(seen, key=lambda e: (-len(seen[e]), e))[:N_EXPERTS] or range(min(N_EXPERTS, len(stack)))
    return tuple(
        Slice(
            rows=np.ascontiguousarray(stack[e][:: max(1, stack.shape[1] // N_ROWS)][:N_ROWS]),
            activations=seen.get(e),
            importance=None if importance is None else importance[e],
        )
        for e in experts
    )


def relative_errors(
    engine: Engine, product: Product, pieces: Sequence[Slice], base_type: str, types: Iterable[str]
) -> dict[str, float]:
    """Type → e(q) over all slices, weighted by their numbers of tokens; 0 for a tensor of zeros."""
    ggml = engine.ggml
    right = [
        None
        if p.activations is None
        else product.multiply(base_type, ggml.quantize(p.rows, base_type, None), p.activations)
        for p in pieces
    ]
    mean_errors = {}
    for q in types:
        errors = [_errors(engine, product, p, base, q) for p, base in zip(pieces, right, strict=True)]
        mean_errors[q] = float(np.concatenate(errors).mean(dtype=np.float64)) if sum(map(len, errors)) else 0.0
    return mean_errors


def _errors(engine: Engine, product: Product, piece: Slice, base: Floats | None, ggml_type: str) -> Floats:
    """The relative error of each token, or of each row where none is multiplied."""
    data = engine.ggml.quantize(piece.rows, ggml_type, piece.importance, engine.n_threads)
    if base is None or piece.activations is None:
        return _looked_up(engine, piece, data, ggml_type)
    return product.errors(base, product.multiply(ggml_type, data, piece.activations))


def _looked_up(engine: Engine, piece: Slice, data: Bytes, ggml_type: str) -> Floats:
    """Relative squared error of each row that is only looked up, weighted by importance where there is any."""
    back = engine.ggml.dequantize(data, ggml_type, piece.rows.shape[1])
    weights = piece.importance if piece.importance is not None else np.ones(piece.rows.shape[1], np.float32)
    energy = (piece.rows**2 * weights).sum(axis=1)
    error = ((piece.rows - back) ** 2 * weights).sum(axis=1)
    return np.asarray(error[energy > 0] / energy[energy > 0])
