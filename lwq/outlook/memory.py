"""What llama.cpp and lwq hold in memory at their peak, by what they compute: formulas from the sizes of the model.

Beside the mapped model file a process holds, in llama.cpp: the cache of keys and values (written when it is made), the
logits of a batch, the same of a part of it in the compute buffer, activations; in lwq, what ``engine`` and its users
keep. A step's peak is that of its largest process. ``benchmarks/peaks.py`` sets it beside what was measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from lwq.engine.session import BESIDE
from lwq.layers.healing import method_of
from lwq.llama.devices import Device
from lwq.outlook.shape import ModelShape

_MIB: Final = 1 << 20
TOOL_BYTES: Final = 12 * _MIB
"""A tool's own code and libraries."""
LWQ_BYTES: Final = 64 * _MIB
"""Python with what a step in process imports."""
LIBRARY_BYTES: Final = 44 * _MIB
"""Its code, which is mapped."""
_TOKEN_BYTES: Final = 160
"""Of a token of the vocabulary, by which llama.cpp finds it in both directions."""
_F32: Final = 4
_BATCH: Final = 2048
"""Tokens that the tools compute in one call (``-b``), and at once (``-ub``)."""
_AT_ONCE: Final = 512
_ENDINGS: Final = 128
"""Tokens of all choices of a task item, behind what they share."""
_CACHE_STEP: Final = 256
"""Tokens by which a context grows. Source: src/llama-context.cpp."""
_PIECE_VALUES: Final = 1 << 24
"""Values quantized at once (``bits.mixes``)."""
_N_OBSERVED: Final = 128
"""Tokens of activations kept of each tensor (``bits.curves``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """The most memory that a step needs at a time, in bytes."""

    anonymous: int
    """Of one process alone, when it is most: it must be there."""
    mapped: int = 0
    """Pages of files when most memory is resident, of which the system drops what it needs for others."""
    device: int = 0
    """On the device that computes, where that is not the CPU."""
    others: int = 0
    """What is resident beside ``mapped`` then; 0: as much as ``anonymous``."""

    @property
    def resident(self) -> int:
        return self.mapped + (self.others or self.anonymous)

    def and_then(self, other: Peak) -> Peak:
        """Of one after the other."""
        larger = max(self, other, key=lambda p: p.resident)
        return Peak(
            anonymous=max(self.anonymous, other.anonymous),
            mapped=larger.mapped,
            device=max(self.device, other.device),
            others=larger.others or larger.anonymous,
        )


START: Final = Peak(anonymous=37 * _MIB, mapped=12 * _MIB)
"""Of a step that computes nothing itself: Python, and lwq."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """What one context computes with: tokens of the cache, of the largest call, and how many of these are scored."""

    n_cells: int
    n_tokens: int
    n_scored: int


def windows_of(n_ctx: int, n_windows: int, *, all_scored: bool = False) -> Pass:
    """Of the tools on a text: as many windows at once as fill a batch. Source: tools/perplexity, tools/imatrix."""
    n_seq = max(1, _BATCH // n_ctx)
    together = min(n_seq, max(1, n_windows))
    scored = n_ctx if all_scored else n_ctx - n_ctx // 2
    return Pass(n_cells=n_seq * padded(n_ctx), n_tokens=min(_AT_ONCE, n_seq * n_ctx), n_scored=together * scored)


def padded(n_ctx: int) -> int:
    return -(-n_ctx // _CACHE_STEP) * _CACHE_STEP


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """Peaks of what computes with one model.

    Args:
        room_bytes: what is kept to save time may take (``llama.machine.room_bytes``).
        device: on which as many layers of a model lie as its memory holds.
        is_short: there is so little memory that swapped tensors lie in a mapped file (``engine.stored``).
    """

    shape: ModelShape
    room_bytes: int
    device: Device
    is_short: bool = False

    def placed(self, *, own: int, native: int, mapped: int, share: float) -> Peak:
        """A peak of what is always in this machine's memory, what lies where its layer is computed, and the model.

        Args:
            share: of the model's layers that lie on the device.
        """
        there = int(share * native)
        return Peak(anonymous=own + native - there, mapped=mapped, device=there + int(share * mapped))

    def share(self, file_bytes: int, *, beside: float = 0.0) -> float:
        """Of a model's layers, how much lies on the device."""
        n_layer = self.shape.header.n_layer_all
        return self.device.n_layers(file_bytes, n_layer, beside=beside) / (n_layer + 1)

    # llama.cpp

    def context(self, used: Pass) -> int:
        """Cache and compute buffer of a context, as far as they are written."""
        shape = self.shape
        activations = used.n_tokens * (4 * shape.n_embd + 3 * shape.n_ff) * _F32
        at_once = min(used.n_tokens, used.n_scored)
        return used.n_cells * shape.kv_bytes + activations + self.logits(at_once)

    def vocabulary(self) -> int:
        return self.shape.n_vocab * _TOKEN_BYTES

    def logits(self, n_tokens: int) -> int:
        return n_tokens * self.shape.n_vocab * _F32

    def tool(self, file_bytes: int, used: Pass, *, own: int = 0, repacked: int = 0) -> Peak:
        """A tool that computes with a file, and holds the logits of a call and ``own`` beside.

        Args:
            repacked: bytes of weights that the CPU's kernels want in another order, and so in memory of their own.
        """
        share = self.share(file_bytes)
        native = self.context(used) + (0 if share else repacked)
        held = TOOL_BYTES + self.vocabulary() + self.logits(used.n_scored) + own
        return self.placed(own=held, native=native, mapped=file_bytes + TOOL_BYTES, share=share)

    def perplexity(self, file_bytes: int, n_ctx: int, n_windows: int, *, stores: bool, repacked: int = 0) -> Peak:
        """llama-perplexity; the log-probabilities that it writes or reads are 16 bits each, of one window at a time."""
        n_kept = n_ctx if stores else n_ctx // 2
        long = self.logits(n_ctx) if n_ctx > _BATCH else 0
        own = n_kept * self.shape.n_vocab * 2 + long
        return self.tool(file_bytes, windows_of(n_ctx, n_windows), own=own, repacked=repacked)

    def imatrix(self, n_ctx: int, n_windows: int) -> Peak:
        """llama-imatrix: every token is scored; sums and the activations of one tensor are host memory."""
        long = self.logits(n_ctx) if n_ctx > _BATCH else 0
        own = self.imatrix_bytes() + long + (0 if self.device.is_cpu else _AT_ONCE * self.shape.n_ff * _F32)
        return self.tool(self.shape.base_bytes, windows_of(n_ctx, n_windows, all_scored=True), own=own)

    def imatrix_bytes(self) -> int:
        """Bytes of an importance matrix."""
        return self.shape.n_channels * _F32

    def scorer(self, file_bytes: int, n_cells: int, *, repacked: int = 0) -> Peak:
        """llama-perplexity on a task set: it clears room for the logits of every cell, and scores an item or two at a
        time, since it has four sequences."""
        n_scored = min(_ENDINGS, n_cells)
        used = Pass(n_cells=padded(n_cells), n_tokens=min(_AT_ONCE, n_cells), n_scored=n_scored)
        return self.tool(file_bytes, used, own=self.logits(n_cells), repacked=repacked)

    def quantizer(self, bytes_per_value: float) -> Peak:
        """llama-quantize: the largest tensor as float32 and in its new type; the original is let go when it is done."""
        largest = self.shape.largest
        return Peak(anonymous=TOOL_BYTES + int(largest * (_F32 + bytes_per_value)), mapped=TOOL_BYTES + 2 * largest)

    # lwq in process

    def engine(self, n_ctx: int, n_scored: int, n_windows: int, *, own: int = 0, swapped: int = 0) -> Peak:
        """A loaded model that scores windows: its logits of each, and residual streams as far as there is room."""
        shape = self.shape
        used = Pass(n_cells=padded(n_ctx), n_tokens=n_ctx, n_scored=n_scored)
        streams = n_windows * n_ctx * shape.n_embd * _F32
        kept = streams * min(shape.n_layer + 1, max(1, self.room_bytes // max(1, streams)))
        kept += n_windows * n_ctx * padded(n_ctx) * _F32  # the mask
        held = LWQ_BYTES + self.vocabulary() + self.logits(n_scored) * (n_windows + 3) + kept + own
        judged = 0 if self.device.is_cpu else self.logits(n_scored) * n_windows  # lies where the logits do
        native, mapped = self.context(used) + swapped + judged, shape.base_bytes + LIBRARY_BYTES
        if self.is_short and self.device.is_cpu:
            native, mapped = native - swapped, mapped + swapped
        return self.placed(own=held, native=native, mapped=mapped, share=self.share(shape.base_bytes, beside=BESIDE))

    def mixer(self, bytes_of_forms: int) -> int:
        """Tensors in other types: those kept to save time, and a piece of one while it is quantized (float32, a mark
        for each value, and the result)."""
        return min(self.room_bytes, bytes_of_forms) + 6 * min(_PIECE_VALUES, self.shape.largest)

    def curves(self) -> int:
        """Activations of all tensors, and the largest tensor as float32 with a mark for each value."""
        return self.shape.n_channels * _N_OBSERVED * _F32 + self.shape.largest * (_F32 + 1)

    def compensated(self) -> int:
        """Of the widest matrix itself, what its factor is made of and a copy; all of a place as they are kept (2 bytes
        for each pair of channels); a piece of a tensor and what it becomes."""
        widest = max((n for n, _ in self.shape.gathered), default=0)
        kept = max((n_matrices * n**2 for n, n_matrices in self.shape.gathered), default=0)
        return 4 * _F32 * widest**2 + kept + 4 * _F32 * min(_PIECE_VALUES, self.shape.largest) + 2 * self.shape.largest

    def summed(self, at_once: int) -> int:
        """Gram matrices while they are summed: of as many places as fit in ``at_once`` bytes, or of one; and half as
        much where they are packed."""
        places = [_F32 * n_matrices * n**2 for n, n_matrices in self.shape.gathered]
        return max(max(places, default=0), min(sum(places), at_once)) * 3 // 2

    def repair(self, n_windows: int, n_ctx: int) -> int:
        """What a repair is fitted with: streams of the fitting text three times, sums over its tokens and what solving
        copies of them (float64; ``layers.healing``), the tensor as it was and two repaired ones."""
        shape, streams = self.shape, n_windows * n_ctx * self.shape.n_embd * _F32
        width = max((t.ne[0] for t in shape.matrices if t.tensor_class == "ffn_down"), default=0)
        square, tensor = 8 * width**2, 8 * width * shape.n_embd
        if method_of(width) == "transform":
            square, tensor = 8 * shape.n_embd**2, tensor // 2
        return 3 * streams + 3 * square + 5 * tensor

    def weights_of_a_layer(self) -> int:
        """A layer as float32, and its largest tensor twice more."""
        layer, tensor = self.shape.layer_values
        return (layer + 2 * tensor) * _F32
