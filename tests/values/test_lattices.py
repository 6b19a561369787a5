"""Bytes of the lattice types into points and back, and what ggml and the gguf package read in them."""

from __future__ import annotations

import numpy as np
import pytest
from gguf import GGMLQuantizationType
from gguf.quants import dequantize

from lwq.engine.ggml import Ggml
from lwq.gguf.types import GGML_TYPES
from lwq.values.lattices import LATTICES, point_values, pointed, sizes, stored


def any_bytes(ggml_type: str, n_rows: int, seed: int) -> np.ndarray:
    """Rows of two quant blocks: whatever bytes, with a float16 factor that is finite."""
    rng = np.random.default_rng(seed)
    data = rng.integers(0, 256, (2 * n_rows, GGML_TYPES[ggml_type][2]), dtype=np.uint8)
    data[:, :2] = rng.uniform(1e-3, 1, (2 * n_rows, 1)).astype(np.float16).view(np.uint8)
    return data.reshape(n_rows, -1)


@pytest.mark.tools
@pytest.mark.parametrize("ggml_type", LATTICES)
def test_any_bytes_are_read_as_ggml_reads_them_and_come_back(ggml: Ggml, ggml_type: str) -> None:
    data = any_bytes(ggml_type, 32, 1)
    rows = pointed(data, ggml_type)
    assert np.array_equal(point_values(rows, ggml_type), ggml.dequantize(data, ggml_type, 512))
    assert np.array_equal(stored(rows, ggml_type), data)


@pytest.mark.parametrize("ggml_type", LATTICES)
def test_any_bytes_are_read_as_the_gguf_package_reads_them_and_come_back(ggml_type: str) -> None:
    lattice, data = LATTICES[ggml_type], any_bytes(ggml_type, 32, 1)
    rows = pointed(data, ggml_type)
    shapes = {name: getattr(rows, name).shape for name in ("points", "signs", "scales", "d")}
    assert shapes == {
        "points": (32, 512 // lattice.entries),
        "signs": (32, 64),
        "scales": (32, 512 // lattice.sub),
        "d": (32, 2),
    }
    assert (rows.points.dtype, rows.signs.dtype, rows.scales.dtype) == (np.uint16, np.uint8, np.int16)
    found = point_values(rows, ggml_type)
    assert found.dtype == rows.d.dtype == np.float32
    assert np.array_equal(found, dequantize(data, GGMLQuantizationType(GGML_TYPES[ggml_type][0])))
    assert np.array_equal(stored(rows, ggml_type), data)


@pytest.mark.parametrize("ggml_type", LATTICES)
def test_part_is_a_view_of_its_own_blocks(ggml_type: str) -> None:
    data = any_bytes(ggml_type, 3, 4)
    whole, n_bytes = pointed(data, ggml_type), GGML_TYPES[ggml_type][2]
    part = whole.part(ggml_type, slice(256, 512))
    assert np.array_equal(stored(part, ggml_type), data[:, n_bytes:])
    part.scales[:], part.d[:] = 0, 0.0
    assert not point_values(whole, ggml_type)[:, 256:].any()
    assert np.array_equal(stored(whole.part(ggml_type, slice(0, 256)), ggml_type), data[:, :n_bytes])


@pytest.mark.tools
@pytest.mark.parametrize("ggml_type", LATTICES)
def test_every_index_sign_and_scale_is_written(ggml: Ggml, ggml_type: str) -> None:
    lattice = LATTICES[ggml_type]
    data = any_bytes(ggml_type, 16, 2)
    rows, rng = pointed(data, ggml_type), np.random.default_rng(3)
    rows.points = rng.integers(0, len(sizes(ggml_type)), rows.points.shape).astype(np.uint16)
    rows.scales = rng.integers(0, 16, rows.scales.shape).astype(np.int16)
    signs = rng.integers(0, 128 if lattice.is_even else 256, rows.signs.shape).astype(np.uint8)
    if lattice.is_even:
        odd = np.unpackbits(signs[..., None], axis=-1).sum(axis=-1) % 2 == 1
        signs = np.where(odd, signs | 128, signs).astype(np.uint8)
    rows.signs = signs
    written = stored(rows, ggml_type)
    again = pointed(written, ggml_type)
    for name in ("points", "signs", "scales", "d"):
        assert np.array_equal(getattr(again, name), getattr(rows, name)), name
    assert np.array_equal(ggml.dequantize(written, ggml_type, 512), point_values(rows, ggml_type))
