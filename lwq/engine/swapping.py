"""A loaded model whose tensors are swapped for other stored forms and put back.

Swapped tensors are held in their ggml type, so the kernels that run are those that will run on the written file:
what they lose by quantizing activations on the way is measured too. Each has memory of its own on the device where
the original lies, and the graph is pointed at it: originals are never copied nor written, so they may be mapped from
the file, and putting one back is exact.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from lwq.engine.ggml import Tensor
from lwq.engine.replay import Replay
from lwq.engine.stored import Form, Stored
from lwq.errors import ModelError
from lwq.gguf.types import GGML_TYPES, split_name
from lwq.llama.machine import give_back_pages
from lwq.llama.toolchain import Toolchain
from lwq.metrics.arrays import Bytes

ENDS: Final = {
    "attention": ("attn_output", "ssm_out", "shortconv.out_proj"),
    "ffn": ("ffn_down", "ffn_down_exps", "ffn_down_shexp", "ffn_down_chexps"),
}
"""What writes to the residual stream, by part of a layer."""
_HOLES: Final = 1 << 28
"""Bytes freed between mixes after which the C library is asked to give its free pages back."""


@dataclass(slots=True)
class _Swapped:
    """A tensor's original forms by address, and the memory that holds what stands in their place."""

    originals: dict[int, Form]
    replacements: tuple[Stored, ...]


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
        originals = now.originals if now else {address: Form.at(address) for address in addresses}
        ne = Tensor.from_address(addresses[0]).ne
        devices = {address: device for address in addresses if (device := self.ggml.device_of(address))}
        stored = {d: Stored(self.ggml, ne, ggml_type, data, d) for d in set(devices.values())}
        for address, device in devices.items():
            Form.at(stored[device].address).take(address)
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

    def skip_layer(self, layer: int, parts: Iterable[str] = tuple(ENDS)) -> tuple[str, ...]:
        """Makes a layer (or only its ``attention`` or ``ffn``) add nothing; the tensors swapped for zeros.

        A pre-norm layer is the identity then, and so is one whose outputs pass a norm. ``restore`` undoes it.
        """
        names = self.ends(layer, parts)
        for name in names:
            _, tensor = self.header.find(name)
            self.swap(name, tensor.ggml_type, np.zeros(tensor.n_bytes, np.uint8))
        return names

    def ends(self, layer: int, parts: Iterable[str] = tuple(ENDS)) -> tuple[str, ...]:
        """The tensors by which a layer (or these parts of it) writes to the residual stream."""
        assert self.graph
        starts = tuple(f"blk.{layer}.{end}." for part in parts for end in ENDS[part])
        return tuple(n for n in self.graph.weights if n.startswith(starts))

    def place(self, name: str) -> int:
        """The layer whose start a change of this tensor reaches: −1 the whole model, n_layer the output only."""
        layer = split_name(name)[0]
        if layer is not None:
            return layer
        return self.header.n_layer if name.startswith("output") else -1

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
