"""Scores of task sets: every item accounted for, right or wrong, or an error."""

from __future__ import annotations

import random

import pytest

from lwq.errors import TranscriptError
from lwq.llama.task_transcripts import parse_task_score

KINDS = ("hellaswag", "winogrande", "multiple-choice")


def printed(kind: str, right: list[bool], final: float | None = None) -> str:
    """What the tool prints for these outcomes, by the formats of perplexity.cpp."""
    lines, n_right = [], 0
    for i, is_right in enumerate(right, 1):
        n_right += is_right
        share = 100 * n_right / i
        if kind == "hellaswag":
            lines.append(f"{i}\t{share:.8f}%\t[{share / 2:.4f}%, {share:.4f}%]")
        elif kind == "winogrande":
            lines.append(f"{i}\t{share:.4f}\t {-1.25:10.6f}  {-2.5:10.6f}  1  {1 if is_right else 2}")
        else:
            lines.append(f"{i}\t{share:.8f}")
    share = 100 * n_right / len(right) if final is None else final
    spread = 100 * (share / 100 * (1 - share / 100) / (len(right) - 1)) ** 0.5
    if kind == "winogrande":
        lines.append(f"\n0.12.345.678 I Final Winogrande score({len(right)} tasks): {share:.4f} +/- {spread:.4f}")
    elif kind == "multiple-choice":
        lines.append(f"\n\n0.12.345.678 I Final result: {share:.4f} +/- {spread:.4f}\nRandom chance: 25.0000 +/- 1.58")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("kind", KINDS)
def test_every_item_is_read_off_the_running_percentages(kind: str) -> None:
    draw = random.Random(7)
    right = [draw.random() < 0.43 for _ in range(750)]
    found = parse_task_score(kind, printed(kind, right), "", 750)
    assert list(found.right) == right
    share = sum(right) / 750
    assert found.score.value == pytest.approx(share, abs=5e-7)
    assert found.score.stderr == pytest.approx((share * (1 - share) / 749) ** 0.5, abs=5e-7)


def test_winogrande_under_a_hundred_items_has_no_closing_line_and_needs_none() -> None:
    right = [True, False, True] * 10
    text = printed("winogrande", right).replace("Final", "Never")
    assert parse_task_score("winogrande", text, "", 30).score.value == pytest.approx(2 / 3)


@pytest.mark.parametrize("kind", KINDS)
def test_other_than_the_announced_number_of_items_is_an_error(kind: str) -> None:
    text = printed(kind, [True, False] * 60)
    with pytest.raises(TranscriptError, match="120 of 750 items"):
        parse_task_score(kind, text, "", 750)
    with pytest.raises(TranscriptError, match="of 119 items"):
        parse_task_score(kind, text, "", 119)
    with pytest.raises(TranscriptError, match=r"no .* score"):
        parse_task_score(kind, "", "nothing here", 120)


@pytest.mark.parametrize("kind", KINDS)
def test_nan_is_an_error_and_no_score(kind: str) -> None:
    lines = printed(kind, [True, False] * 60).splitlines()
    lines[4] = lines[4].replace(lines[4].split("\t")[1].rstrip("%"), "nan")
    with pytest.raises(TranscriptError, match="nan"):
        parse_task_score(kind, "\n".join(lines), "", 120)


def test_scores_of_choices_that_are_no_numbers_are_an_error() -> None:
    text = printed("winogrande", [True, False] * 60).replace(" -1.250000", "       nan", 1)
    with pytest.raises(TranscriptError, match="no number"):
        parse_task_score("winogrande", text, "", 120)


def test_lost_or_doubled_line_is_an_error() -> None:
    lines = printed("multiple-choice", [True, False, True] * 40).splitlines()
    for broken in (lines[:5] + lines[6:], lines[:5] + lines[4:]):
        with pytest.raises(TranscriptError, match="line 6 of the scores"):
            parse_task_score("multiple-choice", "\n".join(broken), "", 120)


@pytest.mark.parametrize("kind", KINDS[1:])
def test_final_score_must_be_that_of_the_items(kind: str) -> None:
    with pytest.raises(TranscriptError, match="its items make 50"):
        parse_task_score(kind, printed(kind, [True, False] * 60, final=51.0), "", 120)
    with pytest.raises(TranscriptError, match="no final score"):
        parse_task_score(kind, printed(kind, [True, False] * 60).replace("Final", "Finally"), "", 120)
