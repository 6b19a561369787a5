"""The closed forms: exact where the answer is known, harmless where there is nothing to learn."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from lwq.layers.healing import WIDEST, Method, Sums, entering, method_of, repaired, token_weights

Floats = NDArray[np.float32]
N_TOKENS, N_CHANNELS, N_EMBD = 400, 12, 8


def drawn(*shape: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def sums_of(
    h: Floats, lacking: Floats, weight: Floats, method: Method = "refit", weights: Floats | None = None
) -> Sums:
    sums = Sums.empty(weight, method)
    sums.add(entering(h, weight, method), lacking, np.ones(len(h), np.float32) if weights is None else weights)
    return sums


def test_refit_recovers_a_linear_change_exactly() -> None:
    h = drawn(N_TOKENS, N_CHANNELS)
    weight, change = drawn(N_EMBD, N_CHANNELS, seed=1), drawn(N_EMBD, N_CHANNELS, seed=2)
    found = repaired(weight, sums_of(h, h @ change.T, weight), "refit", 1e-9)
    assert np.allclose(found, weight + change, atol=1e-4)


def test_transform_recovers_a_transform_exactly() -> None:
    """ReplaceMe's T on M = h Wᵀ, folded into W (arXiv 2505.02819, eq. 6)."""
    h, weight, t = drawn(N_TOKENS, N_CHANNELS), drawn(N_EMBD, N_CHANNELS, seed=1), drawn(N_EMBD, N_EMBD, seed=2)
    m = h @ weight.T
    found = repaired(weight, sums_of(h, m @ t - m, weight, "transform"), "transform", 1e-9)
    assert np.allclose(found, t.T @ weight, atol=1e-3)


@pytest.mark.parametrize("method", ["refit", "transform"])
def test_nothing_lacking_or_a_huge_ridge_changes_nothing(method: Method) -> None:
    h, weight = drawn(N_TOKENS, N_CHANNELS), drawn(N_EMBD, N_CHANNELS, seed=1)
    nothing = np.zeros((N_TOKENS, N_EMBD), np.float32)
    assert np.array_equal(repaired(weight, sums_of(h, nothing, weight, method), method, 0.1), weight)
    lacking = drawn(N_TOKENS, N_EMBD, seed=3)
    assert np.allclose(repaired(weight, sums_of(h, lacking, weight, method), method, 1e12), weight, atol=1e-6)


@pytest.mark.parametrize("method", ["refit", "transform"])
def test_smaller_ridge_never_fits_worse(method: Method) -> None:
    h, weight, lacking = drawn(N_TOKENS, N_CHANNELS), drawn(N_EMBD, N_CHANNELS, seed=1), drawn(N_TOKENS, N_EMBD, seed=3)
    sums = sums_of(h, lacking, weight, method)

    def left(ridge: float) -> float:
        change = repaired(weight, sums, method, ridge) - weight
        return float(((h @ change.T - lacking) ** 2).sum())

    errors = [left(ridge) for ridge in (1e-4, 1e-2, 1.0, 100.0)]
    assert errors == sorted(errors)
    assert errors[-1] <= float((lacking**2).sum()) * (1 + 1e-6)


def test_parts_of_a_text_add_up_to_all_of_it() -> None:
    h, lacking, weights = drawn(N_TOKENS, N_CHANNELS), drawn(N_TOKENS, N_EMBD, seed=3), np.abs(drawn(N_TOKENS, seed=4))
    weight = drawn(N_EMBD, N_CHANNELS, seed=1)
    parts = Sums.empty(weight, "refit")
    for piece in np.array_split(np.arange(N_TOKENS), 7):
        parts.add(h[piece], lacking[piece], weights[piece])
    whole = sums_of(h, lacking, weight, weights=weights)
    assert np.allclose(parts.xx, whole.xx, rtol=1e-4, atol=1e-3)
    assert np.allclose(parts.xd, whole.xd, rtol=1e-4, atol=1e-3)


def test_tokens_weigh_one_over_their_energy() -> None:
    assert token_weights(np.array([[3.0, 4.0], [0.0, 0.5]], np.float32)) == pytest.approx([0.04, 4.0])


def test_channel_without_any_activation_is_left_alone() -> None:
    h, weight = drawn(N_TOKENS, N_CHANNELS), drawn(N_EMBD, N_CHANNELS, seed=1)
    h[:, 5] = 0
    found = repaired(weight, sums_of(h, drawn(N_TOKENS, N_EMBD, seed=3), weight), "refit", 1e-3)
    assert np.array_equal(found[:, 5], weight[:, 5])
    silent = np.zeros_like(h)
    assert np.array_equal(repaired(weight, sums_of(silent, drawn(N_TOKENS, N_EMBD), weight), "refit", 1e-3), weight)


def test_sums_of_a_wide_feed_forward_are_as_wide_as_the_stream() -> None:
    assert method_of(WIDEST) == "refit"
    assert method_of(WIDEST + 1) == "transform"
    assert Sums.empty(np.zeros((N_EMBD, 32768), np.float32), "transform").xx.shape == (N_EMBD, N_EMBD)
