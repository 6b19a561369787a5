"""How the values of a type are read, moved and written, whatever it is made of: levels, or points of a lattice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Generic, Protocol, TypeVar

import numpy as np

from lwq.gguf.types import GGML_TYPES
from lwq.metrics.arrays import Bytes, Floats
from lwq.values.codes import GRIDS, Coded, values
from lwq.values.lattices import LATTICES, Pointed, point_values, pointed, sizes, stored
from lwq.values.layouts import decoded, encoded

R = TypeVar("R")
_STEPS: Final = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, -1), (2, 0), (-2, 0))
"""By how much a scale and a min may move at once."""


class TypeForm(Protocol, Generic[R]):
    """Of one type; ``R`` holds rows."""

    def read(self, data: Bytes) -> R:
        """Rows from their bytes."""

    def write(self, rows: R) -> Bytes:
        """Their bytes."""

    def values(self, rows: R) -> Floats:
        """The weights that they stand for: float32 (rows, length)."""

    def part(self, rows: R, columns: slice) -> R:
        """Views of whole quant blocks."""

    def joined(self, parts: Sequence[R]) -> R:
        """Rows from parts of them, side by side."""

    def descend(self, g: Floats, h: Floats, q: Floats, rows: R) -> int:
        """Moves everything once downhill; the number of moves. ``g``, ``h``, ``q`` as in ``descent.Rows``."""


class Levels:
    """A type whose codes stand for levels."""

    def __init__(self, ggml_type: str) -> None:
        from lwq.values.descent import Kind

        self.ggml_type, self._grid, self._block = ggml_type, GRIDS[ggml_type], GGML_TYPES[ggml_type][1]
        grid = self._grid
        scaled, shifted = (low < high for low, high in (grid.scales, grid.mins))
        steps = [(a, b) for a, b in _STEPS if (scaled or not a) and (shifted or not b)]
        self._kind = Kind(
            np.array(grid.levels, np.float32),
            len(grid.levels) == grid.levels[-1] - grid.levels[0] + 1,
            np.array(steps, np.int64).reshape(-1, 2),
            np.array((*grid.scales, *grid.mins), np.int64),
            grid.sub,
        )

    def read(self, data: Bytes) -> Coded:
        return decoded(data, self.ggml_type)

    def write(self, rows: Coded) -> Bytes:
        return encoded(rows, self.ggml_type)

    def values(self, rows: Coded) -> Floats:
        return values(rows, self.ggml_type)

    def part(self, rows: Coded, columns: slice) -> Coded:
        return rows.part(slice(None), self._grid, self._block, columns)

    def joined(self, parts: Sequence[Coded]) -> Coded:
        return Coded(**_side_by_side(parts))

    def descend(self, g: Floats, h: Floats, q: Floats, rows: Coded) -> int:
        from lwq.values.descent import Levelled, descend

        levels = self._kind.levels
        of = Levelled(
            level=_turned(levels[rows.codes]),
            scales=_turned(rows.scales, np.int64),
            mins=_turned(rows.mins, np.int64),
            d=_turned(rows.d),
            m=_turned(rows.m),
        )
        with _tile(g, h, q) as tile:
            moved = int(descend(tile, of, self._kind))
        rows.codes[:] = of.level.T - levels[0] if self._kind.is_linear else np.searchsorted(levels, of.level.T)
        rows.scales[:], rows.mins[:], rows.d[:], rows.m[:] = of.scales.T, of.mins.T, of.d.T, of.m.T
        return moved


class Points:
    """A type whose weights are points of a lattice."""

    def __init__(self, ggml_type: str) -> None:
        from lwq.values.lattice_descent import table_of

        self.ggml_type, lattice = ggml_type, LATTICES[ggml_type]
        self._table = table_of(sizes(ggml_type), lattice.sub, lattice.first, lattice.step, lattice.is_even)

    def read(self, data: Bytes) -> Pointed:
        return pointed(data, self.ggml_type)

    def write(self, rows: Pointed) -> Bytes:
        return stored(rows, self.ggml_type)

    def values(self, rows: Pointed) -> Floats:
        return point_values(rows, self.ggml_type)

    def part(self, rows: Pointed, columns: slice) -> Pointed:
        return rows.part(self.ggml_type, columns)

    def joined(self, parts: Sequence[Pointed]) -> Pointed:
        return Pointed(**_side_by_side(parts))

    def descend(self, g: Floats, h: Floats, q: Floats, rows: Pointed) -> int:
        from lwq.values.lattice_descent import Moving, descend_points

        of = Moving(
            points=_turned(rows.points, np.int64),
            signs=_turned(rows.signs, np.int64),
            scales=_turned(rows.scales, np.int64),
            d=_turned(rows.d),
        )
        with _tile(g, h, q) as tile:
            moved = int(descend_points(tile, of, self._table))
        rows.points[:], rows.signs[:], rows.scales[:], rows.d[:] = of.points.T, of.signs.T, of.scales.T, of.d.T
        return moved


def form_of(ggml_type: str) -> TypeForm[Any] | None:
    """How a type's values are moved; None where nothing is known of it but what ggml makes."""
    if ggml_type in GRIDS:
        return Levels(ggml_type)
    return Points(ggml_type) if ggml_type in LATTICES else None


def _turned(part: Any, dtype: type = np.float32) -> Any:
    return np.ascontiguousarray(part.T, dtype)


@contextmanager
def _tile(g: Floats, h: Floats, q: Floats) -> Iterator[Any]:
    """Of rows that lie one after the other; what became of them is written back."""
    from lwq.values.descent import Tile

    tile = Tile(_turned(g), h, _turned(q))
    yield tile
    g[:], q[:] = tile.g.T, tile.q.T


def _side_by_side(parts: Sequence[Any]) -> dict[str, Any]:
    return {k: np.concatenate([getattr(p, k) for p in parts], axis=1) for k in type(parts[0]).__slots__}
