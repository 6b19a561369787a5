"""Of a publisher's Markdown the harmless part is obeyed, all else shown."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from lwq.report.authored import authored, words_of
from tests.hostile import TEXTS
from tests.report.test_markdown import TEXTS as ODD_TEXTS

READER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
ALLOWED = {
    "paragraph", "inline", "text", "em", "strong", "link", "bullet_list", "ordered_list", "list_item", "blockquote",
    "fence", "code_inline", "softbreak", "hardbreak",
}  # fmt: skip


def kinds(markdown: str) -> set[str]:
    tokens = READER.parse(markdown)
    children = [child for token in tokens for child in token.children or ()]
    return {re.sub("_(?:open|close)$", "", token.type) for token in (*tokens, *children)}


def targets(markdown: str) -> list[str]:
    inline = [child for token in READER.parse(markdown) for child in token.children or ()]
    return [str(child.attrs["href"]) for child in inline if child.type == "link_open"]


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("An *em*, a **strong**, a `co<de`.", "An *em*, a **strong**, a `co<de`."),
        ("[site](https://a.org/b_(c)?d=1&copy=2)", "[site](https://a.org/b_%28c%29?d=1&amp;copy=2)"),
        ("<me@a.org> <https://a.org>", "[me@a.org](mailto:me@a.org) [https://a.org](https://a.org)"),
        ("- a\n- b\n  1. c\n  2. d", "- a\n- b\n  1. c\n  2. d"),
        ("- a\n\n- b\n\n  c", "- a\n\n- b\n\n  c"),
        ("> a\n> b", "> a b"),
        ("```py\n<b>\n\n\n```", "```py\n<b>\n```"),
        ("one\ntwo  \n# three", "one two\\\n\\# three"),
        ("# no heading", "\\# no heading"),
        ("![x](https://a.org/x.png)", "\\![x](https://a.org/x.png)"),
        ("[x](javascript:alert(1)) [y](DETAILS.md)", "\\[x\\](javascript:alert(1)) \\[y\\](DETAILS.md)"),
        ("<b>bold</b>", "\\<b\\>bold\\</b\\>"),
        ("**Table 1.** no caption", "Table 1. no caption"),
        ("**Figure 12.** and **Table 2.**", "Figure 12. and **Table 2.**"),
        ("3. a\n4. b", "3. a\n4. b"),
        ("3. a\n\n4. b\n\n   c\n\n   > d", "3. a\n\n4. b\n\n   c\n\n   > d"),
        ("-\n- b", "- \n- b"),
        ("- a\n  - b\n\n    c", "- a\n  - b\n\n    c"),
        ("> a\n>\n> b", "> a\n>\n> b"),
        ("    code *x*\n    more", "```\ncode *x*\nmore\n```"),
        ("```c++ {x}\na\x07\n```", "```c++\na\n```"),
        ("a  \n # b\\\n 2. c", "a\\\n\\# b\\\n2\\. c"),
        ("a!\n[x](https://a.org)", "a\\! [x](https://a.org)"),
        ("a![x](https://a.org)", "a\\![x](https://a.org)"),
        ("[a *b* `c`](<https://a.org/x y>)", "[a *b* `c`](https://a.org/x%20y)"),
        ("[x](HTTPS://a.org) [y](mailto:me@a.org) [z](ftp://a.org)",
         "[x](HTTPS://a.org) [y](mailto:me@a.org) \\[z\\](ftp://a.org)"),
        ("***a***", "***a***"),
        ("a\n\n\n\nb", "a\n\nb"),
        ("a \x07 b &amp; c", "a   b \\& c"),
        ("---\na\n===\nb", "\\--- a === b"),
        ("", ""),
    ],
)  # fmt: skip
def test_what_is_harmless_stays_and_all_else_is_text(text: str, made: str) -> None:
    assert authored(text) == made


@pytest.mark.parametrize("text", TEXTS)
def test_hostile_texts_become_nothing_but_prose(text: str) -> None:
    made = authored(text)
    assert kinds(made) <= ALLOWED
    assert all(re.match("(?:https?://|mailto:)", target) for target in targets(made))


@given(st.one_of(ODD_TEXTS, st.lists(st.sampled_from(TEXTS), max_size=4).map("\n".join)))
def test_any_text_becomes_nothing_but_prose(text: str) -> None:
    made = authored(text)
    assert kinds(made) <= ALLOWED
    assert all(re.match("(?:https?://|mailto:)", target, re.I) for target in targets(made))


def test_words_are_without_their_marks() -> None:
    assert words_of("A *b* [c](https://d.e)\nf\n\n- `g`") == "A b c f g"
    assert words_of("a**b**c\\\nd\n\n```py\ne f\n```\n\n> g\n\n    h") == "abc d e f g h"
    assert words_of("") == ""
