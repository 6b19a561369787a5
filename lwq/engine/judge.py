"""KLD and likelihood computed where the logits lie: of a window some hundred numbers come back, not all its logits.

The same figures as ``metrics.divergence``, in float32 and so arranged that nothing cancels: with d = q − base, p the
base's softmax and m = Σ p d, KLD = log(1 + Σ p f(d − m)), f(r) = exp r − 1 − r. Near zero f is its series, beyond ±0.5
what the exponential adds to it.
"""

from __future__ import annotations

import math
from ctypes import c_bool, c_float, c_int, c_int64, c_void_p
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from lwq.engine.ggml import Ggml, InitParams
from lwq.engine.stored import Form, Stored
from lwq.gguf.types import GGML_TYPES
from lwq.metrics.arrays import Doubles, Floats, Tokens

_ONE = (c_void_p, (c_void_p, c_void_p))
_TWO = (c_void_p, (c_void_p, c_void_p, c_void_p))
_SIGNATURES: Final[dict[str, tuple[Any, tuple[Any, ...]]]] = {
    **dict.fromkeys(("ggml_soft_max", "ggml_sum_rows", "ggml_relu", "ggml_exp"), _ONE),
    **dict.fromkeys(("ggml_add", "ggml_sub", "ggml_mul", "ggml_get_rows"), _TWO),
    "ggml_scale_bias": (c_void_p, (c_void_p, c_void_p, c_float, c_float)),
    "ggml_reshape_2d": (c_void_p, (c_void_p, c_void_p, c_int64, c_int64)),
    "ggml_new_tensor_2d": (c_void_p, (c_void_p, c_int, c_int64, c_int64)),
    "ggml_new_graph": (c_void_p, (c_void_p,)),
    "ggml_build_forward_expand": (None, (c_void_p, c_void_p)),
    "ggml_graph_n_nodes": (c_int, (c_void_p,)),
    "ggml_graph_node": (c_void_p, (c_void_p, c_int)),
    "ggml_backend_supports_op": (c_bool, (c_void_p, c_void_p)),
    "ggml_gallocr_new": (c_void_p, (c_void_p,)),
    "ggml_gallocr_alloc_graph": (c_bool, (c_void_p, c_void_p)),
    "ggml_gallocr_free": (None, (c_void_p,)),
    "ggml_set_output": (None, (c_void_p,)),
}
_ROOM: Final = 1 << 20
_KEPT_BYTES: Final = 1 << 30
"""Of the base's logits on the device; what is beyond is sent there each time."""
_BOUND: Final = 0.5
_N_TERMS: Final = 7
"""Of the series of f within ±0.5: what is left out is below float32's rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """What a window's logits are judged by."""

    base: Stored | Floats
    nll: Doubles
    following: Stored
    """Where in the logits the following tokens are."""


class Judge:
    """Scores of one graph's logits against the base's, which lie on the same device as far as there is room.

    Args:
        logits: the address of the graph's logits, float32 of shape (n_vocab, scored tokens) in ggml order.
    """

    def __init__(self, ggml: Ggml, logits: int, n_threads: int) -> None:
        self.ggml, self.logits = ggml, logits
        ggml.declare(_SIGNATURES)
        self._device = ggml.device_of(logits) or ggml.cpu
        self._backend = ggml.backend(self._device, n_threads)
        self._context = ggml.lib.ggml_init(InitParams(mem_size=_ROOM, mem_buffer=None, no_alloc=True))
        self.n_vocab, self.n_rows = (*ggml.shape(logits), 1)[:2]
        self._q, self._base = (self._new("f32", self.n_vocab, self.n_rows) for _ in range(2))
        self._following = self._new("i32", self.n_rows, 1)
        self._graph, self._results = self._build()
        self._memory = ggml.lib.ggml_gallocr_new(ggml.lib.ggml_backend_dev_buffer_type(self._device))
        self._windows: list[_Case] = []

    def free(self) -> None:
        """Frees its memory on the device."""
        for window in self._windows:
            window.following.free()
            if isinstance(window.base, Stored):
                window.base.free()
        self.ggml.lib.ggml_gallocr_free(self._memory)
        self.ggml.lib.ggml_free(self._context)
        self.ggml.lib.ggml_backend_free(self._backend)

    def is_able(self) -> bool:
        """Whether the device has all the operations that this takes."""
        lib = self.ggml.lib
        nodes = (lib.ggml_graph_node(self._graph, i) for i in range(lib.ggml_graph_n_nodes(self._graph)))
        return all(lib.ggml_backend_supports_op(self._backend, node) for node in nodes)

    def add(self, base: Floats, nll: Doubles, following: Tokens) -> None:
        """The next window.

        Args:
            base: the base's logits, shape (scored tokens, n_vocab).
            nll: what the base gave the following tokens, in nats.
            following: the token behind each scored one.
        """
        there = sum(w.base.n_bytes for w in self._windows if isinstance(w.base, Stored))
        places = np.arange(self.n_rows, dtype=np.int32) * self.n_vocab + following.astype(np.int32)
        kept = self._stored(base) if there + base.nbytes <= _KEPT_BYTES else base
        behind = Stored(self.ggml, (self.n_rows, 1, 1, 1), "i32", places.view(np.uint8), self._device)
        self._windows.append(_Case(base=kept, nll=nll, following=behind))

    def scores(self, window: int) -> tuple[Doubles, Doubles]:
        """KLD of each scored token, and the likelihood of the one that follows, in nats, by the logits as they are.

        Not finite where float32 does not reach: a model that is broken, or close to it.
        """
        asked = self._windows[window]
        base = asked.base if isinstance(asked.base, Stored) else self._stored(asked.base)
        try:
            kld, lost = self._computed(base.address, asked.following.address)
        finally:
            if base is not asked.base:
                base.free()
        return kld, asked.nll + lost

    def _computed(self, base: int, behind: int) -> tuple[Doubles, Doubles]:
        for tensor, address in ((self._q, self.logits), (self._base, base), (self._following, behind)):
            Form.at(address).take(tensor)
        self.ggml.lib.ggml_gallocr_alloc_graph(self._memory, self._graph)
        self.ggml.compute(self._backend, self._graph)
        mean, growth, there = (self.ggml.read(a).view(np.float32).astype(np.float64).ravel() for a in self._results)
        kld = np.log1p(growth)
        return kld, mean + kld - there

    def _stored(self, base: Floats) -> Stored:
        values = np.ascontiguousarray(base).view(np.uint8)
        return Stored(self.ggml, (self.n_vocab, self.n_rows, 1, 1), "f32", values, self._device)

    def _new(self, ggml_type: str, *ne: int) -> int:
        return int(self.ggml.lib.ggml_new_tensor_2d(self._context, GGML_TYPES[ggml_type][0], *ne))

    def _build(self) -> tuple[int, tuple[int, ...]]:
        """The graph, and its results: m, Σ p f(d − m), and d at the tokens that follow."""
        lib, context = self.ggml.lib, self._context
        p = lib.ggml_soft_max(context, self._base)
        d = lib.ggml_sub(context, self._q, self._base)
        there = lib.ggml_get_rows(
            context, lib.ggml_reshape_2d(context, d, 1, self.n_vocab * self.n_rows), self._following
        )
        mean = lib.ggml_sum_rows(context, lib.ggml_mul(context, p, d))
        beyond = self._beyond_linear(lib.ggml_sub(context, d, mean))
        growth = lib.ggml_sum_rows(context, lib.ggml_mul(context, p, beyond))
        graph, results = lib.ggml_new_graph(context), (mean, growth, there)
        for result in results:
            lib.ggml_set_output(result)
            lib.ggml_build_forward_expand(graph, result)
        return graph, results

    def _beyond_linear(self, r: int) -> int:
        """exp r − 1 − r of each value: s²(1/2 + s/6 + …) for s, which is r within bounds, and what is beyond them."""
        lib, context = self.ggml.lib, self._context
        above = lib.ggml_relu(context, lib.ggml_scale_bias(context, r, 1.0, -_BOUND))
        below = lib.ggml_relu(context, lib.ggml_scale_bias(context, r, -1.0, -_BOUND))
        s = lib.ggml_add(context, lib.ggml_sub(context, r, above), below)
        series = lib.ggml_scale_bias(context, s, 1 / math.factorial(_N_TERMS + 2), 1 / math.factorial(_N_TERMS + 1))
        for n in range(_N_TERMS, 1, -1):
            series = lib.ggml_scale_bias(context, lib.ggml_mul(context, series, s), 1.0, 1 / math.factorial(n))
        value = lib.ggml_mul(context, lib.ggml_mul(context, s, s), series)
        for beyond, sign in ((above, 1.0), (below, -1.0)):
            there = math.exp(sign * _BOUND)
            signed = lib.ggml_scale_bias(context, beyond, sign, 0.0)
            grown = lib.ggml_scale_bias(context, lib.ggml_exp(context, signed), there, -there)
            value = lib.ggml_add(context, value, lib.ggml_sub(context, grown, signed))
        return int(value)


def appointed(ggml: Ggml, logits: int, n_threads: int) -> Judge | None:
    """A judge of these logits, if they lie on a device that is able; None where they are at hand already."""
    if ggml.is_on_cpu(logits):
        return None
    judge = Judge(ggml, logits, n_threads)
    if judge.is_able():
        return judge
    judge.free()
    return None
