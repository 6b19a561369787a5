"""libggml through ctypes: its tensors' layout, its quantizers, and graphs made of nodes that exist already.

Quantizing and dequantizing are the very functions that llama-quantize calls, so the bytes are the same.
Source: ggml/include/ggml.h and ggml-backend.h at the pinned commit.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from ctypes import POINTER, c_bool, c_char, c_char_p, c_float, c_int, c_int32, c_int64, c_size_t, c_void_p
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lwq.errors import ToolchainError
from lwq.gguf.types import GGML_TYPES, tensor_bytes
from lwq.metrics.arrays import Bytes, Floats

_CPU: Final = 0
_N_OPS: Final = 80
_PRODUCTS: Final = (b"MUL_MAT", b"MUL_MAT_ID")


class Tensor(ctypes.Structure):
    """``struct ggml_tensor``; libggml has no accessors for most of it."""

    _fields_ = (
        ("type", c_int),
        ("buffer", c_void_p),
        ("ne", c_int64 * 4),
        ("nb", c_size_t * 4),
        ("op", c_int),
        ("op_params", c_int32 * 16),
        ("flags", c_int32),
        ("src", c_void_p * 10),
        ("view_src", c_void_p),
        ("view_offs", c_size_t),
        ("data", c_void_p),
        ("name", c_char * 64),
        ("extra", c_void_p),
        ("padding", c_char * 8),
    )


def whole(address: int) -> int:
    """The tensor itself, or what it is a strided view of (chosen experts are the first columns of a sorting)."""
    tensor = Tensor.from_address(address)
    strided = tensor.view_src and tensor.nb[1] != tensor.ne[0] * tensor.nb[0]
    return int(tensor.view_src) if strided else address


class _Traits(ctypes.Structure):
    _fields_ = (
        ("type_name", c_char_p),
        ("blck_size", c_int64),
        ("blck_size_interleave", c_int64),
        ("type_size", c_size_t),
        ("is_quantized", c_bool),
        ("to_float", ctypes.CFUNCTYPE(None, c_void_p, c_void_p, c_int64)),
        ("from_float_ref", c_void_p),
    )


class InitParams(ctypes.Structure):
    """``struct ggml_init_params``."""

    _fields_ = (("mem_size", c_size_t), ("mem_buffer", c_void_p), ("no_alloc", c_bool))


_SIGNATURES: Final[dict[str, tuple[Any, tuple[Any, ...]]]] = {
    "ggml_get_name": (c_char_p, (c_void_p,)),
    "ggml_op_name": (c_char_p, (c_int,)),
    "ggml_nbytes": (c_size_t, (c_void_p,)),
    "ggml_tensor_overhead": (c_size_t, ()),
    "ggml_graph_overhead_custom": (c_size_t, (c_size_t, c_bool)),
    "ggml_init": (c_void_p, (InitParams,)),
    "ggml_free": (None, (c_void_p,)),
    "ggml_new_graph_custom": (c_void_p, (c_void_p, c_size_t, c_bool)),
    "ggml_new_tensor_1d": (c_void_p, (c_void_p, c_int, c_int64)),
    "ggml_new_tensor": (c_void_p, (c_void_p, c_int, c_int, POINTER(c_int64))),
    "ggml_set_name": (c_void_p, (c_void_p, c_char_p)),
    "ggml_graph_add_node": (None, (c_void_p, c_void_p)),
    "ggml_get_type_traits": (POINTER(_Traits), (c_int,)),
    "ggml_quantize_chunk": (
        c_size_t,
        (c_int, POINTER(c_float), c_void_p, c_int64, c_int64, c_int64, POINTER(c_float)),
    ),
    "ggml_quantize_requires_imatrix": (c_bool, (c_int,)),
    "ggml_backend_tensor_set": (None, (c_void_p, c_void_p, c_size_t, c_size_t)),
    "ggml_backend_tensor_get": (None, (c_void_p, c_void_p, c_size_t, c_size_t)),
    "ggml_backend_tensor_copy": (None, (c_void_p, c_void_p)),
    "ggml_backend_buffer_is_host": (c_bool, (c_void_p,)),
    "ggml_backend_buffer_get_type": (c_void_p, (c_void_p,)),
    "ggml_backend_buffer_set_usage": (None, (c_void_p, c_int)),
    "ggml_backend_buffer_free": (None, (c_void_p,)),
    "ggml_backend_alloc_ctx_tensors_from_buft": (c_void_p, (c_void_p, c_void_p)),
    "ggml_backend_cpu_buffer_from_ptr": (c_void_p, (c_void_p, c_size_t)),
    "ggml_backend_tensor_alloc": (c_int, (c_void_p, c_void_p, c_void_p)),
    "ggml_backend_dev_buffer_type": (c_void_p, (c_void_p,)),
    "ggml_backend_buft_get_device": (c_void_p, (c_void_p,)),
    "ggml_backend_dev_init": (c_void_p, (c_void_p, c_char_p)),
    "ggml_backend_dev_by_type": (c_void_p, (c_int,)),
    "ggml_backend_free": (None, (c_void_p,)),
    "ggml_backend_graph_compute": (c_int, (c_void_p, c_void_p)),
    "ggml_backend_reg_get_proc_address": (c_void_p, (c_void_p, c_char_p)),
    "ggml_backend_dev_backend_reg": (c_void_p, (c_void_p,)),
}


class Ggml:
    """Typed functions of the libggml that ``bindings`` loaded.

    Raises:
        ToolchainError: its tensors are laid out otherwise than this module believes.
    """

    def __init__(self, library: Any) -> None:
        self.lib = library
        self.declare(_SIGNATURES)
        self._check_layout()
        self.cpu = int(self.lib.ggml_backend_dev_by_type(_CPU))
        """The CPU's device."""
        self.products = frozenset(op for op in range(_N_OPS) if self.lib.ggml_op_name(op) in _PRODUCTS)

    def declare(self, signatures: Mapping[str, tuple[Any, tuple[Any, ...]]]) -> None:
        """Sets result and argument types of functions by name."""
        for name, (result, arguments) in signatures.items():
            function = getattr(self.lib, name)
            function.restype, function.argtypes = result, list(arguments)

    def _check_layout(self) -> None:
        """A tensor made by libggml, read through the structure, must say what the functions say."""
        context = self.lib.ggml_init(InitParams(mem_size=1 << 16, mem_buffer=None, no_alloc=False))
        try:
            address = self.lib.ggml_new_tensor_1d(context, GGML_TYPES["f16"][0], 48)
            self.lib.ggml_set_name(address, b"lwq-layout-check")
            tensor = Tensor.from_address(address)
            sound = (
                tensor.name == b"lwq-layout-check"
                and tensor.type == GGML_TYPES["f16"][0]
                and tuple(tensor.ne) == (48, 1, 1, 1)
                and tuple(tensor.nb) == (2, 96, 96, 96)
                and bool(tensor.data)
                and not any(tensor.src)
                and self.lib.ggml_tensor_overhead() - ctypes.sizeof(Tensor) in (32, 40, 48)
            )
        finally:
            self.lib.ggml_free(context)
        if not sound:
            raise ToolchainError(
                "struct ggml_tensor of this libggml is not that of the pinned commit",
                hint="`lwq toolchain build` makes the pinned one",
            )

    def needs_importance(self, ggml_type: str) -> bool:
        """Whether the type cannot be made without an importance row."""
        return bool(self.lib.ggml_quantize_requires_imatrix(GGML_TYPES[ggml_type][0]))

    def quantize(self, values: Floats, ggml_type: str, importance: Floats | None, n_threads: int = 1) -> Bytes:
        """The rows as llama-quantize stores them: uint8 of shape (rows, bytes of a row).

        Args:
            values: float32 of shape (rows, row length), C order.
            importance: float32 of one row's length, mean squared activations; None: unweighted.
            n_threads: rows are shared among so many threads; the bytes are the same for any number.

        Source: ggml.c ``ggml_quantize_chunk``.
        """
        out = np.empty((len(values), tensor_bytes(values.shape[1:], ggml_type)), np.uint8)
        if importance is not None:  # native code reads it from its address on, whatever numpy's strides say
            importance = np.ascontiguousarray(importance, np.float32)
        each = max(1, -(-len(values) // max(1, n_threads)))
        pieces = [slice(i, i + each) for i in range(0, len(values), each)]

        def piece(rows: slice) -> None:
            self._quantize_rows(values[rows], out[rows], ggml_type, importance)

        if len(pieces) == 1:
            piece(pieces[0])
            return out
        with ThreadPoolExecutor(n_threads) as pool:
            list(pool.map(piece, pieces))
        return out

    def _quantize_rows(self, values: Floats, out: Bytes, ggml_type: str, importance: Floats | None) -> None:
        n_rows, length = values.shape
        if ggml_type == "f32":
            out[:] = np.ascontiguousarray(values).view(np.uint8).reshape(out.shape)
            return
        source = np.ascontiguousarray(values, np.float32)
        weights = None if importance is None else importance.ctypes.data_as(POINTER(c_float))
        number, data = GGML_TYPES[ggml_type][0], source.ctypes.data_as(POINTER(c_float))
        written = self.lib.ggml_quantize_chunk(number, data, out.ctypes.data, 0, n_rows, length, weights)
        if written != out.nbytes:
            raise ToolchainError(f"libggml wrote {written} bytes of {ggml_type}, expected {out.nbytes}")

    def dequantize(self, rows: Bytes, ggml_type: str, length: int) -> Floats:
        """Values of stored rows: float32 of shape (rows, length). Source: the type traits' ``to_float``."""
        if ggml_type == "f32":
            return np.ascontiguousarray(rows).view(np.float32).reshape(-1, length)
        data = np.ascontiguousarray(rows)
        out = np.empty((len(data), length), np.float32)
        traits = self.lib.ggml_get_type_traits(GGML_TYPES[ggml_type][0]).contents
        traits.to_float(data.ctypes.data, out.ctypes.data, out.size)
        return out

    def read(self, address: int) -> Bytes:
        """A tensor's data, from whatever memory it lies in."""
        out = np.empty(self.lib.ggml_nbytes(address), np.uint8)
        self.lib.ggml_backend_tensor_get(address, out.ctypes.data, 0, out.nbytes)
        return out

    def write(self, address: int, data: NDArray[Any]) -> None:
        """Writes a tensor's data from its start."""
        data = np.ascontiguousarray(data)
        self.lib.ggml_backend_tensor_set(address, data.ctypes.data, 0, data.nbytes)

    def shape(self, address: int) -> tuple[int, ...]:
        """A tensor's ne without trailing ones, in ggml order."""
        ne = tuple(Tensor.from_address(address).ne)
        n_dims = max((i for i, n in enumerate(ne, 1) if n > 1), default=1)
        return ne[:n_dims]

    def device_of(self, address: int) -> int | None:
        """The device whose memory holds a tensor; None: it has no memory.

        Memory that the CPU may use is the CPU's, also where a GPU's driver has pinned it.
        """
        tensor = Tensor.from_address(address)
        buffer = tensor.buffer or (Tensor.from_address(tensor.view_src).buffer if tensor.view_src else None)
        if not buffer:
            return None
        if self.lib.ggml_backend_buffer_is_host(buffer):
            return self.cpu
        device = self.lib.ggml_backend_buft_get_device(self.lib.ggml_backend_buffer_get_type(buffer))
        return int(device or self.cpu)

    def is_on_cpu(self, address: int) -> bool:
        """Whether a tensor lies in memory of the CPU's own device."""
        return self.device_of(address) in (None, self.cpu)

    def backend(self, device: int, n_threads: int) -> int:
        """A new backend of a device; ``ggml_backend_free`` it when done."""
        backend = self.lib.ggml_backend_dev_init(device, None)
        registry = self.lib.ggml_backend_dev_backend_reg(device)
        if setter := self.lib.ggml_backend_reg_get_proc_address(registry, b"ggml_backend_set_n_threads"):
            ctypes.CFUNCTYPE(None, c_void_p, c_int)(setter)(backend, n_threads)
        return int(backend)

    def compute(self, backend: int, graph: int) -> None:
        """Computes a graph and waits for it.

        Raises:
            ToolchainError: the backend failed (no memory left, as a rule).
        """
        if status := self.lib.ggml_backend_graph_compute(backend, graph):
            raise ToolchainError(f"ggml could not compute a graph (status {status})", hint="is there memory left?")

    def graph(self, nodes: Sequence[int]) -> tuple[int, int]:
        """(context, graph) that computes these nodes in order; ``free`` the context when done."""
        size = len(nodes)
        room = self.lib.ggml_graph_overhead_custom(size, False) + 4096
        context = self.lib.ggml_init(InitParams(mem_size=room, mem_buffer=None, no_alloc=True))
        graph = self.lib.ggml_new_graph_custom(context, size, False)
        for node in nodes:
            self.lib.ggml_graph_add_node(graph, node)
        return context, graph


def in_order(ggml: Ggml, address: int) -> Bytes:
    """A tensor's data element after element, whatever the strides of a view; of types without quant blocks."""
    tensor, data = Tensor.from_address(address), ggml.read(address)
    size = ggml.lib.ggml_get_type_traits(tensor.type).contents.type_size
    shape, strides = (*tensor.ne[::-1], size), (*tensor.nb[::-1], 1)
    return np.ascontiguousarray(np.lib.stride_tricks.as_strided(data, shape, strides)).reshape(-1)
