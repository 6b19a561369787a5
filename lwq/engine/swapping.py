"""A loaded model whose tensors are swapped for other stored forms and put back.

Swapped tensors are held in their ggml type, so the kernels that run are those that will run on the written file:
what they lose by quantizing activations on the way is measured too. Weights lie where llama.cpp put them (CPU, CUDA
or Metal memory) and are written through the same calls everywhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from lwq.engine.ggml import Tensor
from lwq.engine.replay import Replay
from lwq.errors import ModelError
from lwq.gguf.types import GGML_TYPES
from lwq.llama.toolchain import Toolchain
from lwq.metrics.arrays import Bytes


@dataclass(frozen=True, slots=True)
class _Original:
    """A tensor as it was loaded."""

    ggml_type: int
    nb: tuple[int, ...]
    data: Bytes


class Swappable(Replay):
    """A session that knows its graph, and whose tensors can be swapped once that graph was found."""

    def __init__(
        self, toolchain: Toolchain, path: Path, *, n_ctx: int, n_threads: int, scored: range | None = None
    ) -> None:
        super().__init__(toolchain, path, n_ctx=n_ctx, n_threads=n_threads, scored=scored)
        self._originals: dict[str, _Original] = {}

    def swap(self, name: str, ggml_type: str, data: Bytes) -> None:
        """Puts a tensor's stored form in place of what is there; the first original is kept for ``restore``.

        Raises:
            ModelError: the graph does not read such a tensor, the bytes are not a whole one of that type, or they
                would not fit in the memory of the original.
        """
        number, n_weights, n_bytes = GGML_TYPES[ggml_type]
        for address in self._addresses(name):
            tensor = Tensor.from_address(address)
            if data.nbytes * n_weights != math.prod(tensor.ne) * n_bytes:
                raise ModelError(f"{name}: {data.nbytes} bytes are not such a tensor in {ggml_type}")
            if name not in self._originals:
                self._originals[name] = _Original(tensor.type, tuple(tensor.nb), self.ggml.read(address))
            if data.nbytes > self._originals[name].data.nbytes:
                raise ModelError(f"{name}: {ggml_type} takes more bytes than the type it was loaded in")
            row = tensor.ne[0] // n_weights * n_bytes
            tensor.type = number
            tensor.nb[:] = (n_bytes, row, row * tensor.ne[1], row * tensor.ne[1] * tensor.ne[2])
            self.ggml.write(address, data)

    def restore(self, *names: str) -> None:
        """These tensors as they were loaded, bit for bit; all that were swapped when none is named."""
        for name in names or tuple(self._originals):
            original = self._originals.pop(name, None)
            for address in self._addresses(name) if original else ():
                assert original
                tensor = Tensor.from_address(address)
                tensor.type, tensor.nb[:] = original.ggml_type, original.nb
                self.ggml.write(address, original.data)

    def _addresses(self, name: str) -> tuple[int, ...]:
        assert self.graph, "set_windows first"
        addresses = self.graph.weights.get(name)
        if addresses is None:
            raise ModelError(f"{name}: is in the file, but its graph does not read it", hint="leave it as it is")
        return addresses
