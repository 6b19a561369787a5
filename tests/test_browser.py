"""What tests of the page and of file names stand on: Chromium opens a page, the Hub's parser reads a name."""

from __future__ import annotations

import pytest

from tests.browser import answered

pytestmark = pytest.mark.web


def test_chromium_reads_a_page() -> None:
    assert answered("title.mjs", "<title>Größe &amp; KLD</title>") == "Größe & KLD"


def test_the_hubs_parser_reads_names() -> None:
    names = ["model-Q4_K_M.gguf", "model-UD-IQ2_XXS.gguf", "model-BF16-00001-of-00002.gguf", "model.gguf"]
    assert answered("labels.mjs", names) == ["Q4_K_M", "UD-IQ2_XXS", "BF16", None]
