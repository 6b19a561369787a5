"""Fifteen rows in the form of the reference card's score table: five tasks of 750 items, score ± standard error in %.

The figures are made up in the size of the card's (its own were not at hand): errors are the binomial ones of 750 items,
most rows differ by less than them, and the two smallest files by more.
"""

from __future__ import annotations

from lwq.metrics.ties import mean_estimate
from lwq.metrics.values import Estimate

N_ITEMS = 750
# row: ARC, HellaSwag, MMLU, TruthfulQA, WinoGrande, in %
SCORES = {
    "F16": (66.93, 80.13, 43.33, 38.67, 75.87),
    "Q8_0": (67.07, 80.00, 43.47, 38.53, 75.73),
    "Q6_K": (66.80, 80.27, 43.20, 38.80, 75.60),
    "Q5_K_M": (66.53, 79.87, 43.60, 38.40, 76.00),
    "Q5_K_S": (66.67, 79.73, 43.07, 38.13, 75.33),
    "Q4_K_M": (66.27, 79.60, 43.73, 37.87, 75.47),
    "Q4_K_M-naive": (65.87, 79.33, 42.93, 38.27, 75.20),
    "Q4_K_S": (66.00, 79.47, 42.67, 37.73, 74.93),
    "IQ4_NL": (65.73, 79.20, 42.80, 37.60, 75.07),
    "Q3_K_L": (64.40, 78.53, 41.87, 36.93, 74.40),
    "Q3_K_M": (64.00, 78.27, 41.33, 37.07, 74.00),
    "Q3_K_S": (62.40, 77.07, 40.27, 36.27, 72.93),
    "IQ3_M": (63.07, 77.60, 40.93, 36.53, 73.47),
    "IQ3_S": (58.93, 73.33, 38.27, 34.53, 69.60),
    "IQ3_XXS": (55.87, 70.80, 36.53, 33.20, 67.33),
}


def estimate(percent: float) -> Estimate:
    share = percent / 100
    return Estimate(value=share, stderr=(share * (1 - share) / (N_ITEMS - 1)) ** 0.5)


AVERAGES = {name: mean_estimate([estimate(score) for score in scores]) for name, scores in SCORES.items()}
