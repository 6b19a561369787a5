"""One matrix product by the kernels that run the model: what a type's kernel makes of real activations."""

from __future__ import annotations

from ctypes import c_int, c_int64, c_void_p
from typing import Any, Final

import numpy as np

from lwq.engine.ggml import Ggml, InitParams
from lwq.gguf.types import GGML_TYPES
from lwq.metrics.arrays import Bytes, Floats

_SIGNATURES: Final[dict[str, tuple[Any, tuple[Any, ...]]]] = {
    "ggml_new_tensor_2d": (c_void_p, (c_void_p, c_int, c_int64, c_int64)),
    "ggml_mul_mat": (c_void_p, (c_void_p, c_void_p, c_void_p)),
    "ggml_backend_alloc_ctx_tensors": (c_void_p, (c_void_p, c_void_p)),
    "ggml_backend_buffer_free": (None, (c_void_p,)),
    "ggml_new_graph": (c_void_p, (c_void_p,)),
    "ggml_build_forward_expand": (None, (c_void_p, c_void_p)),
}
_ROOM: Final = 1 << 20


class Product:
    """Products on one backend."""

    def __init__(self, ggml: Ggml, backend: int) -> None:
        self.ggml, self.backend = ggml, backend
        ggml.declare(_SIGNATURES)

    @staticmethod
    def errors(base: Floats, product: Floats) -> Floats:
        """|product − base|² ÷ |base|² of each token whose base is not zero; both of shape (tokens, rows)."""
        energy = (base.astype(np.float64) ** 2).sum(axis=1)
        error = ((product.astype(np.float64) - base) ** 2).sum(axis=1)
        counted = energy > 1e-9 * energy.max(initial=0.0)
        return np.asarray(error[counted] / energy[counted], np.float32)

    def multiply(self, ggml_type: str, rows: Bytes, activations: Floats) -> Floats:
        """Stored rows times activations: float32 of shape (tokens, rows)."""
        lib = self.ggml.lib
        n_tokens, length = activations.shape
        context = lib.ggml_init(InitParams(mem_size=_ROOM, mem_buffer=None, no_alloc=True))
        w = lib.ggml_new_tensor_2d(context, GGML_TYPES[ggml_type][0], length, len(rows))
        x = lib.ggml_new_tensor_2d(context, GGML_TYPES["f32"][0], length, n_tokens)
        y = lib.ggml_mul_mat(context, w, x)
        graph = lib.ggml_new_graph(context)
        lib.ggml_build_forward_expand(graph, y)
        buffer = lib.ggml_backend_alloc_ctx_tensors(context, self.backend)
        try:
            self.ggml.write(w, rows)
            self.ggml.write(x, np.ascontiguousarray(activations, np.float32))
            self.ggml.compute(self.backend, graph)
            return self.ggml.read(y).view(np.float32).reshape(n_tokens, len(rows))
        finally:
            lib.ggml_backend_buffer_free(buffer)
            lib.ggml_free(context)
