"""Gram matrices come back from their packed form and from files, and few tokens are believed less."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwq.errors import ModelError
from lwq.metrics.arrays import Floats
from lwq.values.grams import RIDGE, SHRINKAGE, Gathered, Gram, Grams, Reader, packed, write_gathered
from tests.coded_rows import correlated, gram_of

RNG = np.random.default_rng(11)


def expected(tokens: Floats, shrinkage: float) -> Floats:
    """The matrix to fit with, as numpy has it in float64."""
    exact = tokens.astype(np.float64).T @ tokens / len(tokens)
    diagonal = np.diagonal(exact)
    out = exact * (1 - shrinkage)
    np.fill_diagonal(out, diagonal + RIDGE * diagonal.mean())
    return np.asarray(out)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 40), per_channel=st.integers(4, 9))
def test_conditioned_matrix_is_numpys_within_the_rounding_of_float16(seed: int, n: int, per_channel: int) -> None:
    tokens = correlated(n * per_channel, n, np.random.default_rng(seed))
    found, exact = gram_of(tokens).conditioned(), expected(tokens, SHRINKAGE)
    sizes = np.sqrt(np.diagonal(exact))
    # a correlation is at most 1, where float16 has steps of 2^-11; sums in float32 add little
    assert (np.abs(found - exact) <= (2**-12 + 1e-5) * np.outer(sizes, sizes)).all()
    assert np.array_equal(found, found.T)
    assert np.linalg.eigvalsh(found.astype(np.float64)).min() > 0


def test_packed_matrix_has_mean_squares_and_correlations_row_by_row() -> None:
    tokens = correlated(50, 5, RNG)
    gram = gram_of(tokens)
    assert gram.n_tokens == 50
    np.testing.assert_allclose(gram.diagonal, (tokens.astype(np.float64) ** 2).mean(axis=0), rtol=1e-5)
    sizes = np.sqrt((tokens.astype(np.float64) ** 2).sum(axis=0))
    cosines = (tokens.astype(np.float64).T @ tokens) / np.outer(sizes, sizes)
    assert gram.correlations.dtype == np.float16
    np.testing.assert_allclose(gram.correlations, cosines[np.tril_indices(5, -1)], atol=2**-12 + 1e-6)


def test_upper_triangle_is_not_read() -> None:
    """Sums are made of the lower one alone."""
    total = correlated(50, 6, RNG)
    total = total.T @ total
    below = total.copy()
    below[np.triu_indices(6, 1)] = np.nan
    assert np.array_equal(packed(below, 50).correlations, packed(total, 50).correlations)


def test_fewer_tokens_are_shrunk_more() -> None:
    shares = [Gram(diagonal=np.ones(64, np.float32), correlations=None, n_tokens=n).shrinkage for n in (0, 16, 64, 128)]
    assert shares == [1.0, 0.8, 0.5, pytest.approx(1 / 3)]
    plenty = [Gram(diagonal=np.ones(64, np.float32), correlations=None, n_tokens=n).shrinkage for n in (192, 10**6)]
    assert plenty == [SHRINKAGE, SHRINKAGE]


@pytest.mark.parametrize("n_tokens", [1, 3, 30])
def test_matrix_of_few_tokens_has_a_factor(n_tokens: int) -> None:
    tokens = correlated(n_tokens, 30, RNG)
    found, shrinkage = gram_of(tokens).conditioned(), 30 / (30 + n_tokens)
    sizes = np.sqrt(np.diagonal(expected(tokens, 0)))
    assert (np.abs(found - expected(tokens, shrinkage)) <= 2**-11 * np.outer(sizes, sizes)).all()
    np.linalg.cholesky(found)


@pytest.mark.parametrize("size", [0.0, 1e-9])
def test_dead_channels_are_zero(size: float) -> None:
    tokens = correlated(64, 12, RNG)
    alive = np.arange(12) % 3 != 0
    tokens[:, ~alive] *= np.float32(size)
    found = gram_of(tokens).conditioned()
    assert not found[~alive].any()
    assert not found[:, ~alive].any()
    assert (np.diagonal(found)[alive] > 0).all()
    assert np.isfinite(found).all()


def test_matrix_of_nothing_is_zero() -> None:
    gram = packed(np.zeros((4, 4), np.float32), 0)
    assert np.isfinite(gram.correlations).all()
    assert not gram.conditioned().any()


# files


def gathered(*experts: int, held: tuple[int, ...] = ()) -> Gathered:
    grams = {e: gram_of(correlated(20 + e, 8, RNG)) for e in experts}
    return Gathered(grams=grams, held={e: correlated(3, 8, RNG) for e in held})


def written(path: Path, places: dict[str, Gathered]) -> Path:
    with path.open("wb") as file:
        write_gathered(file, places)
    return path


def assert_same(found: Gathered, wanted: Gathered) -> None:
    assert list(found.grams) == list(wanted.grams)
    assert set(found.held) == set(wanted.held)
    for expert, gram in wanted.grams.items():
        assert np.array_equal(found.grams[expert].diagonal, gram.diagonal)
        assert np.array_equal(found.grams[expert].correlations, gram.correlations)
        assert found.grams[expert].correlations.dtype == np.float16
        assert found.grams[expert].n_tokens == gram.n_tokens
    for expert, tokens in wanted.held.items():
        assert np.array_equal(found.held[expert], tokens)


def test_what_was_written_is_read_by_every_tensor_of_its_place(tmp_path: Path) -> None:
    first = {"blk.0.attn_q.weight": gathered(0, held=(0,)), "blk.0.ffn_down_exps.weight": gathered(0, 2, 3, held=(2,))}
    second = {"blk.1.attn_q.weight": gathered(0, held=(0,))}
    files = [written(tmp_path / "a.npz", first), written(tmp_path / "b.npz", second)]
    readers = [
        Reader(tensor="blk.0.attn_q.weight", file=0, place="blk.0.attn_q.weight"),
        Reader(tensor="blk.0.attn_k.weight", file=0, place="blk.0.attn_q.weight"),
        Reader(tensor="blk.0.ffn_down_exps.weight", file=0, place="blk.0.ffn_down_exps.weight"),
        Reader(tensor="blk.1.attn_q.weight", file=1, place="blk.1.attn_q.weight"),
    ]
    grams = Grams(files, readers)
    assert_same(grams.of("blk.0.attn_q.weight"), first["blk.0.attn_q.weight"])
    assert_same(grams.of("blk.0.attn_k.weight"), first["blk.0.attn_q.weight"])
    assert_same(grams.of("blk.0.ffn_down_exps.weight"), first["blk.0.ffn_down_exps.weight"])
    assert_same(grams.of("blk.1.attn_q.weight"), second["blk.1.attn_q.weight"])
    assert grams.place("blk.0.attn_k.weight") == grams.place("blk.0.attn_q.weight") == "blk.0.attn_q.weight"
    assert "blk.0.attn_k.weight" in grams


def test_bytes_of_two_writes_are_the_same(tmp_path: Path) -> None:
    places = {"a.weight": gathered(0, 1, held=(1,))}
    digests = {hashlib.sha256(written(tmp_path / name, places).read_bytes()).hexdigest() for name in ("a.npz", "b.npz")}
    assert len(digests) == 1


def test_tensor_of_which_nothing_was_collected_is_named(tmp_path: Path) -> None:
    grams = Grams([written(tmp_path / "a.npz", {"a.weight": gathered(0)})], [])
    assert "a.weight" not in grams
    with pytest.raises(ModelError, match=r"a\.weight: no Gram matrix was collected") as caught:
        grams.of("a.weight")
    assert caught.value.hint


def test_no_flipped_bit_gives_another_matrix(tmp_path: Path) -> None:
    """It is refused with the way out, or it is of something that is not read."""
    place = gathered(0, held=(0,))
    path = written(tmp_path / "a.npz", {"a.weight": place})
    good = path.read_bytes()
    reader = Reader(tensor="a.weight", file=0, place="a.weight")
    n_refused = 0
    for at in range(0, len(good), 3):
        data = bytearray(good)
        data[at] ^= 1 << (at % 8)
        path.write_bytes(data)
        with suppress(ModelError):
            assert_same(Grams([path], [reader]).of("a.weight"), place)
            continue
        n_refused += 1
    assert n_refused > len(good) // 6
