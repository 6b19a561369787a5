"""Every move lowers the loss, and what is kept up to date is what it says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lwq.metrics.arrays import Floats
from lwq.values.codes import GRIDS, Coded, values
from lwq.values.descent import half, to_levels
from lwq.values.forms import Levels
from tests.coded_rows import any_codes, block_of, correlated, gram_of, loss

MODEST = settings(max_examples=15)


def rounded(x: float) -> float:
    with np.errstate(over="ignore"):
        return float(np.float64(x).astype(np.float16))


@settings(max_examples=500)
@given(x=st.one_of(st.floats(), st.floats(-7e4, 7e4), st.floats(-1e-4, 1e-4), st.floats(-2e-7, 2e-7)))
@example(x=65519.99)
@example(x=65520.0)
@example(x=-65520.0)
@example(x=2.0**-25)
@example(x=2.0**-25 * (1 + 2**-50))
@example(x=2.0**-14 * (1 - 2**-12))
@example(x=5e-324)
def test_half_is_the_float16_that_numpy_rounds_to(x: float) -> None:
    assert half(x) == rounded(x) or (math.isnan(half(x)) and math.isnan(x))


def test_float16_stay_as_they_are() -> None:
    every = np.arange(1 << 16).astype(np.uint16).view(np.float16).astype(np.float64)
    every = every[np.isfinite(every)]
    assert [half(x) for x in every.tolist()] == every.tolist()


@pytest.mark.parametrize("ggml_type", ["q2_K", "q3_K", "q4_0", "q8_0", "iq4_nl"])
@settings(max_examples=200)
@given(x=st.one_of(st.floats(-300, 300, width=32), st.floats(width=32, allow_nan=False)))
def test_nearest_level_is_that_of_a_search_through_all(ggml_type: str, x: float) -> None:
    """Within the rounding of float32 near the middle between two levels."""
    levels = GRIDS[ggml_type].levels
    (found,) = near(np.array([x], np.float32), ggml_type)
    within = min(max(x, levels[0]), levels[-1])
    assert abs(within - found) <= min(abs(within - v) for v in levels) + 2**-16


@pytest.mark.parametrize("ggml_type", GRIDS)
def test_every_level_is_nearest_to_itself(ggml_type: str) -> None:
    levels = np.array(GRIDS[ggml_type].levels, np.float32)
    assert np.array_equal(near(levels, ggml_type), levels)


def near(x: Floats, ggml_type: str) -> Floats:
    found = np.empty_like(x)
    to_levels(x, np.array(GRIDS[ggml_type].levels, np.float32), "iq4" not in ggml_type, found)
    return found


def problem(ggml_type: str, seed: int) -> tuple[Floats, Floats, Coded]:
    """Rows that some codes come near to, and a Gram matrix."""
    rng = np.random.default_rng(seed)
    n_blocks = 1 if block_of(ggml_type) == 256 else 3
    n = n_blocks * block_of(ggml_type)
    coded = any_codes(ggml_type, 3, n_blocks, rng)
    coded.d = np.float32(rng.choice([1.0, -0.5, 2.0**-10, 2.0**-20], coded.d.shape))
    coded.m = np.float32(rng.choice([1.0, 0.25], coded.m.shape)) * coded.d * (coded.m != 0)
    q = values(coded, ggml_type)
    w = q + rng.standard_normal(q.shape).astype(np.float32) * 0.2 * np.abs(q).mean(axis=1, keepdims=True)
    return w.astype(np.float32), gram_of(correlated(2 * n, n, rng)).conditioned(), coded


@pytest.mark.parametrize("ggml_type", GRIDS)
@MODEST
@given(seed=st.integers(0, 2**32 - 1))
def test_sweep_lowers_the_loss_and_keeps_gradient_and_values_true(ggml_type: str, seed: int) -> None:
    w, h, coded = problem(ggml_type, seed)
    q = values(coded, ggml_type)
    g, before, first = (w - q) @ h, loss(w, q, h), q.copy()
    largest, n_moved = np.abs(g).max(axis=1, keepdims=True), Levels(ggml_type).descend(g, h, q, coded)
    assert np.array_equal(q, values(coded, ggml_type))
    after = loss(w, q, h)
    assert (after <= before * (1 + 1e-5)).all()
    assert n_moved > 0
    assert (after < before).any()
    assert not np.array_equal(q, first)
    # each of some hundred moves rounds the gradient by half a unit of float32
    exact = (w.astype(np.float64) - q) @ h.astype(np.float64)
    assert (np.abs(g - exact) <= 1e-4 * largest).all()
    grid = GRIDS[ggml_type]
    assert coded.codes.max() < len(grid.levels)
    assert grid.scales[0] <= coded.scales.min() <= coded.scales.max() <= grid.scales[1]
    assert grid.mins[0] <= coded.mins.min() <= coded.mins.max() <= grid.mins[1]
    assert np.array_equal(coded.d, coded.d.astype(np.float16))
    assert np.array_equal(coded.m, coded.m.astype(np.float16))


@pytest.mark.parametrize("ggml_type", GRIDS)
def test_rows_that_the_codes_hold_exactly_are_left_alone(ggml_type: str) -> None:
    _, h, coded = problem(ggml_type, 1)
    q = values(coded, ggml_type)
    before, codes = q.copy(), coded.codes.copy()
    assert Levels(ggml_type).descend(np.zeros_like(q), h, q, coded) == 0
    assert np.array_equal(q, before)
    assert np.array_equal(coded.codes, codes)


@pytest.mark.parametrize("ggml_type", ["q4_0", "q4_K", "iq4_xs"])
def test_rows_do_not_know_of_each_other(ggml_type: str) -> None:
    w, h, coded = problem(ggml_type, 2)
    q = values(coded, ggml_type)
    alone = Coded(**{k: getattr(coded, k)[1:2].copy() for k in Coded.__slots__})
    own = q[1:2].copy()
    gradient = (w - q) @ h
    second = gradient[1:2].copy()
    Levels(ggml_type).descend(gradient, h, q, coded)
    Levels(ggml_type).descend(second, h, own, alone)
    assert np.array_equal(own, q[1:2])
