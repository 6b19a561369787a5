"""Rows with compensated values lose no more than stock ones, and are the same bytes however they are computed."""

from __future__ import annotations

import numpy as np
import pytest

from lwq.engine.ggml import Ggml
from lwq.gguf.types import tensor_bytes
from lwq.metrics.arrays import Floats
from lwq.values.codes import GRIDS
from lwq.values.compensation import Compensation
from lwq.values.grams import Gram
from lwq.values.lattices import LATTICES
from tests.coded_rows import block_of, correlated, gram_of, loss

pytestmark = pytest.mark.tools
TYPES = (*GRIDS, *LATTICES, "iq1_s")
SOME = ("q4_K", "q3_K", "iq4_nl", "iq2_xs")


def rows_of(n_rows: int, length: int, seed: int = 0) -> Floats:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((n_rows, length)) * rng.lognormal(0, 0.3, (n_rows, 1)) / 16).astype(np.float32)


def gram(length: int, seed: int = 0) -> Gram:
    return gram_of(correlated(2 * length, length, np.random.default_rng(seed)))


def made(ggml: Ggml, described: Gram, n_threads: int = 1) -> Compensation:
    return Compensation(ggml, described.conditioned(), described.diagonal, n_threads)


@pytest.mark.parametrize(
    ("ggml_type", "length"),
    [(q, length) for q in TYPES for length in (32, 96, 256, 768) if length % block_of(q) == 0],
)
def test_loss_is_lower_than_that_of_the_stock_bytes(ggml_type: str, length: int, ggml: Ggml) -> None:
    w, described = rows_of(6, length), gram(length)
    h, stock = described.conditioned(), ggml.quantize(w, ggml_type, described.diagonal)
    data = made(ggml, described).quantized(w, ggml_type)
    assert data.shape == stock.shape == (6, tensor_bytes((length,), ggml_type))
    ours, theirs = (loss(w, ggml.dequantize(d, ggml_type, length), h) for d in (data, stock))
    if ggml_type in GRIDS or ggml_type in LATTICES:
        assert (ours < theirs).all()
    elif length > 256:
        assert ours.sum() < 0.95 * theirs.sum()
    else:  # ggml's codes of a single block, to which nothing was carried
        assert np.array_equal(data, stock)


@pytest.mark.parametrize("ggml_type", SOME)
def test_bytes_are_the_same_for_any_number_of_threads_and_in_any_run(ggml_type: str, ggml: Ggml) -> None:
    w, described = rows_of(300, 256), gram(256)
    one = made(ggml, described)
    first = one.quantized(w, ggml_type)
    assert np.array_equal(one.quantized(w, ggml_type), first)
    for n_threads in (1, 2, 3):
        assert np.array_equal(made(ggml, described, n_threads).quantized(w, ggml_type), first), n_threads


@pytest.mark.parametrize("ggml_type", SOME)
def test_bytes_are_the_same_where_rows_come_in_pieces(ggml_type: str, ggml: Ggml) -> None:
    w = rows_of(300, 256)
    whole = made(ggml, gram(256), 2)
    parts = [whole.quantized(w[:128], ggml_type), whole.quantized(w[128:], ggml_type)]
    assert np.array_equal(np.concatenate(parts), whole.quantized(w, ggml_type))


@pytest.mark.parametrize("ggml_type", TYPES)
def test_channels_that_nothing_enters_keep_values_near_their_own(ggml_type: str, ggml: Ggml) -> None:
    tokens = correlated(512, 256, np.random.default_rng(3))
    dead = np.arange(256) % 5 == 0
    dead[32:64] = True  # a whole quant block of some types
    tokens[:, dead] = 0
    described, w = gram_of(tokens), rows_of(4, 256)
    assert not described.conditioned()[dead].any()
    data = made(ggml, described).quantized(w, ggml_type)
    found = ggml.dequantize(data, ggml_type, 256)
    stock = ggml.dequantize(ggml.quantize(w, ggml_type, described.diagonal), ggml_type, 256)
    h = described.conditioned()
    assert loss(w, found, h).sum() <= loss(w, stock, h).sum()
    assert np.abs(found[:, dead]).max() < 3 * np.abs(w).max()


def test_dead_gram_leaves_every_channel_to_itself(ggml: Ggml) -> None:
    w = rows_of(4, 256)
    even = np.ones(256, np.float32)
    data = Compensation(ggml, np.zeros((256, 256), np.float32), even, 1).quantized(w, "q4_K")
    found, stock = (ggml.dequantize(d, "q4_K", 256) for d in (data, ggml.quantize(w, "q4_K", even)))
    assert (loss(w, found, np.diag(even)) <= loss(w, stock, np.diag(even))).all()


@pytest.mark.parametrize("wrong", ["not positive", "nan", "infinite"])
def test_gram_without_a_factor_is_refused(wrong: str, ggml: Ggml) -> None:
    matrix = np.eye(32, dtype=np.float32)
    matrix[3, 7] = matrix[7, 3] = {"not positive": 2.0, "nan": np.nan, "infinite": np.inf}[wrong]
    with pytest.raises(ValueError, match="has no factor"):
        Compensation(ggml, matrix, np.ones(32, np.float32), 1)
