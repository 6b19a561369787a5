"""What a publisher says is checked as the Hub would."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from lwq.recipe.card import Card


@pytest.mark.parametrize(("given", "kept"), [("MIT License", "mit"), ("My own: licence", "My own: licence"), ("", "")])
def test_a_licence_is_named_as_the_hub_names_it(given: str, kept: str) -> None:
    assert Card(licence=given).licence == kept


@pytest.mark.parametrize(("given", "told"), [("mit, apache-2.0", "names several licences"), ("x" * 128, "127 bytes")])
def test_more_than_one_licence_and_long_ones_are_refused(given: str, told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Card(licence=given)


@pytest.mark.parametrize("field", ["author", "licence"])
def test_what_llama_quantize_writes_has_at_most_127_bytes(field: str) -> None:
    assert getattr(Card(**{field: "é" * 63 + "x"}), field) == "é" * 63 + "x"
    with pytest.raises(ValidationError, match="is longer than the 127 bytes that llama-quantize can write"):
        Card(**{field: "é" * 64})
    assert Card(title="x" * 500).title == "x" * 500


def test_lists_are_kept_in_their_order() -> None:
    lists = {"base_model": ["o/b", "o/a"], "languages": ["de", "en"], "tags": ["x", "a"]}
    made = Card.model_validate(lists)
    assert (made.base_model, made.languages, made.tags) == (("o/b", "o/a"), ("de", "en"), ("x", "a"))
    for field in lists:
        with pytest.raises(ValidationError, match="valid tuple"):
            Card.model_validate({field: "x"})


@pytest.mark.parametrize(
    ("stated", "told"),
    [
        ({"languages": ["en", "German"]}, "'German' is no ISO 639 code; you mean 'de'"),
        ({"languages": ["?!"]}, "'?!' is no ISO 639 code"),
        ({"base_model": ["o/a", "https://huggingface.co/o/b"]},
         "'https://huggingface.co/o/b' is not OWNER/NAME; you mean 'o/b'"),
        ({"base_model": ["model"]}, "'model' is not OWNER/NAME"),
        ({"repository": "https://huggingface.co/o/c/tree/main"},
         "'https://huggingface.co/o/c/tree/main' is not OWNER/NAME; you mean 'o/c'"),
        ({"repository": "mine"}, "'mine' is not OWNER/NAME"),
        ({"licence": "mit, apache-2.0"},
         "names several licences (mit, apache-2.0); give the one that the files are under"),
    ],
)  # fmt: skip
def test_what_the_hub_would_refuse_is_told_with_what_is_meant(stated: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Card.model_validate(stated)
    (detail,) = caught.value.errors()
    assert detail["msg"] == told


def test_a_repository_may_be_absent_or_is_owner_and_name() -> None:
    assert (Card().repository, Card(repository="o/n").repository) == ("", "o/n")
