"""Each claim of docs/threat-model.md names tests that are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")


def test_every_test_that_the_page_names_is_there() -> None:
    named = re.findall(r"`(tests/\S+\.py)::(\w+)`", PAGE)
    assert len(named) > 25
    for path, name in named:
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, f"{path}::{name}"


def test_every_row_of_what_is_defended_names_a_test() -> None:
    defended = PAGE.partition("## Defended")[2].partition("## Not defended")[0]
    rows = [
        line
        for line in defended.splitlines()
        if line.startswith("| ") and not line.startswith("| what") and "tried by" not in line
    ]
    assert len(rows) > 15
    assert not [row for row in rows if "::test_" not in row]
