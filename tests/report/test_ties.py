"""What the card says of rows that differ by less than chance."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lwq.metrics.values import Estimate, TaskScore, smallest_visible
from lwq.report.choices import offered
from lwq.report.numerals import rounded
from lwq.report.ties import of_items, of_scores, p_value, paragraph, unranked
from tests import published_gemma
from tests.metrics.test_values import pair
from tests.published_rows import AVERAGES
from tests.sample_record import sample_record

GOLDEN = Path(__file__).parents[1] / "golden" / "published_rows.md"
GEMMA = GOLDEN.with_name("published_gemma.md")


def test_fifteen_published_rows_are_grouped_as_the_errors_say() -> None:
    assert len(AVERAGES) == 15
    assert GOLDEN.read_text(encoding="utf-8") == of_scores(AVERAGES) + "\n"


def test_what_a_published_table_cannot_show_is_what_its_z_test_would_miss() -> None:
    from scipy.stats import norm

    rows = {"a": Estimate(value=0.62, stderr=0.008), "b": Estimate(value=0.6, stderr=0.006)}
    told = of_scores(rows)
    seen = float(told.split("differences under ")[1].split(" points")[0]) / 100
    shift = seen / 0.01  # √(0.008² + 0.006²)
    power = norm.sf(1.95996 - shift) + norm.cdf(-1.95996 - shift)
    assert power == pytest.approx(0.8, abs=0.01)


def test_errors_and_averages_of_a_published_card_are_those_that_it_prints() -> None:
    for score, error in published_gemma.PRINTED_ERRORS.items():
        assert round(100 * published_gemma.estimate(score).stderr, 4) == error
    for name, average in published_gemma.PRINTED_AVERAGES.items():
        assert round(100 * published_gemma.AVERAGES[name].value, 2) == average


def test_rows_of_a_published_card_are_grouped_as_scipy_says() -> None:
    from scipy.stats import norm

    told = GEMMA.read_text(encoding="utf-8")
    assert told == of_scores(published_gemma.AVERAGES) + "\n"
    rows = dict(published_gemma.AVERAGES)
    best = rows.pop("F16")
    p_values = {
        name: 2 * norm.sf((best.value - row.value) / (best.stderr**2 + row.stderr**2) ** 0.5)
        for name, row in rows.items()
    }
    lower, so_far = set(), 0.0
    for i, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        so_far = max(so_far, (len(rows) - i) * p_values[name])  # Holm's steps, by hand
        lower |= {name} if so_far < 0.05 else set()
    assert {name for name in rows if f"{name} (" in told.split("Surely lower:")[1]} == lower
    assert {name for name in rows if f"{name} (" in told.split("Surely lower:")[0]} == rows.keys() - lower


def test_differences_within_the_error_are_ties_whatever_the_order() -> None:
    told = of_scores(AVERAGES)
    assert of_scores(dict(reversed(AVERAGES.items()))) == told
    tied = told.split("Not told apart from it:")[1].split("Surely lower:")[0]
    lower = told.split("Surely lower:")[1]
    best = max(AVERAGES.values(), key=lambda e: e.value)
    for name, row in AVERAGES.items():
        z = (best.value - row.value) / (best.stderr**2 + row.stderr**2) ** 0.5
        if 0 < z < 1.9:
            assert f"{name} (" in tied
        if z > 3.2:
            assert f"{name} (" in lower


def test_paragraph_of_items_names_ties_losses_and_what_could_be_seen() -> None:
    best, near = pair(400, 20, 15, 315)
    _, far = pair(300, 120, 20, 310)
    told = of_items({"F16": {"ARC": best}, "Q4_K_M": {"ARC": near}, "IQ1_S": {"ARC": far}})
    assert told.startswith("The highest average is F16's (56.00%). Not told apart from it: Q4_K_M (−0.67 points, 95 %")
    low, high = told.split("IQ1_S (−13.33 points, 95 % −")[1].split(", p < .001).")[0].split(" to −")
    assert 14.5 < float(low) < 17.5  # ± 1.96 √(140/750 − 0.1333²) / √750, about 2.9 points
    assert 9.5 < float(high) < 12.0
    assert "With 750 items, of which two rows answer" in told
    assert of_items({"F16": {"ARC": best}}) == ""


def test_only_rows_that_answered_every_set_are_compared() -> None:
    record = sample_record()
    told = paragraph(record)
    assert "Q4_K_M (" in told
    assert "Q4_1" not in told  # the third party's row lacks one set
    assert paragraph(replace(record, task_sets=())) == ""


@pytest.mark.parametrize(
    ("p", "text"), [(0.4149, "p = .41"), (0.0004, "p < .001"), (0.0123, "p = .012"), (1.0, "p = 1"), (0.9996, "p = 1")]
)
def test_p_values_have_the_digits_that_count(p: float, text: str) -> None:
    assert p_value(p) == text


def test_highest_row_is_not_the_reference_that_was_asked_for() -> None:
    rows = {"stock": Estimate(value=0.6, stderr=0.01), "better": Estimate(value=0.7, stderr=0.01)}
    told = of_scores(rows, "stock")
    assert told.startswith("Compared with stock (60.00%): Surely higher: better (+10.00 points, p < .001).")


def test_where_tasks_no_longer_follow_kld_the_card_says_so() -> None:
    record = sample_record()
    files = sorted(offered(record), key=lambda row: row.evaluation.kld.value)
    closest, next_one, third = files[:3]
    answered = next(row.tasks for row in record.rows if len(row.tasks) == 2)
    assert closest.name == "Q8_0"

    def asked(wrong: int) -> tuple[TaskScore, ...]:
        return tuple(replace(t, outcomes="0" * wrong + "1" * (len(t.outcomes) - wrong)) for t in answered)

    def told(*wrong: int) -> str:
        tasks = {row.name: asked(n) for row, n in zip(files, wrong, strict=False)}
        return unranked(replace(record, rows=tuple(replace(r, tasks=tasks.get(r.name, ())) for r in record.rows)))

    assert told(0, 0, 30) == (
        f"KLD ranks Q8_0 and {next_one.name} (up to {rounded(next_one.evaluation.kld)} nats), the tasks do not: with"
        " these items none of them is told apart from Q8_0. Among them size and speed may decide."
    )
    assert f"Q8_0, {next_one.name} and {third.name} (up to" in told(0, 0, 0)
    assert told(0, 30, 0) == ""
    assert told(0) == ""
    assert unranked(sample_record(tasks=False)) == ""


def test_items_of_several_sets_are_counted_and_tested_together_where_sets_are_of_one_size() -> None:
    a, b = pair(40, 8, 2, 50)
    told = of_items({"x": {"S": a, "T": a}, "y": {"S": b, "T": b}})
    # 20 of 200 items differ; 100 · 12 / 200 points
    assert told.startswith("The highest average is x's (48.00%). Surely lower: y (−6.00 points, 95 % −")
    assert "With 200 items in 2 sets, of which two rows answer 10.0% differently on average, differences under" in told
    assert "p from exact McNemar tests over all items, adjusted" in told
    seen = 100 * smallest_visible(200, 0.1)
    assert f"differences under {seen:.1f} points cannot be seen (power 80 %)." in told
    unlike = of_items({"x": {"S": a, "T": a[:50]}, "y": {"S": b, "T": b[:50]}})
    assert (
        "p from 99,999 random exchanges of the two rows' outcomes of each item, as sets differ in size, adj" in unlike
    )
    assert "With 150 items in 2 sets" in unlike


def test_shares_that_differ_are_averaged_over_the_rows() -> None:
    a, b = pair(40, 8, 2, 50)
    told = of_items({"x": {"S": a}, "y": {"S": b}, "z": {"S": a}})
    assert "With 100 items, of which two rows answer 5.0% differently on average" in told


def test_a_reference_that_is_not_the_highest_has_rows_on_both_sides() -> None:
    best, near = pair(400, 20, 15, 315)
    _, far = pair(300, 120, 20, 310)
    told = of_items({"a": {"S": best}, "b": {"S": near}, "c": {"S": far}}, "c")
    assert told.startswith("Compared with c (42.67%): Surely higher: b (+12.67 points, 95 % +")
    assert " and a (+13.33 points, 95 % +" in told
    assert "Not told apart" not in told


def test_one_row_gives_no_paragraph_and_equal_ones_no_sign() -> None:
    one = {"a": Estimate(value=0.5, stderr=0.1)}
    assert of_scores(one) == of_scores({}) == of_items({}) == ""
    told = of_scores({**one, "b": Estimate(value=0.5, stderr=0.1)})
    assert told.startswith("The highest average is a's (50.00%). Not told apart from it: b (±0.00 points, p = 1).")


def test_of_scores_alone_sets_are_averaged_and_rows_without_all_of_them_left_out() -> None:
    record = sample_record()
    score = {"a": (0.5, 0.6), "b": (0.4, 0.5), "c": (0.9,), "d": ()}

    def tasks(values: tuple[float, ...]) -> tuple[TaskScore, ...]:
        pairs = zip("ST", values, strict=False)
        return tuple(TaskScore(name=n, score=Estimate(value=v, stderr=0.03), n_items=100) for n, v in pairs)

    rows = tuple(replace(r, name=n, tasks=tasks(v)) for r, (n, v) in zip(record.rows, score.items(), strict=False))
    told = paragraph(replace(record, rows=rows))
    both = {n: Estimate(value=sum(v) / 2, stderr=(2 * 0.03**2) ** 0.5 / 2) for n, v in score.items() if len(v) == 2}
    assert told == of_scores(both)
    assert told.startswith("The highest average is a's (55.00%).")
    assert paragraph(replace(record, rows=())) == paragraph(replace(record, rows=rows[3:])) == ""


@pytest.mark.parametrize(
    ("p", "text"),
    [(0.001, "p = .001"), (0.00099, "p < .001"), (0.0994, "p = .099"), (0.0995, "p = .10"), (0.994, "p = .99")],
)  # fmt: skip
def test_p_values_change_their_digits_at_a_tenth(p: float, text: str) -> None:
    assert p_value(p) == text


def test_files_that_did_not_answer_are_no_part_of_the_comparison() -> None:
    record = sample_record()
    assert unranked(replace(record, task_sets=())) == ""
    blind = tuple(replace(r, tasks=tuple(replace(t, outcomes="") for t in r.tasks)) for r in record.rows)
    assert unranked(replace(record, rows=blind)) == ""
