"""The score table of a published card by the author of the reference card: gemma-3-12b-it without layers 26 and 29.

Source: eaddario/gemma-3-12b-it-pruned-GGUF on Hugging Face, README.md (llama.cpp b5540), all fourteen rows: five tasks
of 750 items at a context of 768, in %. ``Q4_K_M-bartowski`` and ``F16`` have all layers.
"""

from __future__ import annotations

from lwq.metrics.ties import mean_estimate
from lwq.metrics.values import Estimate

N_ITEMS = 750
# row: ARC, HellaSwag, MMLU, Truthful QA, WinoGrande, in %
SCORES = {
    "IQ3_M": (66.9333, 74.67, 42.0000, 39.4667, 67.4667),
    "IQ3_S": (65.0667, 74.80, 42.8000, 40.4000, 66.1333),
    "IQ4_NL": (68.2667, 75.47, 42.6667, 40.1333, 68.5333),
    "Q3_K_L": (67.8667, 75.73, 42.5333, 40.2667, 67.0667),
    "Q3_K_M": (68.6667, 75.20, 44.4000, 40.0000, 65.8667),
    "Q3_K_S": (67.6000, 75.20, 43.7333, 39.8667, 66.5333),
    "Q4_K_M": (69.8667, 77.47, 43.6000, 40.8000, 68.4000),
    "Q4_K_M-bartowski": (69.6000, 81.07, 43.6000, 41.0667, 75.7333),
    "Q4_K_S": (69.8667, 77.33, 43.4667, 40.8000, 69.6000),
    "Q5_K_M": (68.8000, 77.87, 45.3333, 41.2000, 68.8000),
    "Q5_K_S": (68.9333, 77.73, 45.0667, 41.3333, 68.6667),
    "Q6_K": (68.9333, 78.66, 45.4667, 40.8000, 68.6667),
    "Q8_0": (68.8000, 78.40, 45.4667, 41.7333, 68.8000),
    "F16": (69.2000, 81.20, 45.3333, 41.4667, 74.8000),
}
PRINTED_ERRORS = {66.9333: 1.7190, 42.0000: 1.8034, 41.4667: 1.8002, 74.8000: 1.5864}
"""Scores of the table and the ± beside them, in %; the card has none for HellaSwag."""
PRINTED_AVERAGES = {"IQ3_M": 58.11, "Q4_K_M-bartowski": 62.21, "Q5_K_M": 60.40, "F16": 62.40}
TASKS = ("ARC", "HellaSwag", "MMLU", "TruthfulQA", "WinoGrande")


def estimate(percent: float) -> Estimate:
    """A score with the tool's error, √(p(1 − p)/(n − 1)), as fractions."""
    share = percent / 100
    return Estimate(value=share, stderr=(share * (1 - share) / (N_ITEMS - 1)) ** 0.5)


AVERAGES = {name: mean_estimate([estimate(score) for score in scores]) for name, scores in SCORES.items()}
