"""Whatever text stands anywhere in a record, card, details and page show it and none of them obeys it."""

from __future__ import annotations

import re
from collections.abc import Collection

import pytest
import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token

from lwq.record.record import Record
from lwq.report.card import card_body, details, page
from lwq.report.metadata import front_matter
from tests.hostile import EVIL, TEXTS, places, with_texts
from tests.report.test_page import Reader
from tests.sample_record import sample_record

READER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
PLACES = tuple(sorted(set(places(sample_record()))))
TOLD_APART = {
    ("Selection", "rule"), ("Selection", "text"), ("Speed", "test"), ("TaskSet", "cloze"), ("Command", "step"),
    ("Damage", "kld_percentiles"), ("Damage", "delta_p_percentiles"), ("TaskScore", "outcomes"), ("Estimate", "unit"),
    ("TypeShare", "name"), ("Row", "ftype"), ("Search", "chosen"), ("SearchCandidate", "name"),
}  # fmt: skip
"""By their texts the card's form is chosen, so these are changed one at a time."""
AUTHORED = {("CardFacts", name) for name in ("description", "notes", "credits", "footer")}
"""What is Markdown of the publisher's; see tests/report/test_authored.py."""
OURS = re.compile(r"\s*(?:<details>\s*(?:<summary>[^<>\n]*</summary>)?|</details>)\s*")
BENIGN = tuple(f"text{i}" for i in range(len(TEXTS)))


def tokens(markdown: str) -> list[Token]:
    return READER.parse(markdown)


def obeyed(found: Collection[Token]) -> list[str]:
    """What of the Markdown is markup that no template of ours writes."""
    strange = [t.content for t in found if t.type == "html_block" and not OURS.fullmatch(t.content)]
    for child in (child for token in found for child in token.children or ()):
        target = str(child.attrs.get("href", child.attrs.get("src", "")))
        if child.type in ("html_inline", "s_open") or re.match(rf"(?:[a-z]+:)?//[^/]*{EVIL}|\w+script:", target):
            strange.append(child.content or target)
    return strange


def form(found: Collection[Token]) -> list[str]:
    return [token.type for token in found]


def both(record: Record) -> list[Token]:
    return tokens(card_body(record)) + tokens(details(record))


def test_there_are_enough_texts_and_places() -> None:
    assert len(set(TEXTS)) >= 60
    assert len(PLACES) > 80
    assert set(PLACES) >= TOLD_APART


def test_unescaped_texts_would_be_found() -> None:
    assert all(obeyed(tokens(text)) for text in TEXTS[:10])


@pytest.mark.parametrize("place", sorted(TOLD_APART - {("TaskScore", "outcomes")}), ids=".".join)
def test_texts_that_the_form_depends_on_are_shown_too(place: tuple[str, str]) -> None:
    for first in (0, 28):
        found = both(with_texts(sample_record(), {place}, TEXTS, first))
        assert not obeyed(found)


@pytest.mark.parametrize("first", range(0, len(TEXTS), 6))
def test_texts_in_all_other_places_change_no_form_and_add_no_element(first: int) -> None:
    others = set(PLACES) - TOLD_APART - AUTHORED
    record, plain = (with_texts(sample_record(), others, texts, first) for texts in (TEXTS, BENIGN))
    found = both(record)
    assert not obeyed(found)
    assert form(found) == form(both(plain))


@pytest.mark.parametrize("first", range(0, len(TEXTS), 40))
def test_page_has_the_same_elements_whatever_the_texts(first: int) -> None:
    others = set(PLACES) - TOLD_APART - AUTHORED
    one, other = (Reader(page(with_texts(sample_record(), others, texts, first))) for texts in (TEXTS, BENIGN))
    assert [tag for tag, _ in one.elements if tag != "code"] == [tag for tag, _ in other.elements if tag != "code"]
    names = {name for _, attrs in one.elements for name in attrs}
    assert not [name for name in names if name.startswith("on")]


@pytest.mark.parametrize("text", ["\n\n".join(TEXTS[i::3]) for i in range(3)])
def test_markdown_of_the_publisher_brings_no_element_but_prose(text: str) -> None:
    reader = Reader(page(with_texts(sample_record(), AUTHORED, (text,))))
    assert {attrs.get("class") for tag, attrs in reader.elements if tag == "div"} <= {"page", "wide", "code"}
    before = Reader(page(with_texts(sample_record(), AUTHORED, ("",))))
    new = [tag for tag, _ in reader.elements]
    for tag, _ in before.elements:
        new.remove(tag)
    assert set(new) <= {
        "p",
        "a",
        "em",
        "strong",
        "ul",
        "ol",
        "li",
        "blockquote",
        "pre",
        "code",
        "br",
        "hr",
        "h2",
        "meta",
        "div",  # around a block of code
    }
    assert all(re.match("#|https?://|mailto:|[^/:]*$|figures/", str(a["href"])) for a in reader.all("a") if "href" in a)


@pytest.mark.parametrize("text", TEXTS)
def test_front_matter_of_any_facts_stays_one_block(text: str) -> None:
    of_card = {place for place in PLACES if place[0] in ("CardFacts", "ModelFacts", "TextFacts")}
    record = with_texts(sample_record(), of_card, (text,))
    head = front_matter(record)
    assert not re.search(r"^---", head, re.M)
    assert yaml.safe_load(head)["tags"]
