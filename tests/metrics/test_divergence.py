"""KL divergence and likelihood equal those of float64 log-softmax, however small or large the change is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, logsumexp

from lwq.metrics.arrays import Doubles, Floats
from lwq.metrics.divergence import Scores, stderr, token_kld
from lwq.metrics.values import Estimate

MODEST = settings(max_examples=60, deadline=None)


def reference(base: Floats, q: Floats) -> Doubles:
    """Σ p (log p − log q) from scipy's log-softmax in float64."""
    log_p, log_q = (log_softmax(x.astype(np.float64), axis=1) for x in (base, q))
    return np.asarray((np.exp(log_p) * (log_p - log_q)).sum(axis=1))


def logits(seed: int, n_rows: int, n_vocab: int, spread: float, change: float) -> tuple[Floats, Floats]:
    random = np.random.default_rng(seed)
    base = (random.normal(size=(n_rows, n_vocab)) * spread).astype(np.float32)
    return base, (base + random.normal(size=base.shape) * change).astype(np.float32)


@pytest.mark.parametrize("n_vocab", [2, 50, 40_000])
@pytest.mark.parametrize("change", [1e-3, 1e-2, 0.1, 1.0, 10.0])
def test_kld_equals_the_float64_reference(change: float, n_vocab: int) -> None:
    base, q = logits(1, 24, n_vocab, 3.0, change)
    kld, _ = token_kld(base, q)
    # the reference itself loses ~1e-16 of log p ~ 20 to cancelling
    np.testing.assert_allclose(kld, reference(base, q), rtol=1e-6, atol=1e-14)


@MODEST
@given(
    seed=st.integers(0, 2**32 - 1),
    n_vocab=st.integers(2, 300),
    spread=st.floats(0.1, 10),
    change=st.floats(1e-3, 30),
    shift=st.floats(-20, 20),
)
def test_kld_and_partition_equal_the_reference(seed, n_vocab, spread, change, shift) -> None:
    base, q = logits(seed, 3, n_vocab, spread, change)
    q = (q + np.float32(shift)).astype(np.float32)
    kld, partition = token_kld(base, q)
    np.testing.assert_allclose(kld, reference(base, q), rtol=1e-6, atol=1e-13)
    np.testing.assert_allclose(partition, logsumexp(q.astype(np.float64), axis=1), rtol=1e-12, atol=1e-12)


def test_a_hand_calculation() -> None:
    # p = (1/2, 1/2), q = (1/4, 3/4): KLD = ½ log 2 + ½ log ⅔ = ½ log 4/3; log partition of (0, log 3) is log 4
    kld, partition = token_kld(np.zeros((1, 2), np.float32), np.log([[1, 3]]).astype(np.float32))
    assert kld[0] == pytest.approx(0.5 * np.log(4 / 3), rel=1e-7)  # log 3 is rounded to float32
    assert partition[0] == pytest.approx(np.log(4), rel=1e-7)


def test_a_change_near_the_rounding_of_float32_has_the_second_order_kld() -> None:
    # KLD = ½ Var_p(d) + O(d³): two tokens of p = ½ and d = ±2⁻¹² give ½ · 2⁻²⁴
    d = np.float32(2**-12)
    kld, _ = token_kld(np.zeros((1, 2), np.float32), np.array([[d, -d]]))
    assert kld[0] == pytest.approx(0.5 * 2.0**-24, rel=1e-6)


def test_identical_logits_have_no_divergence() -> None:
    base, _ = logits(2, 20, 1000, 8.0, 0.0)
    kld, partition = token_kld(base, base.copy())
    assert (kld == 0).all()
    np.testing.assert_allclose(partition, logsumexp(base.astype(np.float64), axis=1), rtol=1e-14)


def test_a_shift_of_all_logits_changes_the_partition_alone() -> None:
    base = np.array([[0, 1, -2, 3]], np.float32)
    kld, partition = token_kld(base, base + np.float32(4))
    assert abs(kld[0]) < 1e-15  # what float64 leaves of the mean change
    assert partition[0] == pytest.approx(float(logsumexp(base.astype(np.float64))) + 4, rel=1e-14)


def test_threads_and_inputs_are_left_as_they_are() -> None:
    base, q = logits(3, 37, 500, 3.0, 0.3)
    before = base.copy(), q.copy()
    one, several = token_kld(base, q, 1), token_kld(base, q, 3)
    assert np.array_equal(one[0], several[0])
    assert np.array_equal(one[1], several[1])
    assert np.array_equal(base, before[0])
    assert np.array_equal(q, before[1])


def scores(kld: list[list[float]], nll: float = 2.0) -> Scores:
    return Scores(kld=np.array(kld, np.float64), nll=np.full(np.shape(kld), nll))


def test_pieces_are_quarters_of_windows() -> None:
    # quarters of 8 tokens hold 2 each
    found = scores([[1, 3, 5, 5, 0, 0, 2, 4], [1, 1, 1, 1, 1, 1, 1, 1]])
    assert found.pieces().tolist() == [2, 5, 0, 3, 1, 1, 1, 1]
    # mean 14/8; Σ (x − 1.75)² = 42 − 8 · 1.75² = 17.5; stderr² = 17.5 / 7 / 8
    assert found.mean_kld == 1.75
    assert found.kld_stderr() == pytest.approx((17.5 / 7 / 8) ** 0.5)


def test_windows_of_few_tokens_have_a_piece_for_each() -> None:
    assert scores([[1, 2, 3]]).pieces().tolist() == [1, 2, 3]


def test_estimate_is_the_mean_with_the_error_of_its_pieces_and_never_below_zero() -> None:
    found = scores([[1, 3, 5, 5, 0, 0, 2, 4], [1, 1, 1, 1, 1, 1, 1, 1]])
    assert found.estimate() == Estimate(value=1.75, stderr=found.kld_stderr(), unit="nats")
    below = scores([[-1e-9, -3e-9]])
    assert below.estimate() == Estimate(value=0.0, stderr=below.kld_stderr(), unit="nats")
    assert below.kld_stderr() == pytest.approx(1e-9)


def test_windows_and_quarters_of_the_first_have_means_of_their_own() -> None:
    found = Scores(
        kld=np.array([[1.0, 3, 5, 5, 0, 0, 2, 4], [1, 1, 1, 1, 1, 1, 1, 9]]),
        nll=np.array([[2.0, 2, 1, 1, 3, 5, 0, 1], [7, 7, 7, 7, 7, 7, 7, 7]]),
    )
    assert found.by_window().tolist() == [2.5, 2]
    assert found.quarters() == ([2, 5, 0, 3], [2, 1, 4, 0.5])
    assert scores([[1, 2, 3]]).quarters() == ([1, 2, 3], [2, 2, 2])


def test_one_piece_has_no_finite_error() -> None:
    assert stderr(np.array([0.5, 1.5])) == pytest.approx(0.5)  # s = 1 / √2
    assert stderr(np.array([0.5])) == float("inf")


def test_more_windows_stand_behind_the_first() -> None:
    both = scores([[1, 1]], 1.0).with_more(scores([[3, 3]], 3.0))
    assert both.kld.tolist() == [[1, 1], [3, 3]]
    assert both.nll.tolist() == [[1, 1], [3, 3]]
    assert both.mean_kld == 2
    assert both.ppl == pytest.approx(np.exp(2))  # mean nll (1 + 3) / 2
