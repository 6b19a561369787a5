"""Values of a model that are not finite, or do not survive in F16, counted tensor by tensor.

F16 rounds to nearest, ties to even: from 65520 on a value becomes infinite, up to 2^-25 it becomes
zero, and what rounds below 2^-14 is subnormal (kept with fewer bits).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lwq.gguf.data import raw_tensor
from lwq.gguf.header import GgufHeader
from lwq.gguf.types import TensorInfo

_CHUNK: Final = 1 << 22  # values looked at together: 16 MiB as float32


def _bits(value: float) -> int:
    return int(np.float32(value).view(np.uint32))


_FLOATS: Final = ("f16", "bf16", "f32")
_F16_INFINITE: Final = 0x7C00
_INFINITE: Final = _bits(float("inf"))
_OVERFLOWS: Final = _bits(65520.0)
_ZERO_UP_TO: Final = _bits(2.0**-25)
_NORMAL_FROM: Final = _bits(2.0**-14 - 2.0**-25)


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeCounts:
    """Values of one tensor (or of a whole model, ``tensor`` then empty) by what F16 makes of them."""

    tensor: str
    n_values: int
    n_not_finite: int
    """Infinite or not a number in the source already."""
    n_overflow: int
    n_zero: int
    """Become zero though they are not."""
    n_subnormal: int


@dataclass(frozen=True, slots=True, kw_only=True)
class F16Range:
    """The whole model's counts, and those of the tensors where anything was found."""

    total: RangeCounts
    tensors: tuple[RangeCounts, ...]


def scan_f16_range(header: GgufHeader, names: Collection[str] | None = None) -> F16Range:
    """What becomes of each BF16 or F32 value when it is stored as F16, and which values of any are not finite.

    Args:
        names: the tensors that will be stored as F16; None means all with two or more dimensions
            (llama-quantize leaves one-dimensional tensors as they are).
    """
    counts = [_tensor_counts(header, t, names) for t in header.tensors if t.ggml_type in _FLOATS]
    total = RangeCounts(
        tensor="",
        n_values=sum(c.n_values for c in counts),
        n_not_finite=sum(c.n_not_finite for c in counts),
        n_overflow=sum(c.n_overflow for c in counts),
        n_zero=sum(c.n_zero for c in counts),
        n_subnormal=sum(c.n_subnormal for c in counts),
    )
    marked = tuple(c for c in counts if c.n_not_finite or c.n_overflow or c.n_zero or c.n_subnormal)
    return F16Range(total=total, tensors=marked)


def not_finite(header: GgufHeader) -> str:
    """The first tensor stored as floats with a value that is infinite or not a number, and how many; else empty."""
    for tensor in header.tensors:
        if tensor.ggml_type in _FLOATS and (n := _tensor_counts(header, tensor, ()).n_not_finite):
            return f"{tensor.name} has {n:,} value{'s' if n > 1 else ''} not finite"
    return ""


def _is_stored(tensor: TensorInfo, names: Collection[str] | None) -> bool:
    """Whether the tensor becomes F16."""
    if tensor.ggml_type == "f16":
        return False
    return tensor.name in names if names is not None else sum(n > 1 for n in tensor.ne) > 1


def _tensor_counts(header: GgufHeader, tensor: TensorInfo, names: Collection[str] | None) -> RangeCounts:
    counts, infinite = np.zeros(4, dtype=np.int64), _F16_INFINITE if tensor.ggml_type == "f16" else _INFINITE
    is_stored = _is_stored(tensor, names)
    for magnitudes in _magnitudes(header, tensor):
        counts += _classified(magnitudes) if is_stored else (int(np.count_nonzero(magnitudes >= infinite)), 0, 0, 0)
    not_finite, overflow, zero, subnormal = (int(n) for n in counts)
    return RangeCounts(
        tensor=tensor.name,
        n_values=tensor.n_elements if is_stored else 0,
        n_not_finite=not_finite,
        n_overflow=overflow,
        n_zero=zero,
        n_subnormal=subnormal,
    )


def _magnitudes(header: GgufHeader, tensor: TensorInfo) -> Iterator[NDArray[np.uint32] | NDArray[np.uint16]]:
    """The float32 bits (of F16, its own) of the values without their sign, a chunk at a time."""
    data = raw_tensor(header, tensor.name).data.reshape(-1)
    width = 4 if tensor.ggml_type == "f32" else 2
    for start in range(0, len(data), _CHUNK * width):
        piece = np.asarray(data[start : start + _CHUNK * width])
        if width == 4:
            yield piece.view(np.uint32) & np.uint32(0x7FFFFFFF)
        elif tensor.ggml_type == "f16":
            yield piece.view(np.uint16) & np.uint16(0x7FFF)
        else:
            yield (piece.view(np.uint16).astype(np.uint32) & np.uint32(0x7FFF)) << np.uint32(16)


def _classified(bits: NDArray[np.uint32] | NDArray[np.uint16]) -> tuple[int, int, int, int]:
    """(not finite, overflow, zero, subnormal); magnitudes as bits order like the values."""
    not_finite = int(np.count_nonzero(bits >= _INFINITE))
    overflow = int(np.count_nonzero(bits >= _OVERFLOWS)) - not_finite
    tiny = int(np.count_nonzero(bits <= _ZERO_UP_TO))
    zero = tiny - int(np.count_nonzero(bits == 0))
    subnormal = int(np.count_nonzero(bits < _NORMAL_FROM)) - tiny
    return not_finite, overflow, zero, subnormal
