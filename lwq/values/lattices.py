"""The types whose weights are points of a lattice: bytes into indices, signs and scales, and back.

Eight weights share a byte of signs; an index names eight sizes (iq2) or four (iq3) of a table. A weight is
``± d · (first + step · scale) · size``. Where signs take seven bits, an even number of the eight is negative.
Source: ggml/src/ggml-common.h (``block_iq*``) and ggml-quants.c (``dequantize_row_iq*``) at the pin; tables of sizes
from the ``gguf`` package.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
from gguf import quants

from lwq.gguf.types import GGML_TYPES
from lwq.metrics.arrays import Bytes, Floats
from lwq.values.codes import Codes, Integers

SIGNS: Final = 8
"""Weights that share a byte of signs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lattice:
    """What values a type can hold; its quant blocks have 256 weights.

    Args:
        entries: weights that an index stands for.
        sub: weights that share a scale.
        first, step: of the factor that a scale (0 to 15) stands for.
        is_even: signs are stored without the last.
    """

    table: str
    entries: int
    sub: int
    first: float
    step: float
    is_even: bool


LATTICES: Final[dict[str, Lattice]] = {
    "iq2_xxs": Lattice(table="IQ2_XXS", entries=8, sub=32, first=0.125, step=0.25, is_even=True),
    "iq2_xs": Lattice(table="IQ2_XS", entries=8, sub=16, first=0.125, step=0.25, is_even=True),
    "iq2_s": Lattice(table="IQ2_S", entries=8, sub=16, first=0.125, step=0.25, is_even=False),
    "iq3_xxs": Lattice(table="IQ3_XXS", entries=4, sub=32, first=0.25, step=0.5, is_even=True),
    "iq3_s": Lattice(table="IQ3_S", entries=4, sub=32, first=1.0, step=2.0, is_even=False),
}
"""Types whose indices are laid out here."""


@dataclass(slots=True, kw_only=True)
class Pointed:
    """Rows as points: ``points`` (rows, indices), ``signs`` (rows, groups of eight: bits of negative weights),
    ``scales`` (rows, sub-blocks), ``d`` (rows, blocks).
    """

    points: Any
    """uint16."""
    signs: Codes
    scales: Integers
    d: Floats

    def part(self, ggml_type: str, columns: slice) -> Pointed:
        """Views of whole quant blocks."""
        lattice, block = LATTICES[ggml_type], GGML_TYPES[ggml_type][1]

        def within(n: int) -> slice:
            return slice(columns.start // n, columns.stop // n)

        return Pointed(
            points=self.points[:, within(lattice.entries)],
            signs=self.signs[:, within(SIGNS)],
            scales=self.scales[:, within(lattice.sub)],
            d=self.d[:, within(block)],
        )


@lru_cache
def sizes(ggml_type: str) -> Floats:
    """The table of a type: float32 (indices, entries)."""
    table = getattr(quants, LATTICES[ggml_type].table)
    table.init_grid()
    return np.ascontiguousarray(table.grid.reshape(-1, LATTICES[ggml_type].entries), np.float32)


def pointed(data: Bytes, ggml_type: str) -> Pointed:
    """Indices of stored rows: uint8 of shape (rows, bytes of a row)."""
    n_rows, n_bytes = len(data), GGML_TYPES[ggml_type][2]
    blocks = np.ascontiguousarray(data).reshape(-1, n_bytes)
    points, signs, scales = _LAYOUTS[ggml_type][0](blocks)
    d = np.ascontiguousarray(blocks[:, :2]).view(np.float16).astype(np.float32)
    return Pointed(
        points=np.ascontiguousarray(points, np.uint16).reshape(n_rows, -1),
        signs=np.ascontiguousarray(signs, np.uint8).reshape(n_rows, -1),
        scales=np.ascontiguousarray(scales, np.int16).reshape(n_rows, -1),
        d=d.reshape(n_rows, -1),
    )


def stored(rows: Pointed, ggml_type: str) -> Bytes:
    """The bytes that hold these indices: uint8 of shape (rows, bytes of a row)."""
    lattice, (_, block, n_bytes) = LATTICES[ggml_type], GGML_TYPES[ggml_type]
    blocks = np.zeros((rows.d.size, n_bytes), np.uint8)
    blocks[:, :2] = rows.d.reshape(-1, 1).astype(np.float16).view(np.uint8)
    _LAYOUTS[ggml_type][1](
        blocks,
        rows.points.reshape(-1, block // lattice.entries),
        rows.signs.reshape(-1, block // SIGNS),
        rows.scales.reshape(-1, block // lattice.sub),
    )
    return blocks.reshape(len(rows.d), -1)


def point_values(rows: Pointed, ggml_type: str) -> Floats:
    """The weights that the indices stand for: float32 (rows, length)."""
    lattice, block = LATTICES[ggml_type], GGML_TYPES[ggml_type][1]
    factor = np.float32(lattice.first) + np.float32(lattice.step) * rows.scales.astype(np.float32)
    steps = np.repeat(rows.d, block // lattice.sub, axis=1) * factor
    size = sizes(ggml_type)[rows.points].reshape(len(rows.d), -1)
    negative = np.unpackbits(rows.signs, axis=1, bitorder="little").astype(bool)
    out: Floats = np.repeat(steps, lattice.sub, axis=1) * np.where(negative, -size, size)
    return out


# parts that layouts share


def _with_last(seven: Codes) -> Codes:
    """Eight signs from seven bits: the last makes the number of negative ones even."""
    seven = seven.astype(np.uint8)
    parity = np.bitwise_xor.reduce(np.unpackbits(seven[..., None], axis=-1), axis=-1)
    eight: Codes = seven | (parity << 7)
    return eight


def _words(packed: Bytes, dtype: str) -> Any:
    return np.ascontiguousarray(packed).view(dtype)


def _signs_and_scales(words: Any) -> tuple[Codes, Integers]:
    """Four times seven bits of signs and four of a scale."""
    seven = (words[:, :, None] >> np.arange(0, 28, 7, dtype=np.uint32)) & 127
    return _with_last(seven), (words >> 28).astype(np.int16)


def _word(signs: Codes, scales: Integers) -> Any:
    seven = (signs.reshape(len(signs), -1, 4) & 127).astype(np.uint32) << np.arange(0, 28, 7, dtype=np.uint32)
    return np.bitwise_or.reduce(seven, axis=2) | (scales.astype(np.uint32) << 28)


def _halves(packed: Bytes) -> Integers:
    return np.stack((packed & 15, packed >> 4), axis=2).reshape(len(packed), -1).astype(np.int16)


def _from_halves(scales: Integers) -> Codes:
    small = scales.astype(np.uint8)
    packed: Codes = small[:, ::2] | (small[:, 1::2] << 4)
    return packed


# one type each: bytes → (points, signs, scales), and back


def _read_iq2_xxs(b: Bytes) -> tuple[Any, Any, Any]:
    eight = b[:, 2:66].reshape(len(b), 8, 8)
    signs, scales = _signs_and_scales(_words(eight[:, :, 4:], "<u4")[:, :, 0])
    return eight[:, :, :4].reshape(len(b), -1), signs, scales


def _put_iq2_xxs(b: Bytes, points: Any, signs: Codes, scales: Integers) -> None:
    eight = np.empty((len(b), 8, 8), np.uint8)
    eight[:, :, :4] = points.reshape(len(b), 8, 4)
    eight[:, :, 4:] = _word(signs, scales).astype("<u4")[:, :, None].view(np.uint8)
    b[:, 2:66] = eight.reshape(len(b), -1)


def _read_iq2_xs(b: Bytes) -> tuple[Any, Any, Any]:
    words = _words(b[:, 2:66], "<u2")
    return words & 511, _with_last(words >> 9), _halves(b[:, 66:74])


def _put_iq2_xs(b: Bytes, points: Any, signs: Codes, scales: Integers) -> None:
    words = points | ((signs & 127).astype(np.uint16) << 9)
    b[:, 2:66] = np.ascontiguousarray(words.astype("<u2")).view(np.uint8)
    b[:, 66:74] = _from_halves(scales)


def _read_iq2_s(b: Bytes) -> tuple[Any, Any, Any]:
    high = (b[:, 66:74, None] >> np.array([0, 2, 4, 6], np.uint8)) & 3
    points = b[:, 2:34].astype(np.uint16) | (high.reshape(len(b), -1).astype(np.uint16) << 8)
    return points, b[:, 34:66], _halves(b[:, 74:82])


def _put_iq2_s(b: Bytes, points: Any, signs: Codes, scales: Integers) -> None:
    b[:, 2:34], b[:, 34:66] = points & 255, signs
    high = (points >> 8).astype(np.uint8).reshape(len(b), 8, 4) << np.array([0, 2, 4, 6], np.uint8)
    b[:, 66:74], b[:, 74:82] = np.bitwise_or.reduce(high, axis=2), _from_halves(scales)


def _read_iq3_xxs(b: Bytes) -> tuple[Any, Any, Any]:
    signs, scales = _signs_and_scales(_words(b[:, 66:98], "<u4"))
    return b[:, 2:66], signs, scales


def _put_iq3_xxs(b: Bytes, points: Any, signs: Codes, scales: Integers) -> None:
    b[:, 2:66] = points
    b[:, 66:98] = np.ascontiguousarray(_word(signs, scales).astype("<u4")).view(np.uint8)


def _read_iq3_s(b: Bytes) -> tuple[Any, Any, Any]:
    high = np.unpackbits(b[:, 66:74], axis=1, bitorder="little").astype(np.uint16)
    return b[:, 2:66].astype(np.uint16) | (high << 8), b[:, 74:106], _halves(b[:, 106:110])


def _put_iq3_s(b: Bytes, points: Any, signs: Codes, scales: Integers) -> None:
    b[:, 2:66] = points & 255
    b[:, 66:74] = np.packbits((points >> 8).astype(np.uint8), axis=1, bitorder="little")
    b[:, 74:106], b[:, 106:110] = signs, _from_halves(scales)


_LAYOUTS: Final[dict[str, tuple[Callable[[Bytes], tuple[Any, Any, Any]], Callable[..., None]]]] = {
    "iq2_xxs": (_read_iq2_xxs, _put_iq2_xxs),
    "iq2_xs": (_read_iq2_xs, _put_iq2_xs),
    "iq2_s": (_read_iq2_s, _put_iq2_s),
    "iq3_xxs": (_read_iq3_xxs, _put_iq3_xxs),
    "iq3_s": (_read_iq3_s, _put_iq3_s),
}
