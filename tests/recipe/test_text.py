"""Texts: how much of one is used, what a calibration text is mixed of, what a domain is called."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from lwq.recipe.text import Calibration, Evaluation, Part, Text


def refused(model: type[Text] | type[Part], **stated: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(stated)
    (detail,) = caught.value.errors()
    return str(detail["msg"])


def test_windows_are_even() -> None:
    assert Text(text="a", n_ctx=64).n_ctx == 64
    assert refused(Text, text="a", n_ctx=65) == "is odd; half of a window is scored, so it must be even"


def test_most_logits_are_a_size_or_nothing() -> None:
    assert [Text(text="a", max_logits=most).max_logits for most in ("", "8 GiB")] == ["", "8 GiB"]
    assert refused(Text, text="a", max_logits="0 GiB") == "'0 GiB' is no size like 500 MB or 12 GiB"


def test_a_text_is_taken_as_it_is() -> None:
    assert Text(text="a").drawn() == ((), 1)
    assert Calibration(text="a", seed=7).drawn() == ((), 7)


def test_a_calibration_text_is_one_or_several_parts() -> None:
    mixed = Calibration.model_validate({"parts": [{"text": "a", "share": 2.0}, {"text": "b", "chat": True}], "seed": 7})
    assert mixed.drawn() == ((Part(text="a", share=2.0), Part(text="b", chat=True)), 7)
    part = {"text": "a"}
    assert refused(Calibration, text="a", parts=[part]) == "names text and parts; one is enough"
    assert refused(Calibration) == refused(Calibration, parts=[]) == "names neither text nor parts"
    assert "valid tuple" in refused(Calibration, parts=part)


def test_a_text_of_evaluation_in_a_column_is_drawn_from_it() -> None:
    assert Evaluation(text="a").drawn() == ((), 1)
    assert Evaluation(text="a", column="c").drawn() == ((Part(text="a", column="c"),), 1)
    assert Evaluation(text="a", chat=True).drawn() == ((Part(text="a", chat=True),), 1)


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("b.txt", "b"), ("texts/c d.long.txt", "c-d"), ("packaged:code", "code"),
        ("hf://datasets/o/n/x_y.txt@main", "x_y"),
        ("_+-a+b-.txt", "a+b"), ("a/.txt", "text"), ("é.txt", "text"),
    ],
)  # fmt: skip
def test_a_domain_is_named_after_its_text_unless_it_has_a_name(text: str, domain: str) -> None:
    assert Evaluation(text=text).domain == domain
    assert Evaluation(text=text, domain="own").domain == "own"
