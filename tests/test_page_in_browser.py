"""The page in Chromium: nothing overflows, asks, or fails axe-core, and all of it is reached with the keyboard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lwq.report.page import html_page
from lwq.report.write import write_report
from tests.browser import answered
from tests.hostile_page import hostile_record
from tests.sample_record import sample_record

pytestmark = pytest.mark.web
RECORDS = {"sample": sample_record, "hostile": hostile_record}
WIDTHS = [360, 768, 1440]


@pytest.mark.parametrize("name", sorted(RECORDS))
def test_page_is_in_order_at_three_widths_light_and_dark_folds_closed_and_open(name: str, tmp_path: Path) -> None:
    write_report(RECORDS[name](), tmp_path)
    views = answered("examine.mjs", {"page": str(tmp_path / "index.html"), "widths": WIDTHS})
    seen = [(view["width"], view["colorScheme"]) for view in views]
    assert seen == [(width, scheme) for width in WIDTHS for scheme in ("light", "dark")]
    says_nothing_asks_nobody_and_axe_has_no_complaint_by_any_of_its_rules(views)
    is_no_wider_than_the_window_and_first_columns_stay_beside_what_scrolls(views)
    shows_each_figure_once_and_its_texts_can_be_read_and_selected(views)


def says_nothing_asks_nobody_and_axe_has_no_complaint_by_any_of_its_rules(views: list[dict[str, Any]]) -> None:
    for view in views:
        assert view["messages"] == view["requests"] == view["verdicts"]["told"] == []
        assert view["verdicts"]["n_passed"] > 40


def is_no_wider_than_the_window_and_first_columns_stay_beside_what_scrolls(views: list[dict[str, Any]]) -> None:
    n_scrolling = 0
    for facts in (view[state] for view in views for state in ("closed", "open")):
        assert facts["overflow"] == 0
        assert facts["outside"] == []
        assert facts["idle_stops"] == 0
        assert max(facts["wide_heads"]) < 0.6
        assert max(map(abs, facts["stuck"])) <= 2
        n_scrolling += len(facts["stuck"])
    assert n_scrolling > 50


def shows_each_figure_once_and_its_texts_can_be_read_and_selected(views: list[dict[str, Any]]) -> None:
    for facts in (view["open"] for view in views):
        assert set(facts["n_shown"]) == {1}
        assert len(facts["texts"]) > 200
        for text in facts["texts"]:
            assert text["selectable"], text
            assert text["pixels"] >= 9, text
            assert text["contrast"] >= 4.5, text
            assert text["outside"] <= 1, text


@pytest.fixture(scope="module")
def use(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("use")
    write_report(sample_record(), folder)
    asked = {"page": str(folder / "index.html"), "column": "KLD (nats)", "last": "Tasks (%)"}
    return dict(answered("use.mjs", asked))


def test_stops_go_past_the_contents_or_through_them_and_then_down_the_page(use: Any) -> None:
    stops = use["stops"]
    assert (stops[0]["tag"], stops[0]["text"]) == ("a", "Skip to the content")
    within = [stop["within"] for stop in stops[1:]]
    assert within == sorted(within, reverse=True)
    assert {stop["tag"] for stop in stops} == {"a", "button", "div", "summary"}
    assert all(stop["shown"] and stop["outline"] == "solid" for stop in stops)
    assert all(stop["scrolls"] for stop in stops if stop["tag"] in ("div", "pre"))
    assert use["past"]


def test_heads_of_a_table_are_one_stop_and_arrows_go_along_them(use: Any) -> None:
    last = use["n_heads"] - 1
    assert use["walked"] == [1, 2, 1, last, last, 0, 0]
    assert use["n_stops"] == 1
    assert sum(stop["tag"] == "button" for stop in use["stops"]) < len(use["stops"]) / 2


def test_column_is_sorted_up_down_and_back_with_the_keyboard(use: Any) -> None:
    up, down, back = use["sorts"]
    assert [sort["order"] for sort in use["sorts"]] == ["ascending", "descending", None]
    assert [sort["n_orders"] for sort in use["sorts"]] == [1, 1, 0]
    assert all(sort["focused"] for sort in use["sorts"])
    values = [float(cell.split(" ")[0]) for cell in up["cells"]]
    assert values == sorted(values)
    assert down["cells"] == up["cells"][::-1] != back["cells"]
    assert use["again"] == use["given"]


def test_what_was_not_measured_is_last_both_ways(use: Any) -> None:
    assert [sort["order"] for sort in use["lasts"]] == ["ascending", "descending"]
    for sort in use["lasts"]:
        missing = [cell == "–" for cell in sort["cells"]]
        assert missing == sorted(missing)
        assert True in missing
        assert False in missing


def test_code_is_copied_with_the_keyboard_and_it_is_told(use: Any) -> None:
    copied = use["copied"]
    assert copied["text"] == copied["block"] != ""
    assert copied["told"] == "Copied"
    assert copied["name"] == "Copy Commands 1"


def test_print_is_light_without_buttons_and_the_page_needs_no_script(use: Any) -> None:
    assert use["printed"] == {"buttons": 0, "classes": ["large"] * 8, "paper": "rgb(255, 255, 255)"}
    assert use["pages"] > 50_000
    without = use["without"]
    assert without["buttons"] == 0
    assert without["tables"] == 28
    assert without["keyboard"] == without["blocks"] > 10
    assert without["svg"]


SORTED = (
    (":-:", ["Q2_K", "Q4_K_M", "Q10", "–"]),
    ("--:", ["85 MiB", "90.9 MB", "1.20 GiB", "16 GB", "not measured"]),
    ("--:", ["59 s", "1 min 5 s", "2 h 1 min", "1 d"]),
    ("--:", ["−0.031 (−0.034 … −0.029)", "-0.002", "+0.01 ±0.002", "0.5", "1,024.5", "tied", "–"]),
    ("--:", ["1e-7", "0.00394 ±0.00009", "12.5 %", "100%"]),
)


def test_numbers_are_sorted_by_value_with_their_units_then_words_then_what_is_missing() -> None:
    pages = []
    for rule, cells in SORTED:
        rows = "".join(f"| {i} | {cell} |\n" for i, cell in enumerate(reversed(cells)))
        text = f"**Table 1.** Of a test.\n\n| Row | Column |\n|:--|{rule}|\n{rows}"
        pages.append({"html": html_page("Test", "", text), "column": 1})
    assert answered("sort.mjs", pages) == [cells for _, cells in SORTED]
