"""The page of the schema is the committed one."""

from __future__ import annotations

from lwq.recipe.page import recipe_page
from tests.recipe.test_parse import ROOT


def test_schema_page_is_the_committed_one() -> None:
    assert (ROOT / "docs" / "recipe.md").read_text(encoding="utf-8") == recipe_page()
