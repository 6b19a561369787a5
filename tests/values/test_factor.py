"""The factor of a Gram matrix: C with H = C Cᵀ, the same bytes however many threads share its blocks."""

from __future__ import annotations

import numpy as np
import pytest

from lwq.metrics.arrays import Floats
from lwq.values import factor
from lwq.values.factor import GramError, upper_factor
from tests.coded_rows import correlated, gram_of


def matrix(n: int) -> Floats:
    return gram_of(correlated(2 * n, n, np.random.default_rng(n))).conditioned()


@pytest.mark.parametrize("n", [32, 96, 100])
@pytest.mark.parametrize("block", [32, 2048])
def test_product_of_the_factor_is_the_matrix(block: int, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factor, "_BLOCK", block)
    h = matrix(n)
    c = upper_factor(h, 1)
    assert not np.tril(c, -1).any()
    assert (np.diagonal(c) > 0).all()
    assert np.abs(c.astype(np.float64) @ c.T - h).max() < 1e-5 * np.abs(h).max()


def test_dead_channels_stand_for_themselves() -> None:
    h = matrix(64)
    h[[3, 40]], h[:, [3, 40]] = 0.0, 0.0
    before, mean = h.copy(), np.diagonal(h).mean()
    c = upper_factor(h, 1)
    assert np.array_equal(h, before)
    assert c.flags.c_contiguous
    for dead in (3, 40):
        assert c[dead, dead] == pytest.approx(1e-2 * mean**0.5)  # its square is a ten-thousandth of the mean
        assert np.count_nonzero(c[dead]) == np.count_nonzero(c[:, dead]) == 1


def test_gram_of_nothing_has_the_factor_that_changes_nothing() -> None:
    assert np.array_equal(upper_factor(np.zeros((5, 5), np.float32), 1), np.eye(5))


def test_bytes_are_the_same_for_any_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factor, "_BLOCK", 64)
    h = matrix(400)
    first = upper_factor(h, 1).tobytes()
    for n_threads in (1, 2, 3, 7):
        assert upper_factor(h, n_threads).tobytes() == first, n_threads


@pytest.mark.parametrize("block", [16, 2048])
@pytest.mark.parametrize("wrong", [2.0, np.nan, np.inf])
def test_matrix_that_is_not_positive_has_none(wrong: float, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factor, "_BLOCK", block)
    h = np.eye(48, dtype=np.float32)
    h[3, 40] = h[40, 3] = wrong
    with pytest.raises(GramError, match="has no factor"):
        upper_factor(h, 2)
