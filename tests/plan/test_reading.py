"""What files ask for is read whole, and all that is wrong with any of them is told together."""

from __future__ import annotations

from pathlib import Path

import pytest

from lwq.errors import FileError, LwqError, RecipeError
from lwq.plan.reading import read_all, read_file, read_recipe
from tests.recipe.test_schema import GOOD


def put(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_recipes_and_the_models_of_families_are_read_in_order(tmp_path: Path) -> None:
    one = put(tmp_path, "one.toml", GOOD.replace('"q"', '"one"'))
    put(tmp_path, "recipes/shared.toml", GOOD)
    family = put(tmp_path, "family.toml", 'recipe = "recipes/shared.toml"\nmodels = ["a.gguf", "b.gguf"]\n')
    read = read_all((family, one))
    assert [r.asked.recipe.name for r in read] == ["q-a", "q-b", "one"]
    assert [r.is_of_family for r in read] == [True, True, False]
    assert read[0].asked.folder == tmp_path / "recipes"
    assert read[0].asked.recipe.model == "../a.gguf"
    assert read[2].asked == read_recipe(one)


def test_everything_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    good = put(tmp_path, "good.toml", GOOD)
    typo = put(tmp_path, "typo.toml", GOOD.replace("Q4_K_M", "Q4_K_X"))
    family = put(tmp_path, "family.toml", 'recipe = "absent.toml"\nmodels = ["a"]\n')
    with pytest.raises(LwqError) as caught:
        read_all((good, typo, tmp_path / "none.toml", family))
    said = caught.value
    assert said.exit_code == 2
    assert "typo.toml: 1 mistake\n  targets #1.ftype: 'Q4_K_X'" in said.message
    assert "none.toml: no such recipe" in said.message
    assert "absent.toml: no such recipe" in said.message
    assert "lwq recipe schema" in said.hint


def test_one_mistake_is_told_as_of_one_file(tmp_path: Path) -> None:
    typo = put(tmp_path, "typo.toml", GOOD.replace("Q4_K_M", "Q4_K_X"))
    with pytest.raises(RecipeError) as alone:
        read_recipe(typo)
    with pytest.raises(RecipeError) as among:
        read_all((typo,))
    assert (among.value.message, among.value.hint) == (alone.value.message, alone.value.hint)
    with pytest.raises(FileError, match="no such recipe"):
        read_file(tmp_path / "none.toml")


def test_names_that_two_recipes_have_are_refused_with_their_files(tmp_path: Path) -> None:
    a, b = put(tmp_path, "a.toml", GOOD), put(tmp_path, "b.toml", GOOD.replace('"q"', '"Q"'))
    with pytest.raises(LwqError, match=r"a\.toml, .*b\.toml: 2 recipes are named 'q'") as caught:
        read_all((a, b))
    assert "its own `name`" in caught.value.hint


def test_a_family_is_refused_where_one_recipe_is_wanted(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="is a family file"):
        read_recipe(put(tmp_path, "f.toml", 'recipe = "r.toml"\nmodels = ["a"]\n'))
