"""Any text survives Markdown."""

from __future__ import annotations

import html
import re

from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from lwq.report.markdown import code, fence, one_line, plain
from lwq.report.tables import Column, Table, table_rows

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
