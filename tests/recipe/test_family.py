"""A family is its recipe once for each model, with what the model has of its own; all mistakes are told at once."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from lwq.errors import RecipeError
from lwq.recipe.family import OfFamily, family_schema, name_of, parse_family, recipes_of
from lwq.recipe.parse import parse_recipe, values_in
from tests.recipe.test_schema import GOOD, faults

FILE = Path("all/family.toml")
TWO = 'recipe = "r.toml"\nmodels = ["hf://o/Small-1B", "hf://o/Large-8B@main"]\n'


def recipes(family: str, shared: str = GOOD) -> tuple[OfFamily, ...]:
    return recipes_of(parse_family(values_in(family, str(FILE)), str(FILE)), FILE, shared)


def mistakes(family: str, shared: str = GOOD) -> tuple[str, ...]:
    with pytest.raises(RecipeError) as caught:
        recipes(family, shared)
    return caught.value.faults


def test_each_model_has_the_recipe_under_its_own_name() -> None:
    small, large = recipes(TWO)
    assert [one.recipe.name for one in (small, large)] == ["q-Small-1B", "q-Large-8B"]
    assert [one.recipe.model for one in (small, large)] == ["hf://o/Small-1B", "hf://o/Large-8B@main"]
    alone = parse_recipe(GOOD, "r.toml")
    for one in (small, large):
        assert one.recipe.model_copy(update={"name": alone.name, "model": alone.model}) == alone


def test_the_text_of_each_states_it_by_itself() -> None:
    for one in recipes(TWO + "\n", GOOD + '[card]\ntitle = "T"\n'):
        assert parse_recipe(one.text, "x") == one.recipe
        assert one.text.splitlines()[0] == f"# family.toml: r.toml for {one.recipe.name}"


def test_name_and_model_of_the_recipe_may_be_absent() -> None:
    shared = GOOD.replace('name = "q"\nmodel = "x.gguf"\n', "")
    assert [one.recipe.name for one in recipes(TWO, shared)] == ["Small-1B", "Large-8B"]


def test_what_is_a_models_own_takes_the_place_of_the_recipes() -> None:
    family = (
        'recipe = "r.toml"\n[[models]]\nmodel = "hf://o/A"\nname = "a"\nmodel_name = "Aa"\nbase_type = "bf16"\n'
        'mtp = "drop"\ncard = { title = "Mine", base_model = ["o/A"] }\n[[models]]\nmodel = "hf://o/B"\n'
    )
    own, plain = recipes(family, GOOD + '[card]\ntitle = "All"\nauthor = "me"\n')
    assert (own.recipe.name, own.recipe.model_name, own.recipe.base_type, own.recipe.mtp) == ("a", "Aa", "bf16", "drop")
    assert (own.recipe.card.title, own.recipe.card.author, own.recipe.card.base_model) == ("Mine", "me", ("o/A",))
    assert (plain.recipe.base_type, plain.recipe.card.title, plain.recipe.card.base_model) == ("f16", "All", ())


def test_paths_are_seen_from_the_file_that_they_stand_in() -> None:
    family = (
        'recipe = "../recipes/r.toml"\n[[models]]\nmodel = "m/a.gguf"\ncard = { logo = "a.png" }\n'
        '[[models]]\nmodel = "/data/b.gguf"\n'
    )
    a, b = recipes(family)
    assert (a.recipe.model, a.recipe.card.logo, a.recipe.evaluation.text) == (
        "../all/m/a.gguf",
        "../all/a.png",
        "b.txt",
    )
    assert b.recipe.model == "/data/b.gguf"
    assert tomllib.loads(a.text)["model"] == "../all/m/a.gguf"


@pytest.mark.parametrize(
    ("family", "told"),
    [
        ('recipe = "r.toml"\n', ("models: missing",)),
        ('models = ["a"]\n', ("recipe: missing",)),
        ('recipe = "r.toml"\nmodels = []\n', ("models: [] is no list of models; name at least one",)),
        ('recipe = "r.toml"\nmodels = "a"\n', ("models: 'a' is no list of models",)),
        (
            'reciep = "r.toml"\n[[models]]\nmodle = "a"\n',
            ("recipe: missing", "models #1.model: missing", "models #1.modle: unknown key; perhaps you meant 'model'",
             "reciep: unknown key; perhaps you meant 'recipe'"),
        ),
        ('recipe = "r.toml"\n[[models]]\nmodel = "a"\nname = "a/b"\n', ("models #1.name: 'a/b'",)),
    ],
)  # fmt: skip
def test_mistakes_of_the_file_are_told_together(family: str, told: tuple[str, ...]) -> None:
    found = mistakes(family)
    assert len(found) == len(told)
    for one, start in zip(found, told, strict=True):
        assert one.startswith(start)


def test_mistakes_of_the_recipe_are_told_once_and_those_of_a_model_with_its_number() -> None:
    family = TWO.split("models")[0] + (
        '[[models]]\nmodel = "hf://o/A"\n[[models]]\nmodel = "hf://o/B"\ncard = { titel = "x", licence = "mit, gpl" }\n'
    )
    found = mistakes(family, GOOD.replace("Q4_K_M", "Q4_K_X").replace('text = "a.txt"', 'txt = "a.txt"'))
    assert [f for f in found if f.startswith("r.toml: targets #1.ftype: 'Q4_K_X'")]
    assert [f for f in found if f.startswith("r.toml: calibration.txt: unknown key")]
    assert [f for f in found if f.startswith("models #2: card.titel: unknown key; perhaps you meant 'title'")]
    assert len(found) == len(set(found))


def test_two_models_of_one_name_are_refused_with_it() -> None:
    assert mistakes('recipe = "r.toml"\nmodels = ["a/x.gguf", "b/X.gguf"]\n') == (
        "models: 2 of them are named 'q-x'; give each a `name` of its own",
    )


def test_a_family_is_no_recipe_and_has_none_in_it() -> None:
    assert "is a family file" in faults(TWO)
    assert mistakes(TWO, TWO) == ("recipe: 'r.toml' is a family file too; name a recipe",)


def test_names_come_from_references() -> None:
    assert name_of("hf://owner/Model-8B@main", 90) == "Model-8B"
    assert name_of("models/Some Model.gguf", 90) == "Some-Model"
    assert name_of("hf://owner/Model-8B", 5) == "Model"
    assert name_of("/", 90) == "model"
    assert name_of("hf://owner/Model-8B/", 90) == "Model-8B"
    assert name_of("hf://owner/Model-X/", 90) == "Model-X"
    assert name_of("big-00001-of-00003.gguf", 90) == "big"
    assert name_of("a/+b c@d/e.gguf", 90) == "b-c"
    assert name_of("._+-", 90) == "model"


def test_names_are_cut_to_ninety_six_letters() -> None:
    (alone,) = recipes(f'recipe = "r.toml"\nmodels = ["{"x" * 120}"]\n', GOOD.replace('name = "q"\n', ""))
    assert alone.recipe.name == "x" * 96
    (joined,) = recipes(f'recipe = "r.toml"\nmodels = ["{"x" * 120}"]\n')
    assert joined.recipe.name == "q-" + "x" * 94


def test_a_card_of_the_model_alone_is_enough_and_one_that_is_no_table_is_told() -> None:
    family = 'recipe = "r.toml"\n[[models]]\nmodel = "hf://o/A"\ncard = { title = "Mine" }\n'
    (own,) = recipes(family)
    assert own.recipe.card.title == "Mine"
    (replaced,) = recipes(family, "card = 5\n" + GOOD)
    assert replaced.recipe.card.title == "Mine"
    (fault,) = mistakes(TWO, "card = 5\n" + GOOD)
    assert fault.startswith("r.toml: card: 5 ")


def test_pictures_and_templates_are_seen_from_the_family_and_texts_are_not() -> None:
    family = (
        'recipe = "../recipes/r.toml"\n[[models]]\nmodel = "hf://o/A"\n'
        'card = { logo = "a.png", templates = "t", footer = "b.md" }\n[[models]]\nmodel = "b"\ncard = { logo = "" }\n'
    )
    a, b = recipes(family)
    assert (a.recipe.card.logo, a.recipe.card.templates, a.recipe.card.footer) == ("../all/a.png", "../all/t", "b.md")
    assert (a.recipe.model, b.recipe.model, b.recipe.card.logo) == ("hf://o/A", "../all/b", "")
    (beside,) = recipes('recipe = "./r.toml"\n[[models]]\nmodel = "./b"\ncard = { logo = "./a.png" }\n')
    assert (beside.recipe.model, beside.recipe.card.logo) == ("./b", "./a.png")


def test_faults_of_some_models_name_them_and_the_file() -> None:
    three = 'recipe = "r.toml"\n' + "".join(
        f'[[models]]\nmodel = "hf://o/{m}"\ncard = {{ licence = "{licence}" }}\n'
        for m, licence in (("A", "mit, gpl-3.0"), ("B", "mit"), ("C", "mit, gpl-3.0"))
    )
    with pytest.raises(RecipeError) as caught:
        recipes(three)
    (fault,) = caught.value.faults
    assert fault.startswith("models #1, #3: card.licence: 'mit, gpl-3.0' names several licences")
    assert caught.value.message.startswith(f"{FILE}: ")
    assert "lwq recipe schema" in caught.value.hint
    with pytest.raises(RecipeError) as caught:
        parse_family({}, "f.toml")
    assert caught.value.message.startswith("f.toml: 2 mistakes")
    assert "lwq recipe schema" in caught.value.hint


def test_the_schema_for_editors_takes_names_of_models_and_tables() -> None:
    schema = family_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    models = schema["properties"]["models"]
    assert (schema["required"], models["minItems"], models["type"]) == (["recipe", "models"], 1, "array")
    assert models["items"] == {"anyOf": [{"$ref": "#/$defs/FamilyModel"}, {"type": "string", "minLength": 1}]}
