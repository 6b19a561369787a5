"""Names that some file system takes for one are told as one."""

from __future__ import annotations

import unicodedata

import pytest

from lwq.store.names import alike, folded


@pytest.mark.parametrize(
    ("one", "other"),
    [("Q4_K_M", "q4_k_m"), ("é.gguf", "e\u0301.gguf"), ("É", "e\u0301"), ("STRASSE", "straße"), ("Å", "\u212b")],
)
def test_capitals_and_either_spelling_of_accents_are_one_name(one: str, other: str) -> None:
    assert folded(one) == folded(other)
    assert alike((one, "x", other)) == [(one, other)]


def test_other_names_are_other_names() -> None:
    names = ["Q4_K_M", "Q4_K_S", "模型", "ı", "i", unicodedata.normalize("NFD", "ü"), "u"]
    assert alike(names) == []
