"""A loaded model whose tensors are swapped for other stored forms and put back.

Swapped tensors are held in their ggml type, so the kernels that run are those that will run on the written file:
what they lose by quantizing activations on the way is measured too. Each has memory of its own on the device where
the original lies, and the graph is pointed at it: originals are never copied nor written, so they may be mapped from
the file, and putting one back is exact.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lwq.engine.ggml import Ggml, InitParams, Tensor
from lwq.engine.replay import Replay
from lwq.errors import ModelError, ToolchainError
from lwq.gguf.types import GGML_TYPES
from lwq.llama.machine import give_back_pages
from lwq.llama.toolchain import Toolchain
from lwq.metrics.arrays import Bytes

_USED_AS_WEIGHTS: Final = 1
_HOLES: Final = 1 << 28
"""Bytes freed between mixes after which the C library is asked to give its free pages back."""


class _Stored:
    """A tensor in memory of its own on a device.

    The device's own allocator lays it out, so whatever padding its kernels read behind the last row is there.

    Raises:
        ToolchainError: the device has no memory left.
    """

    def __init__(self, ggml: Ggml, ne: Sequence[int], ggml_type: str, data: Bytes, device: int) -> None:
        self._lib = lib = ggml.lib
        self.n_bytes = data.nbytes
        sizes = (ctypes.c_int64 * 4)(*ne)
        self._context = lib.ggml_init(InitParams(mem_size=4096, mem_buffer=None, no_alloc=True))
        self.address = int(lib.ggml_new_tensor(self._context, GGML_TYPES[ggml_type][0], 4, sizes))
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


@dataclass(frozen=True, slots=True)
class _Form:
    """How a tensor is stored and where: what the graph's tensor says of it."""

    ggml_type: int
    nb: tuple[int, ...]
    data: int
    buffer: int
    extra: int

    @classmethod
    def at(cls, address: int) -> _Form:
        tensor = Tensor.from_address(address)
        return cls(tensor.type, tuple(tensor.nb), tensor.data, tensor.buffer, tensor.extra or 0)

    def take(self, address: int) -> None:
        """Makes the tensor at ``address`` stored so."""
        tensor = Tensor.from_address(address)
        tensor.type, tensor.nb[:] = self.ggml_type, self.nb
        tensor.data, tensor.buffer, tensor.extra = self.data, self.buffer, self.extra


@dataclass(slots=True)
class _Swapped:
    """A tensor's original forms by address, and the memory that holds what stands in their place."""

    originals: dict[int, _Form]
    replacements: tuple[_Stored, ...]


class Swappable(Replay):
    """A session that knows its graph, and whose tensors can be swapped once that graph was found."""

    def __init__(
        self, toolchain: Toolchain, path: Path, *, n_ctx: int, n_threads: int, scored: range | None = None
    ) -> None:
        super().__init__(toolchain, path, n_ctx=n_ctx, n_threads=n_threads, scored=scored)
        self._swapped: dict[str, _Swapped] = {}
        self._freed = 0

    def close(self) -> None:
        """Frees all native memory."""
        self.restore()
        super().close()

    def swap(self, name: str, ggml_type: str, data: Bytes) -> None:
        """Puts a tensor's stored form in place of what is there; ``restore`` puts the original back.

        Raises:
            ModelError: the graph does not read such a tensor, or reads parts of it; the bytes are not a whole one of
                that type.
            ToolchainError: the device has no memory left.
        """
        _, n_weights, n_bytes = GGML_TYPES[ggml_type]
        addresses = self._addresses(name)
        for address in addresses:
            if data.nbytes * n_weights != math.prod(Tensor.from_address(address).ne) * n_bytes:
                raise ModelError(f"{name}: {data.nbytes} bytes are not such a tensor in {ggml_type}")
        now = self._swapped.get(name)
        originals = now.originals if now else {address: _Form.at(address) for address in addresses}
        ne = Tensor.from_address(addresses[0]).ne
        devices = {address: device for address in addresses if (device := self.ggml.device_of(address))}
        stored = {d: _Stored(self.ggml, ne, ggml_type, data, d) for d in set(devices.values())}
        for address, device in devices.items():
            _Form.at(stored[device].address).take(address)
        self._swapped[name] = _Swapped(originals, tuple(stored.values()))
        if now:
            self._free(now)

    def restore(self, *names: str) -> None:
        """These tensors as they were loaded; all that were swapped when none is named."""
        for name in names or tuple(self._swapped):
            if swapped := self._swapped.pop(name, None):
                for address, form in swapped.originals.items():
                    form.take(address)
                self._free(swapped)

    def _free(self, swapped: _Swapped) -> None:
        for stored in swapped.replacements:
            stored.free()
            self._freed += stored.n_bytes
        if self._freed > _HOLES:  # tensors of the next mix have other sizes, and do not fit into the holes
            give_back_pages()
            self._freed = 0

    def _addresses(self, name: str) -> tuple[int, ...]:
        assert self.graph, "set_windows first"
        addresses = self.graph.weights.get(name)
        if addresses is None:
            raise ModelError(f"{name}: is in the file, but its graph does not read it", hint="leave it as it is")
        if name in self.graph.in_parts:
            raise ModelError(f"{name}: the graph reads parts of it, which cannot be swapped", hint="leave it as it is")
        return addresses
