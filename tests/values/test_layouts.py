"""Bytes and codes say the same, and libggml reads from the bytes what the codes stand for."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from gguf import GGMLQuantizationType
from gguf.quants import dequantize
from hypothesis import given, settings
from hypothesis import strategies as st

from lwq.engine.ggml import Ggml
from lwq.gguf.types import GGML_TYPES, tensor_bytes
from lwq.values.codes import GRIDS, Coded, values
from lwq.values.layouts import decoded, encoded
from tests.coded_rows import any_codes, block_of

MODEST = settings(max_examples=15)
SEEDS, ROWS, BLOCKS = st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(1, 3)


def all_the_same(a: Coded, b: Coded) -> bool:
    pairs = [(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(Coded)]
    return all(x.dtype == y.dtype and np.array_equal(x, y) for x, y in pairs)


@pytest.mark.tools
@pytest.mark.parametrize("ggml_type", GRIDS)
@MODEST
@given(seed=SEEDS, n_rows=ROWS, n_blocks=BLOCKS)
def test_libggml_reads_from_the_bytes_what_the_codes_stand_for(
    ggml_type: str, ggml: Ggml, seed: int, n_rows: int, n_blocks: int
) -> None:
    """Bit for bit: a product of factor, scale and level fits in float32, so nothing but the difference is rounded."""
    coded = any_codes(ggml_type, n_rows, n_blocks, np.random.default_rng(seed))
    data, length = encoded(coded, ggml_type), n_blocks * block_of(ggml_type)
    assert data.shape == (n_rows, tensor_bytes((length,), ggml_type))
    assert np.array_equal(ggml.dequantize(data, ggml_type, length), values(coded, ggml_type))


@pytest.mark.parametrize("ggml_type", GRIDS)
@MODEST
@given(seed=SEEDS, n_rows=ROWS, n_blocks=BLOCKS)
def test_codes_stand_for_what_the_gguf_package_reads_from_their_bytes(
    ggml_type: str, seed: int, n_rows: int, n_blocks: int
) -> None:
    coded = any_codes(ggml_type, n_rows, n_blocks, np.random.default_rng(seed))
    data, found = encoded(coded, ggml_type), values(coded, ggml_type)
    assert data.dtype == np.uint8
    assert found.dtype == np.float32
    assert np.array_equal(found, dequantize(data, GGMLQuantizationType(GGML_TYPES[ggml_type][0])))


@pytest.mark.parametrize("ggml_type", GRIDS)
@MODEST
@given(seed=SEEDS, n_rows=ROWS, n_blocks=BLOCKS)
def test_codes_come_back_from_their_bytes(ggml_type: str, seed: int, n_rows: int, n_blocks: int) -> None:
    coded = any_codes(ggml_type, n_rows, n_blocks, np.random.default_rng(seed))
    assert all_the_same(decoded(encoded(coded, ggml_type), ggml_type), coded)


@pytest.mark.tools
@pytest.mark.parametrize("ggml_type", GRIDS)
@MODEST
@given(seed=SEEDS, n_rows=ROWS, n_blocks=BLOCKS, weighted=st.booleans())
def test_bytes_of_libggml_come_back_from_their_codes(
    ggml_type: str, ggml: Ggml, seed: int, n_rows: int, n_blocks: int, weighted: bool
) -> None:
    rng, length = np.random.default_rng(seed), n_blocks * block_of(ggml_type)
    rows = (rng.standard_normal((n_rows, length)) * rng.lognormal(-4, 2, (n_rows, 1))).astype(np.float32)
    rows[:, : length // 4] *= rng.integers(0, 2)  # some quant blocks or parts of them hold nothing
    importance = rng.lognormal(size=length).astype(np.float32) if weighted else None
    data = ggml.quantize(rows, ggml_type, importance)
    coded = decoded(data, ggml_type)
    assert np.array_equal(encoded(coded, ggml_type), data)
    assert np.array_equal(values(coded, ggml_type), ggml.dequantize(data, ggml_type, length))


@pytest.mark.parametrize("ggml_type", GRIDS)
@MODEST
@given(seed=SEEDS)
def test_any_bytes_come_back_from_their_codes(ggml_type: str, seed: int) -> None:
    """Every bit of a quant block is one of a code, a scale, a min or a factor."""
    rng = np.random.default_rng(seed)
    length = 2 * block_of(ggml_type)
    data = encoded(any_codes(ggml_type, 2, 2, rng), ggml_type)
    flipped = data.copy()
    at = tuple(rng.integers(0, n) for n in data.shape)
    flipped[at] ^= 1 << rng.integers(0, 8)
    there = np.isfinite(decoded(flipped, ggml_type).d) & np.isfinite(decoded(flipped, ggml_type).m)
    if there.all():  # a NaN is not told from another
        assert np.array_equal(encoded(decoded(flipped, ggml_type), ggml_type), flipped)
        assert not all_the_same(decoded(flipped, ggml_type), decoded(data, ggml_type)), (at, length)


@pytest.mark.parametrize("ggml_type", GRIDS)
def test_part_is_a_view_of_its_own_rows_and_blocks(ggml_type: str) -> None:
    block = block_of(ggml_type)
    whole = any_codes(ggml_type, 5, 3, np.random.default_rng(1))
    part = whole.part(slice(1, 3), GRIDS[ggml_type], block, slice(block, 3 * block))
    assert np.array_equal(values(part, ggml_type), values(whole, ggml_type)[1:3, block:])
    part.codes[:] = 0
    before = whole.d.copy()
    part.d[:], part.m[:], part.scales[:], part.mins[:] = 2.0, 3.0, 1, 1
    assert (whole.codes[1:3, block:] == 0).all()
    assert (whole.d[1:3, 1:] == 2).all()
    assert (whole.m[1:3, 1:] == 3).all()
    assert np.array_equal(whole.d[[0, 3, 4]], before[[0, 3, 4]])
    assert np.array_equal(whole.d[:, 0], before[:, 0])
