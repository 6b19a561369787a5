"""Scores of task sets in llama-perplexity's output, item by item.

The tool prints a running percentage after each item, so which items were right can be read off exactly.
Source: tools/perplexity/perplexity.cpp, ``hellaswag_score``, ``winogrande_score``, ``multiple_choice_score``.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

from lwq.errors import TranscriptError
from lwq.metrics.values import Estimate

_ROWS: Final = {
    "hellaswag": re.compile(r"^(\d+)\t\s*(\S+)%\t\[", re.MULTILINE),
    "winogrande": re.compile(r"^(\d+)\t(\S+)\t\s*\S+\s+\S+\s+\d+\s+\d+\s*$", re.MULTILINE),
    "multiple-choice": re.compile(r"^(\d+)\t(\S+)\s*$", re.MULTILINE),
}
_FINAL: Final = {
    "winogrande": re.compile(r"Final Winogrande score\((\d+) tasks\): (\S+) \+/- (\S+)"),
    "multiple-choice": re.compile(r"Final result: ()(\S+) \+/- (\S+)"),
}
_WINOGRANDE_SCORES: Final = re.compile(r"^\d+\t\S+\t\s*(\S+)\s+(\S+)\s+\d+\s+\d+\s*$", re.MULTILINE)
_FINAL_FROM: Final = {"winogrande": 100, "multiple-choice": 0}
"""Items from which the closing line is printed."""
_AGREED: Final = 1e-6
"""Half a unit of the last of the four decimals of a final line in %, as a fraction, and float32 rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcomes:
    """What came of a task set: the score as a fraction, and right or wrong for each item in the tool's order."""

    score: Estimate
    right: tuple[bool, ...]


def parse_task_score(kind: str, stdout: str, stderr: str, n_items: int) -> Outcomes:
    """The score, if all ``n_items`` were scored and every figure is one.

    HellaSwag prints a 95 % Wilson interval and no final line; its ± here is the binomial √(p(1−p)/(n−1)), as
    the tool itself computes it for the other sets.

    Raises:
        TranscriptError: no score, another number of items than announced, nan, or figures that disagree.
    """
    both = stdout + stderr
    rows = _ROWS[kind].findall(both)
    if not rows:
        raise TranscriptError(f"no {kind} score in the output, which ends with:\n{both[-600:]}")
    right = _right(kind, rows)
    if len(right) != n_items:
        raise TranscriptError(
            f"{kind}: {len(right)} of {n_items} items were scored",
            hint="an item does not fit n_ctx, the file holds fewer items, or the tool was stopped",
        )
    if kind == "winogrande" and not all(_is_number(v) for pair in _WINOGRANDE_SCORES.findall(both) for v in pair):
        raise TranscriptError(f"{kind}: an item's score is no number", hint="the model's logits are not finite")
    share = sum(right) / n_items
    spread = math.sqrt(share * (1 - share) / (n_items - 1)) if n_items > 1 else 0.0
    final = _final(kind, both, share) if n_items >= _FINAL_FROM.get(kind, 0) else None
    return Outcomes(score=final or Estimate(value=share, stderr=spread), right=right)


def _right(kind: str, rows: list[tuple[str, str]]) -> tuple[bool, ...]:
    """Right or wrong by item, from running percentages of whole numbers of items."""
    outcomes, before = [], 0
    for i, (number, percentage) in enumerate(rows, 1):
        if int(number) != i or not _is_number(percentage):
            raise TranscriptError(f"{kind}: line {i} of the scores reads {number} {percentage}")
        n_right = round(float(percentage) * i / 100)
        if n_right - before not in (0, 1) or abs(100 * n_right / i - float(percentage)) > 1e-4:
            raise TranscriptError(f"{kind}: {percentage} % after {i} items, of which {before} were right before")
        outcomes.append(n_right > before)
        before = n_right
    return tuple(outcomes)


def _final(kind: str, text: str, share: float) -> Estimate | None:
    """The closing line's score and ±; None for the kind that prints none."""
    pattern = _FINAL.get(kind)
    if pattern is None:
        return None
    match = pattern.search(text)
    if match is None or not _is_number(match[2]):
        raise TranscriptError(f"{kind}: no final score in the output, which ends with:\n{text[-600:]}")
    value = float(match[2]) / 100
    if abs(value - share) > _AGREED:
        raise TranscriptError(f"{kind}: the final score is {match[2]} %, its items make {100 * share:.4f} %")
    return Estimate(value=round(value, 12), stderr=round(float(match[3]) / 100, 12) if _is_number(match[3]) else None)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
