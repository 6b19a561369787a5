"""The page is well-formed, readable by machines, asks nobody for anything, and says what the card says."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser

from lwq.report import (
    detail_tables,
    intervals,
    prune_section,
    pruned_parts,
    search_section,
    speed_table,
    tables,
    task_section,
)
from lwq.report.page import Pictures, page_body
from tests.documents import whole_page
from tests.sample_pruning import pruning, weighed
from tests.sample_record import ODD_NAME, sample_record
from tests.sample_search import search, sensitivity

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Reader(HTMLParser):
    """Checks nesting and collects elements, texts by element, and ids."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> after <{self.elements[-1][0]}>"

    def handle_data(self, data: str) -> None:
        if "td" in self.open or "th" in self.open:
            self.cells[-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.elements if name == tag]


def test_page_is_well_formed_and_its_ids_are_unique() -> None:
    reader = Reader(whole_page(sample_record()))
    ids = [attrs["id"] for _, attrs in reader.elements if "id" in attrs]
    assert len(ids) == len(set(ids)) > 20
    targets = [str(a["href"])[1:] for a in reader.all("a") if str(a["href"]).startswith("#")]
    assert len(targets) == 27  # each section, what the card says of the commands, and the way past the contents
    assert set(targets) <= set(ids)
    labels = [attrs["aria-labelledby"] for _, attrs in reader.elements if "aria-labelledby" in attrs]
    assert set(labels) <= set(ids)


def test_page_asks_nobody_for_anything() -> None:
    text = whole_page(sample_record())
    reader = Reader(text)
    assert not [tag for tag, _ in reader.elements if tag in ("img", "link", "iframe", "object", "base", "form")]
    assert not [attrs for _, attrs in reader.elements if {"src", "srcset", "style", "onclick"} & set(attrs)]
    assert "url(" not in text
    assert "@import" not in text


def test_policy_allows_the_pages_own_style_and_script_and_nothing_else() -> None:
    text = whole_page(sample_record())
    policy = next(str(m["content"]) for m in Reader(text).all("meta") if "http-equiv" in m)
    assert policy.startswith("default-src 'none'; ")
    for tag in ("style", "script"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.urlsafe_b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}';" in policy


def test_picture_from_elsewhere_is_its_words_and_one_in_the_text_is_shown() -> None:
    body, _ = page_body("![a <b>](https://example.org/x.png) ![dot](data:image/png;base64,AAAA)\n")
    assert body == '<p>a &lt;b&gt; <img src="data:image/png;base64,AAAA" alt="dot"></p>\n'


def test_picture_beside_the_card_is_shown_as_what_was_handed_over_and_no_other() -> None:
    body, _ = page_body(
        "![Mine](logo.png) ![other](else.png)", Pictures(files={"logo.png": "data:image/png;base64,AA"})
    )
    assert body == '<p><img src="data:image/png;base64,AA" alt="Mine"> other</p>\n'


def test_code_is_reached_with_the_keyboard_and_each_block_has_a_name_of_its_own() -> None:
    blocks = Reader(whole_page(sample_record())).all("pre")
    assert {block["tabindex"] for block in blocks} == {"0"}
    labels = [str(block["aria-label"]) for block in blocks]
    assert len(set(labels)) == len(labels) > 10
    assert labels[0] == "Commands 1"
    assert labels[-1] == f"Recipe {len(labels)}"


def test_tables_have_captions_and_heads_for_columns_and_rows() -> None:
    text = whole_page(sample_record())
    reader = Reader(text)
    n_tables = len(reader.all("table"))
    assert n_tables == len(reader.all("caption")) == text.count('<div class="wide"') == 28
    assert {attrs.get("scope") for attrs in reader.all("th")} == {"col", "row"}
    for table in re.findall(r"<table>.*?</table>", text, re.DOTALL):
        assert table.startswith("<table>\n<caption")
        body = table.split("<tbody>")[1]
        assert body.count("<tr>") == body.count('scope="row"')


def test_figures_have_alternative_texts_and_captions() -> None:
    reader = Reader(whole_page(sample_record()))
    drawn = reader.all("svg")
    assert len(drawn) == len(reader.all("figure")) == len(reader.all("figcaption")) == 8
    assert all(len(str(drawing["aria-label"])) > 40 for drawing in drawn)


def test_page_has_every_cell_of_every_table() -> None:
    record = sample_record()
    cells = set(Reader(whole_page(record)).cells)
    found = [
        tables.sizes(record), tables.checksums(record), *tables.quality(record), *intervals.tables(record),
        task_section.scores(record),
        task_section.sets(record),
        *speed_table.tables(record), speed_table.loads(record), tables.selection(record),
        *detail_tables.distributions(record),
        detail_tables.recipes(record), detail_tables.types(record), detail_tables.classes(record),
        detail_tables.layer_statistics(record), detail_tables.tensor_statistics(record), detail_tables.texts(record),
        detail_tables.step_times(record), search_section.sensitive(sensitivity()),
        search_section.candidates(record, record.rows[-1], weighed(search())), pruned_parts.table(record),
        prune_section.scores(pruning()), prune_section.sets(record, pruning()), prune_section.repairs(record),
    ]  # fmt: skip
    assert len(found) == 25
    for table in found:
        assert table is not None
        assert {column.title for column in table.columns} <= cells
        assert {cell for row in table.rows for cell in row} <= cells


def test_markup_in_names_and_descriptions_is_shown_and_never_obeyed() -> None:
    text = whole_page(sample_record())
    assert text.count("<script") == 1
    assert "<kleiner>" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<title>SmolLM2-135M · größer &amp; &lt;kleiner&gt; 模型</title>" in text
    assert any(ODD_NAME in cell for cell in Reader(text).cells)


def test_raw_html_of_markdown_passes_only_as_details() -> None:
    body, _ = page_body(
        "<details>\n<summary>More &amp; more</summary>\n\ntext <b>bold</b>\n\n</details>\n\n<div onclick=x>\n"
    )
    assert body.startswith("<details>\n<summary>More &amp; more</summary>\n")
    assert "&lt;b&gt;bold&lt;/b&gt;" in body
    assert "&lt;div onclick=x&gt;" in body


def test_closing_tags_in_a_recipe_do_not_end_the_page() -> None:
    record = replace(sample_record(), recipe="a = '</details></pre></main>'\n```\nb = 1\n")
    Reader(whole_page(record))
