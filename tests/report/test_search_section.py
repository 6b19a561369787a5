"""How the bits were chosen: what the card says of sensitivity, allocation and candidates."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from matplotlib.figure import Figure

from lwq.record.record import Record, Row
from lwq.record.search import Search, Sensitivity
from lwq.report import damage_plots, search_section
from lwq.report.figures import figure_texts
from lwq.report.heat_maps import known_types
from lwq.report.rows import how_made
from lwq.report.searches import allocations, compared_candidates
from tests.documents import whole, whole_page
from tests.sample_record import sample_record
from tests.sample_search import search, sensitivity

TITLE = "## How the bits were chosen"
FIGURES = ["sensitivity", "allocation_1", "predicted_against_measured", "frontier"]


def allocated(record: Record, **changes: Any) -> Record:
    """The record with the row that lwq allocated changed."""
    rows = tuple(replace(r, **changes) if r.search else r for r in record.rows)
    return replace(record, rows=rows)


def searched(**changes: Any) -> Record:
    """The sample with its search changed."""
    return allocated(sample_record(), search=replace(search(), **changes))


def felt(change: Callable[[Sensitivity], Sensitivity]) -> Record:
    """The sample with its sensitivity changed."""
    return replace(sample_record(), sensitivity=change(sensitivity()))


def the_row(record: Record) -> Row:
    return next(r for r in record.rows if r.search)


def drawn(figure: Figure) -> None:
    """Draws it; whatever cannot be drawn raises."""
    figure.canvas.draw()


def section(record: Record) -> str:
    return whole(record).split(TITLE)[1].split("\n## ")[0]


def test_record_without_sensitivity_has_no_such_section_and_no_such_figure() -> None:
    for record in (sample_record(searched=False, pruned=False), replace(sample_record(pruned=False), sensitivity=None)):
        assert TITLE not in whole(record)
        assert "How the bits were chosen" not in whole_page(record)
        assert [f.name for f in figure_texts(record)] == ["kld_against_size", "bytes_by_class", "bytes_by_type"]


def test_section_has_its_figures_in_order_and_without_figures_none() -> None:
    assert re.findall(r"\(figures/(\w+)\.png\)", section(sample_record())) == FIGURES
    assert "figures/" not in whole(sample_record(), figures=False)


def test_section_says_what_was_fitted_on_what_text_and_with_which_importance_matrix() -> None:
    text = section(sample_record())
    assert "0.9134 · sum^0.9712 for Q4_K_M-lwq" in text
    assert "3,576 tokens in 8 windows of 512 tokens of `calibration.txt`" in text
    assert "The stock mix of the same size is always a candidate, and ties go to it" in text
    assert "never collects importance data for `token_embd.weight`, which here is the output tensor too" in text
    assert "`SmolLM2-135M-Instruct-imatrix-output.gguf`, written by `lwq sensitivity`, ships beside this card" in text


def test_importance_that_lwq_added_nothing_to_is_not_called_its_own() -> None:
    text = section(felt(lambda s: replace(s, output_tensor="")))
    assert "use the importance matrix `SmolLM2-135M-Instruct-imatrix-output.gguf`" in text
    assert "never collects" not in text
    assert "token embedding" not in section(felt(lambda s: replace(s, output_tensor="output.weight")))


def test_stock_mix_is_called_a_candidate_of_every_search_only_if_it_was() -> None:
    others = tuple(c for c in search().candidates if not c.name.startswith("stock"))
    text = section(searched(candidates=others))
    assert "always a candidate" not in text
    assert "Where there is a stock mix of the same size, it is a candidate" in text


def test_every_candidate_stands_with_its_figures_and_its_verdict() -> None:
    table = search_section.candidates(sample_record(), the_row(sample_record()), search())
    assert table.rows[0] == (
        "stock Q4_K_M", "98.87", "0.036012", "0.035198 ±0.001173", "8", "beaten by after 3 swaps",
    )  # fmt: skip
    assert table.rows[-1] == ("Q4_K_M-by-hand", "108.48", "0.030874", "not measured", "–", "does not fit")
    assert [c.title for c in table.columns[2:4]] == ["KLD predicted (nats)", "KLD measured (nats)"]
    assert "paired over windows: -0.002117 ±0.000412 nats" in table.caption
    assert "On 12 windows that nothing was chosen by" in table.caption
    assert "÷ that of the stock mix is 0.940 (95 %: 0.919 to 0.962)." in table.caption
    assert "(`selection.txt`)" in table.caption


def test_stock_mix_that_was_not_beaten_is_said_plainly() -> None:
    text = section(searched(chosen="stock Q4_K_M", reason="Nothing was surely better."))
    assert "**The stock mix was not beaten**" in text
    assert "Q4_K_M-lwq has the types of stock Q4_K_M. Nothing was surely better." in text
    assert "paired over windows" not in text
    assert "not beaten" not in section(sample_record())


def test_surely_better_is_said_only_where_it_was_confirmed_on_other_windows() -> None:
    text = section(sample_record())
    assert "another ships only if it is surely better" in text
    assert "on windows of the second half that nothing was chosen by" in text
    assert "no proof" not in text
    before = section(searched(confirmation=None))
    assert "surely better" not in before
    assert "so that is a rule for choosing and no proof" in before
    assert "that nothing was chosen by, the KLD of" not in before
    one = the_row(sample_record())
    other = replace(one, name="short", search=replace(search(), confirmation=None))
    both = replace(sample_record(), rows=(one, other))
    assert "For short there was no such comparison: there another ships only if" in section(both)


def test_ten_most_sensitive_tensors_go_by_alpha() -> None:
    rows = search_section.sensitive(sensitivity()).rows
    assert len(rows) == 10
    assert rows[0] == ("blk.0.ffn_down.weight", "q4_K", "0.021746 ±0.001673", "3.198")
    assert [float(r[3]) for r in rows] == sorted((float(r[3]) for r in rows), reverse=True)
    few = replace(sensitivity(), tensors=sensitivity().tensors[:3])
    assert len(search_section.sensitive(few).rows) == 3


def test_markup_in_reasons_names_and_notes_is_shown_and_never_obeyed() -> None:
    odd = "a *b* | <script>x</script> [c](d) `e"
    candidates = tuple(replace(c, name=odd, verdict=odd) if c.kld is None else c for c in search().candidates)
    record = searched(reason=odd, budget=odd, candidates=candidates)
    record = replace(record, sensitivity=replace(sensitivity(), notes=(odd,)))
    assert section(record).count(r"a \*b\* \| \<script\>x\</script\> \[c\](d) \`e") == 5
    assert whole_page(record).count("<script>") == 1


def test_at_most_four_allocations_are_drawn_and_a_type_has_one_colour_in_all() -> None:
    one = the_row(sample_record())
    rows = tuple(replace(one, name=f"lwq-{i}") for i in range(6))
    record = replace(sample_record(), rows=rows)
    assert [r.name for r in allocations(record).values()] == ["lwq-0", "lwq-1", "lwq-2", "lwq-3"]
    assert known_types((one,)) == ("iq4_nl", "q5_0", "q5_K", "q5_1", "q6_K", "q8_0")
    assert section(record).count("**Table ") == 7


def test_unmeasured_search_and_empty_frontier_have_no_figure() -> None:
    unmeasured = searched(candidates=search().candidates[-1:])
    record = replace(unmeasured, sensitivity=replace(sensitivity(), frontier=()))
    names = [f.name for f in figure_texts(record)]
    assert "predicted_against_measured" not in names
    assert "frontier" not in names


def test_sensitivity_without_a_search_still_has_its_section() -> None:
    record = replace(sample_record(searched=False), sensitivity=sensitivity())
    text = section(record)
    assert re.search(r"\*\*Table \d+\.\*\* The most sensitive of 211 tensors", text)
    assert "sum^" not in text
    assert [f.name for f in figure_texts(record)][2:4] == ["sensitivity", "frontier"]
    drawn(damage_plots.frontier(record))


def test_search_with_nothing_more_tried_says_so() -> None:
    quick: Search = replace(search(), n_probes=0, n_swaps=1)
    assert "no more probes, 1 swap of types" in search_section.outcome(the_row(sample_record()), quick)


def test_a_hand_written_mix_that_is_called_like_stock_is_no_stock_mix() -> None:
    """The target ``stock-x`` wins the search of another target's budget."""
    candidates = search().candidates
    ours = tuple(replace(c, name="stock-x") if c.name == search().chosen else c for c in candidates)
    record = searched(chosen="stock-x", candidates=ours)
    assert "The stock mix was not beaten" not in section(record)
    assert "less that of the stock mix, paired over windows" in section(record)
    assert how_made(the_row(record)) == how_made(the_row(searched()))
    marks = [c.is_stock for c in compared_candidates(record)]
    assert marks == [c.is_stock for c in compared_candidates(searched())]
    assert marks.count(True) == 1


def half_estimated(sensitivity: Sensitivity) -> Sensitivity:
    tensors = (replace(t, is_probed=i % 2 == 0) for i, t in enumerate(sensitivity.tensors))
    return replace(sensitivity, tensors=tuple(tensors))


def test_what_was_estimated_is_never_called_measured() -> None:
    record = felt(half_estimated)
    text = section(record)
    assert "106 of 211 tensors were probed." in text
    assert "*estimated*, not measured" in text
    assert "a relative error of 0.0769" in text  # the sample's errors are a thirteenth of its values
    table = search_section.sensitive(half_estimated(sensitivity()))
    assert not any("measured" in column.title for column in table.columns)
    probed = {t.tensor: t.is_probed for t in half_estimated(sensitivity()).tensors}
    assert {(row[0], row[-1]) for row in table.rows} == {
        (row[0], "measured" if probed[row[0]] else "estimated") for row in table.rows
    }
    figure = next(f for f in figure_texts(record) if f.name == "sensitivity")
    assert "Heat map of alpha" in figure.alt
    assert "(of 105 estimated)" in figure.caption
    assert "estimated" not in section(sample_record())
