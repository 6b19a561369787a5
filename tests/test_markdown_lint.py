"""Cards and documents, read by markdownlint with the repository's own rules."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lwq.report.card import card, details
from tests.browser import answered
from tests.sample_record import sample_record

pytestmark = pytest.mark.web
ROOT = Path(__file__).parents[1]


def documents() -> dict[str, str]:
    record = sample_record()
    own = replace(record.card, repository="me/sample-GGUF", notes="Made by *me*.\n\n- one\n- two\n", logo="logo.png")
    records = {
        "sample": record,
        "without tasks": sample_record(tasks=False),
        "with a repository": replace(record, card=own),
        "of others": replace(record, rows=tuple(row for row in record.rows if row.origin != "ours")),
    }
    drawn = {f"{name}, {part.__name__}": part(each) for name, each in records.items() for part in (card, details)}
    files = (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "benchmarks" / "README.md")
    return drawn | {path.name: path.read_text(encoding="utf-8") for path in files}


def test_cards_and_documents_keep_the_rules() -> None:
    texts = documents()
    found = dict(zip(texts, answered("lint.mjs", list(texts.values())), strict=True))
    assert {name: faults for name, faults in found.items() if faults} == {}
    assert answered("lint.mjs", ["# a\n#b\n"]) != [[]]
