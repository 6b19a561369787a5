"""Scores of the literature on streams whose scores are known."""

from __future__ import annotations

import numpy as np
import pytest

from lwq.layers.scores import StreamStatistics, lowest, nearest_run, weights_above
from lwq.metrics.values import Estimate
from lwq.record.prune import LayerScore

NOTHING = Estimate(value=0.0, stderr=0.0, unit="nats")


def turned(degrees: float, n_tokens: int = 3) -> np.ndarray:
    angle = np.radians(degrees)
    return np.tile(np.array([[np.cos(angle), np.sin(angle)]], np.float32) * 5, (n_tokens, 1))


def test_influence_and_angles_of_streams_that_turn_by_known_degrees() -> None:
    found = StreamStatistics(3)
    found.add([turned(0), turned(60), turned(60), turned(150)])
    assert found.block_influence(0) == pytest.approx(1 - 0.5)
    assert found.block_influence(1) == pytest.approx(0, abs=1e-6)
    assert found.lim_cosine(2) == pytest.approx(0, abs=1e-6)
    assert found.angular(0) == pytest.approx((60 / 180, 60 / 180, 150 / 180), abs=1e-3)
    assert found.angular(2) == pytest.approx((0.5,))


def test_windows_average_over_tokens_and_over_last_tokens() -> None:
    found = StreamStatistics(1)
    first = turned(0, 2)
    found.add([first, np.concatenate([turned(90, 1), turned(0, 1)])])
    found.add([first, np.concatenate([turned(0, 1), turned(90, 1)])])
    assert found.block_influence(0) == pytest.approx(0.5)
    assert found.angular(0) == pytest.approx((0.25,), abs=1e-3)


def test_share_of_weights_above_a_standard_deviation() -> None:
    """Mean 0.1, deviation 0.3 over ten weights, nine of them 0 and one 1: one is more than a deviation above."""
    assert weights_above([np.zeros(5, np.float32), np.array([0, 0, 0, 0, 1], np.float32)]) == pytest.approx(0.1)
    assert weights_above([np.ones((4, 4), np.float32)]) == 0.0
    assert weights_above([]) == 0.0


def test_lowest_scores_win_and_ties_go_to_the_first_layer() -> None:
    assert lowest({1: 0.5, 2: 0.1, 3: 0.5, 4: 0.0}, 3) == (1, 2, 4)


def score(layer: int, *angular: float) -> LayerScore:
    return LayerScore(
        layer=layer, block_influence=0.0, lim=0.0, zd=0.0, cossim=None, angular=angular, kld=NOTHING, ppl=1.0,
        attention_kld=NOTHING, ffn_kld=NOTHING,
    )  # fmt: skip


def test_nearest_run_lies_wholly_among_the_candidates() -> None:
    scores = [score(0, 0.1, 0.01), score(1, 0.3, 0.4), score(2, 0.2, 0.3), score(3, 0.5)]
    assert nearest_run(scores, 2, [1, 2, 3]) == (2, 3)
    assert nearest_run(scores, 2, range(4)) == (0, 1)
    assert nearest_run(scores, 3, range(4)) == ()
