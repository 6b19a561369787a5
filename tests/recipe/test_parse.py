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


DOMAINS = '[[evaluation]]\ntext = "b.txt"\n[[evaluation]]\ntext = "packaged:code"\nweight = 2.0\n'


def several(further: str = "") -> str:
    start = GOOD.index("[evaluation]")
    return GOOD[:start] + DOMAINS + further + GOOD[GOOD.index("[[targets]]") :]


def test_texts_of_evaluation_are_domains_named_after_themselves() -> None:
    recipe = parse_recipe(several('[[evaluation]]\ntext = "c/long.txt"\ndomain = "novels"\n'), "r.toml")
    assert [t.domain for t in (recipe.evaluation, *recipe.domains)] == ["b", "code", "novels"]
    assert list(recipe.texts())[-3:] == ["evaluation", "evaluation:code", "evaluation:novels"]
    assert [t.weight for t in recipe.domains] == [2.0, 1.0]


def test_mistakes_in_domains_have_the_place_in_which_they_stand() -> None:
    assert "evaluation #2.weight: -1.0" in faults(several().replace("2.0", "-1.0"))
    assert "evaluation #3.wheight: unknown key; perhaps you meant 'weight'" in faults(
        several('[[evaluation]]\ntext = "d.txt"\nwheight = 1.0\n')
    )
    again = '[[evaluation]]\ntext = "b.txt"\n'
    assert "evaluation #1, evaluation #3: both use the text 'b.txt'" in faults(several(again))
    assert "2 texts are of the domain 'code'" in faults(several('[[evaluation]]\ntext = "x/code.txt"\n'))
    both = several() + '[[domains]]\ntext = "e.txt"\n'
    assert "domains" in faults(both)
