"""Scores of task sets in llama-perplexity's output.

Source: tools/perplexity/perplexity.cpp, ``hellaswag_score``, ``winogrande_score``, ``multiple_choice_score``.
"""

from __future__ import annotations

import math
import re
from typing import Final

from lwq.errors import TranscriptError
from lwq.metrics import Estimate

_HELLASWAG: Final = re.compile(r"^(\d+)\t\s*([\d.]+)%\t\[([\d.]+)%, ([\d.]+)%\]", re.MULTILINE)
_WINOGRANDE: Final = re.compile(r"Final Winogrande score\((\d+) tasks\): ([\d.]+) \+/- ([\d.]+|-?nan)")
_FINAL: Final = re.compile(r"Final result: ([\d.]+) \+/- ([\d.]+|-?nan)")
_COUNTER: Final = re.compile(r"^(\d+)\t[\d.]+\s*$", re.MULTILINE)


def parse_task_score(kind: str, stdout: str, stderr: str, n_items: int) -> Estimate:
    """The score as a fraction, if all ``n_items`` were scored.

    HellaSwag prints a 95 % Wilson interval; its ± here is the binomial √(p(1−p)/(n−1)), as the tool
    itself computes it for the other sets.

    Raises:
        TranscriptError: no score, or another number of items than announced.
    """
    both = stdout + stderr
    found = {"hellaswag": _hellaswag, "winogrande": _winogrande, "multiple-choice": _multiple_choice}[kind](both)
    if found is None:
        raise TranscriptError(f"no {kind} score in the output, which ends with:\n{both[-600:]}")
    n_scored, score, stderr_value = found
    if n_scored != n_items:
        raise TranscriptError(
            f"{kind}: {n_scored} of {n_items} items were scored",
            hint="an item does not fit n_ctx, or the file holds fewer items",
        )
    return Estimate(value=round(score / 100, 12), stderr=stderr_value)


def _spread(score: float, n: int) -> float:
    p = score / 100
    return math.sqrt(p * (1 - p) / (n - 1)) if n > 1 else 0.0


def _hellaswag(text: str) -> tuple[int, float, float | None] | None:
    rows = _HELLASWAG.findall(text)
    return (int(rows[-1][0]), float(rows[-1][1]), _spread(float(rows[-1][1]), int(rows[-1][0]))) if rows else None


def _winogrande(text: str) -> tuple[int, float, float | None] | None:
    match = _WINOGRANDE.search(text)
    return (int(match[1]), float(match[2]), _known(match[3])) if match else None


def _multiple_choice(text: str) -> tuple[int, float, float | None] | None:
    match, counters = _FINAL.search(text), _COUNTER.findall(text)
    return (int(counters[-1]), float(match[1]), _known(match[2])) if match and counters else None


def _known(text: str) -> float | None:
    value = float(text)
    return round(value / 100, 12) if math.isfinite(value) else None
