"""What values a type can hold, and rows of weights as codes, scales and mins.

A weight is ``d · scale · level[code] − m · min``: ``d`` and ``m`` are float16 of a quant block, ``scale`` and ``min``
small integers of a sub-block (1 where the type has none), ``level`` a table of the type.
Source: ggml/src/ggml-common.h (``block_*``, ``kvalues_iq4nl``) and ggml-quants.c (``dequantize_row_*``) at the pin.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lwq.gguf.types import GGML_TYPES
from lwq.metrics.arrays import Floats

Codes: TypeAlias = NDArray[Any]
"""Whole numbers below 256, as a rule uint8."""
Integers: TypeAlias = NDArray[np.int16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """What values a type can hold.

    Args:
        sub: weights that share a scale and a min.
        levels: ascending.
        scales: least and greatest integer scale; (1, 1) where there is none.
        mins: least and greatest integer min; (0, 0) for types without, (1, 1) where the min is a float16 alone.
    """

    sub: int
    levels: tuple[int, ...]
    scales: tuple[int, int] = (1, 1)
    mins: tuple[int, int] = (0, 0)


@dataclass(slots=True, kw_only=True)
class Coded:
    """Rows in codes.

    ``codes`` (rows, length); ``scales`` and ``mins`` (rows, sub-blocks); ``d`` and ``m`` (rows, blocks).
    """

    codes: Codes
    scales: Integers
    mins: Integers
    d: Floats
    m: Floats

    def part(self, rows: slice, grid: Grid, block: int, columns: slice) -> Coded:
        """Views of some rows and whole quant blocks."""
        subs = slice(columns.start // grid.sub, columns.stop // grid.sub)
        blocks = slice(columns.start // block, columns.stop // block)
        return Coded(
            codes=self.codes[rows, columns],
            scales=self.scales[rows, subs],
            mins=self.mins[rows, subs],
            d=self.d[rows, blocks],
            m=self.m[rows, blocks],
        )


_NL: Final = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
GRIDS: Final[dict[str, Grid]] = {
    "q4_0": Grid(sub=32, levels=tuple(range(-8, 8))),
    "q4_1": Grid(sub=32, levels=tuple(range(16)), mins=(1, 1)),
    "q5_0": Grid(sub=32, levels=tuple(range(-16, 16))),
    "q5_1": Grid(sub=32, levels=tuple(range(32)), mins=(1, 1)),
    "q8_0": Grid(sub=32, levels=tuple(range(-128, 128))),
    "q2_K": Grid(sub=16, levels=tuple(range(4)), scales=(0, 15), mins=(0, 15)),
    "q3_K": Grid(sub=16, levels=tuple(range(-4, 4)), scales=(-32, 31)),
    "q4_K": Grid(sub=32, levels=tuple(range(16)), scales=(0, 63), mins=(0, 63)),
    "q5_K": Grid(sub=32, levels=tuple(range(32)), scales=(0, 63), mins=(0, 63)),
    "q6_K": Grid(sub=16, levels=tuple(range(-32, 32)), scales=(-128, 127)),
    "iq4_nl": Grid(sub=32, levels=_NL),
    "iq4_xs": Grid(sub=32, levels=_NL, scales=(-32, 31)),
}
"""Types whose codes are laid out here."""


def values(coded: Coded, ggml_type: str) -> Floats:
    """The weights that the codes stand for: float32 (rows, length)."""
    grid, block = GRIDS[ggml_type], GGML_TYPES[ggml_type][1]
    per = block // grid.sub
    steps = np.repeat(coded.d, per, axis=1) * coded.scales
    starts = np.repeat(coded.m, per, axis=1) * coded.mins
    levels = np.array(grid.levels, np.float32)[coded.codes]
    out: Floats = np.repeat(steps, grid.sub, axis=1) * levels - np.repeat(starts, grid.sub, axis=1)
    return out
