"""All mistakes of a recipe are told at once, each with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from lwq.recipe.parse import parse_recipe
from tests.recipe.test_schema import GOOD, faults

ROOT = Path(__file__).parents[2]


def test_two_mistakes_are_told_as_two_with_path_and_value() -> None:
    message = faults(GOOD.replace("Q4_K_M", "Q4_K_X").replace('"x.gguf"', '""'))
    assert message.startswith("r.toml: 2 mistakes")
    assert "targets #1.ftype: 'Q4_K_X' is not an ftype of llama-quantize; perhaps you meant 'Q4_K_" in message
    assert "model: ''" in message


def test_a_mistake_between_tables_is_told_beside_one_inside() -> None:
    message = faults(GOOD.replace('"b.txt"', '"a.txt"').replace("model =", "modell ="))
    assert "modell: unknown key; perhaps you meant 'model'" in message
    assert "calibration, evaluation: both use the text 'a.txt'" in message


def test_recipe_that_makes_nothing_compares_files_or_is_refused() -> None:
    compared = GOOD[: GOOD.index("[[targets]]")] + '[[third_party]]\nname = "o"\nmodel = "o.gguf"\n'
    assert parse_recipe(compared, "r.toml").targets == ()
    assert "targets: missing" in faults(GOOD[: GOOD.index("[[targets]]")])


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.toml")), ids=lambda p: p.stem)
def test_committed_recipes_have_no_mistake(path: Path) -> None:
    assert parse_recipe(path.read_text(encoding="utf-8"), str(path)).name == path.stem
