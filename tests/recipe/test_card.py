"""What a publisher says is checked as the Hub would."""

from __future__ import annotations

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
