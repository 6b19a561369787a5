"""Any text survives Markdown."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from lwq.report.markdown import (
    at_line_start,
    code,
    code_cell,
    either,
    escaped,
    fence,
    file_link,
    one_line,
    picture,
    plain,
    repository,
)
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


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        ("a_b _c_ d_", r"a_b \_c\_ d\_", r"a_b \_c\_ d\_"), ("# a", r"\# a", "# a"), ("#a", "#a", "#a"),
        ("- a", r"\- a", "- a"), ("-a", "-a", "-a"), ("12. a", r"12\. a", "12. a"), ("12.a", "12.a", "12.a"),
        ("3) a", r"3\) a", "3) a"), ("1234567890. a", "1234567890. a", "1234567890. a"),
        ("a*b`c~d|e", r"a\*b\`c\~d\|e", r"a\*b\`c\~d\|e"), ("<f>[g]$&\\", r"\<f\>\[g\]\$\&\\", r"\<f\>\[g\]\$\&\\"),
        ("===", r"\===", "==="), ("---", r"\---", "---"), ("+ a", r"\+ a", "+ a"), ("*", r"\*", r"\*"),
        ("####### a", "####### a", "####### a"), ("-", r"\-", "-"), ("#", r"\#", "#"),
    ],
)  # fmt: skip
def test_no_more_is_escaped_than_would_mean_something(text: str, line: str, part: str) -> None:
    assert plain(text) == line
    assert escaped(text) == part
    assert at_line_start(part) == line


def test_one_line_has_single_spaces() -> None:
    assert one_line("  a\n\tb\x00  c\u200b ") == "a b c"


def test_code_has_as_many_ticks_as_it_needs() -> None:
    assert [code(t) for t in ("a", "`", "a`", "a``b", "", " \n")] == [
        "`a`",
        "`` ` ``",
        "`` a` ``",
        "```a``b```",
        "",
        "",
    ]
    assert [code_cell(t) for t in ("a|b", "a", "a\\|b", "c\\")] == ["`a\\|b`", "`a`", "a\\\\\\|b", "c\\\\"]


def test_fences_are_longer_than_what_is_within() -> None:
    assert fence("a\n\n", "py") == "```py\na\n```"
    assert fence("``") == "```\n``\n```"
    assert fence("```") == "````\n```\n````"
    assert fence("x`````y") == "``````\nx`````y\n``````"


def test_links_are_to_files_beside_the_document_and_to_the_hub() -> None:
    assert file_link("a b_c.gguf") == "[a b_c.gguf](a%20b_c.gguf)"
    assert file_link("//a/b*.md") == r"[//a/b\*.md](a/b%2A.md)"
    assert (file_link("X.gguf"), picture("X.png", "a")) == ("[X.gguf](X.gguf)", "![a](X.png)")
    assert picture("/figures/a b.png", "x [y]") == r"![x \[y\]](figures/a%20b.png)"
    assert repository("o/n_m") == "[o/n_m](https://huggingface.co/o/n_m)"
    assert repository("no_repository *") == r"no_repository \*"


def test_things_are_listed_with_one_and() -> None:
    assert [either(tuple("abc"[:n])) for n in (1, 2, 3)] == ["a", "a and b", "a, b and c"]
