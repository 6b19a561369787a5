"""Tensors in memory of their own on a device, and where a tensor of a graph finds its data."""

from __future__ import annotations

import ctypes
import mmap
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from lwq.engine.ggml import Ggml, InitParams, Tensor
from lwq.errors import ToolchainError
from lwq.gguf.types import GGML_TYPES
from lwq.llama.machine import available_memory_bytes
from lwq.llama.toolchain import home
from lwq.metrics.arrays import Bytes
from lwq.store.files import free_bytes, os_errors

_USED_AS_WEIGHTS: Final = 1
_LARGE_BYTES: Final = 1 << 20
_SPARE_BYTES: Final = 2 << 30


class Stored:
    """A tensor in memory of its own on a device.

    The device's own allocator lays it out, so whatever padding its kernels read behind the last row is there. On the
    CPU, when memory is short, it lies in a nameless file that is mapped: the system may write its pages there and drop
    them. That decides time, never a result.

    Raises:
        ToolchainError: the device has no memory left.
    """

    def __init__(self, ggml: Ggml, ne: Sequence[int], ggml_type: str, data: Bytes, device: int) -> None:
        self._lib = lib = ggml.lib
        self.n_bytes = data.nbytes
        sizes = (ctypes.c_int64 * 4)(*ne)
        self._context = lib.ggml_init(InitParams(mem_size=4096, mem_buffer=None, no_alloc=True))
        self.address = int(lib.ggml_new_tensor(self._context, GGML_TYPES[ggml_type][0], 4, sizes))
        self._mapped = _mapped(data.nbytes) if device == ggml.cpu and _is_short(data.nbytes) else None
        if self._mapped:
            start = ctypes.addressof(ctypes.c_char.from_buffer(self._mapped))
            self._buffer = lib.ggml_backend_cpu_buffer_from_ptr(start, data.nbytes)
            lib.ggml_backend_tensor_alloc(self._buffer, self.address, start)
        else:
            buffer_type = lib.ggml_backend_dev_buffer_type(device)
            self._buffer = lib.ggml_backend_alloc_ctx_tensors_from_buft(self._context, buffer_type)
        if not self._buffer:
            lib.ggml_free(self._context)
            raise ToolchainError(f"no memory for {data.nbytes} bytes of {ggml_type}", hint="is there memory left?")
        lib.ggml_backend_buffer_set_usage(self._buffer, _USED_AS_WEIGHTS)
        ggml.write(self.address, data)

    def free(self) -> None:
        """Frees its memory, once nothing is pointed at it."""
        self._lib.ggml_backend_buffer_free(self._buffer)
        self._lib.ggml_free(self._context)
        if self._mapped:
            self._mapped.close()


def _is_short(n_bytes: int) -> bool:
    """Whether so many bytes more would leave the process little memory."""
    return n_bytes >= _LARGE_BYTES and n_bytes + _SPARE_BYTES > available_memory_bytes()


def _mapped(n_bytes: int) -> mmap.mmap | None:
    """Memory that is a nameless file's; None where the disk has no room for it."""
    if free_bytes(home()) < n_bytes + _SPARE_BYTES:
        return None
    with os_errors("lay tensors into a file", home()), tempfile.TemporaryFile(dir=home()) as file:
        file.truncate(n_bytes)
        return mmap.mmap(file.fileno(), n_bytes)


@dataclass(frozen=True, slots=True)
class Form:
    """How a tensor is stored and where: what the graph's tensor says of it."""

    ggml_type: int
    nb: tuple[int, ...]
    data: int
    buffer: int
    extra: int

    @classmethod
    def at(cls, address: int) -> Form:
        tensor = Tensor.from_address(address)
        return cls(tensor.type, tuple(tensor.nb), tensor.data, tensor.buffer, tensor.extra or 0)

    def take(self, address: int) -> None:
        """Makes the tensor at ``address`` stored so."""
        tensor = Tensor.from_address(address)
        tensor.type, tensor.nb[:] = self.ggml_type, self.nb
        tensor.data, tensor.buffer, tensor.extra = self.data, self.buffer, self.extra
