"""A loaded model whose tensors are swapped for other stored forms and put back.

Swapped tensors are held in their ggml type, so the kernels that run are those that will run on the written file:
what they lose by quantizing activations on the way is measured too. Each has memory of its own on the device where
the original lies, and the graph is pointed at it: originals are never copied nor written, so they may be mapped from
the file, and putting one back is exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from lwq.engine.ggml import Ggml, Tensor
from lwq.engine.replay import Replay
from lwq.errors import ModelError
from lwq.gguf.types import GGML_TYPES
from lwq.llama.toolchain import Toolchain
from lwq.metrics.arrays import Bytes


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
    memory: list[tuple[int, int]]
    """(context, buffer)."""

    def free(self, ggml: Ggml) -> None:
        for context, buffer in self.memory:
            ggml.release(context, buffer)
        self.memory = []


class Swappable(Replay):
    """A session that knows its graph, and whose tensors can be swapped once that graph was found."""

    def __init__(
        self, toolchain: Toolchain, path: Path, *, n_ctx: int, n_threads: int, scored: range | None = None
    ) -> None:
        super().__init__(toolchain, path, n_ctx=n_ctx, n_threads=n_threads, scored=scored)
        self._swapped: dict[str, _Swapped] = {}

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
        memory: dict[int | None, tuple[int, int, int]] = {}  # of each device: tensors of one name share it
        for address in addresses:
            device = self.ggml.device_of(address)
            assert device
            if device not in memory:
                memory[device] = self.ggml.stored(tuple(Tensor.from_address(address).ne), ggml_type, data, device)
            _Form.at(memory[device][2]).take(address)
        self._swapped[name] = _Swapped(originals, [(context, buffer) for context, buffer, _ in memory.values()])
        if now:
            now.free(self.ggml)

    def restore(self, *names: str) -> None:
        """These tensors as they were loaded; all that were swapped when none is named."""
        for name in names or tuple(self._swapped):
            if swapped := self._swapped.pop(name, None):
                for address, form in swapped.originals.items():
                    form.take(address)
                swapped.free(self.ggml)

    def _addresses(self, name: str) -> tuple[int, ...]:
        assert self.graph, "set_windows first"
        addresses = self.graph.weights.get(name)
        if addresses is None:
            raise ModelError(f"{name}: is in the file, but its graph does not read it", hint="leave it as it is")
        if name in self.graph.in_parts:
            raise ModelError(f"{name}: the graph reads parts of it, which cannot be swapped", hint="leave it as it is")
        return addresses
