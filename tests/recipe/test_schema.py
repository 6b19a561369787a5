"""The recipe: strict, with defaults filled and each mistake named."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from lwq.errors import RecipeError
from lwq.recipe.parse import parse_recipe
from lwq.recipe.schema import Bench, Recipe, SensitivityOptions, Task, domain_role, recipe_schema, split_cloze

GOOD = """
name = "q"
model = "x.gguf"
[calibration]
text = "a.txt"
[evaluation]
text = "b.txt"
[[targets]]
ftype = "Q4_K_M"
tensor_types = ['ffn_down\\.weight=q6_k']
prune_layers = [5, 4]
"""
SET = "[[tasks]]\nname = 'A'\n"


def faults(toml: str) -> str:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(toml, "r.toml")
    return caught.value.message


def test_defaults_are_filled_and_layers_sorted() -> None:
    recipe = parse_recipe(GOOD, "r.toml")
    (target,) = recipe.targets
    assert (target.name, target.imatrix, target.prune_layers) == ("Q4_K_M", True, (4, 5))
    assert recipe.evaluation.n_ctx == 512
    assert recipe.evaluation.n_chunks is None
    assert recipe.bench.tests == ("pp512", "tg128", "pp1024+tg1024")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("prune_layers = [5, 4]", "prune_layers = [4, 4]"), "names layer 4 twice"),
        (("prune_layers = [5, 4]", "prune_layers = [-1]"), "-1"),
        (("q6_k", "q6k"), "unknown ggml type 'q6k'"),
        (("ffn_down", "FFN_down"), "capitals never match"),
        (("ffn_down", "ffn_(down"), "ffn_(down"),
        (("ffn_down", "ffn down"), "white space"),
        (('ftype = "Q4_K_M"', 'ftype = "F16"\nname = "x"'), "ignored by llama-quantize for ftype F16"),
        (('name = "q"', 'name = "../q"'), "name: '../q'"),
        (('text = "a.txt"', 'text = "a.txt"\nn_ctx = 511'), "is odd"),
        (("[[targets]]", "[target]"), "target: unknown key; perhaps you meant 'targets'"),
        (('model = "x.gguf"', "model = "), "not TOML"),
        (("[[targets]]", '[[targets]]\nftype="Q4_K_M"\n[[targets]]'), "2 rows are named 'Q4_K_M'"),
        (("[[targets]]", f"{SET}file = 'a'\n{SET}file = 'b'\n[[targets]]"), "2 sets are named 'A'"),
        (("[[targets]]", f"{SET}file = ['cloze-words:x', 'b']\n[[targets]]"), "makes a set of its own"),
        (("[[targets]]", f"{SET}file = 'b'\ncolumns = {{answer = 'a'}}\n[[targets]]"), "names question, choices"),
        (('text = "b.txt"', 'text = "b.txt"\nmax_logits = "lots"'), "'lots' is no size"),
        (("[[targets]]", '[select]\nover = ["beauty"]\n[[targets]]'), "select.over #1"),
        (("[[targets]]", '[sensitivity]\nprobes = "few"\n[[targets]]'), "sensitivity.probes: 'few'"),
        (("[[targets]]", "[sensitivity]\nminutes = 0\n[[targets]]"), "sensitivity.minutes: 0"),
        (("[[targets]]", '[sensitivity]\nprobes = "all"\nminutes = 5\n[[targets]]'), "minutes is for probes"),
    ],
)
def test_mistakes_are_named(change: tuple[str, str], told: str) -> None:
    assert told in faults(GOOD.replace(*change))


def test_pattern_splits_at_the_first_equals_sign_as_the_tool_does() -> None:
    assert "unknown ggml type" in faults(GOOD.replace("ffn_down", "ffn=down"))


def test_schema_is_json_schema_and_forbids_unknown_keys() -> None:
    schema = json.loads(json.dumps(recipe_schema()))
    assert schema["additionalProperties"] is False
    assert {"name", "model", "calibration", "evaluation"} == set(schema["required"])


def test_the_schema_for_editors_takes_one_text_of_evaluation_or_several() -> None:
    properties = recipe_schema()["properties"]
    assert "domains" not in properties
    one, several = properties["evaluation"]["anyOf"]
    assert several["items"] == one == {"$ref": "#/$defs/Evaluation"}
    assert "description" in recipe_schema()["properties"]["evaluation"]
    assert (several["type"], several["minItems"]) == ("array", 1)
    assert recipe_schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def told(model: type[Task] | type[Bench] | type[Recipe], **stated: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(stated)
    (detail,) = caught.value.errors()
    return str(detail["msg"])


def task(**stated: Any) -> Task:
    return Task.model_validate({"name": "A", "file": "a", **stated})


def test_items_come_from_a_file_or_several_or_a_text_alone() -> None:
    assert [task(file=f).file for f in ("a", ["a", "b"], "cloze-words:t")] == [("a",), ("a", "b"), ("cloze-words:t",)]
    assert task(file=["cloze-sentences:t"]).file == ("cloze-sentences:t",)
    assert told(Task, name="A", file=["a", "cloze-words:t"]) == (
        "'cloze-words:t' makes a set of its own; give it a [[tasks]] table"
    )
    assert "valid tuple" in told(Task, name="A", file=5)


def test_cloze_is_told_from_other_references() -> None:
    assert split_cloze("cloze-words:hf://a/b:c") == ("words", "hf://a/b:c")
    assert split_cloze("cloze-sentences:t") == ("sentences", "t")
    for reference in ("cloze-words", "cloze-letters:t", "hf://datasets/a", "words:t", "a"):
        assert split_cloze(reference) == ("", reference)


def test_columns_are_the_three_that_an_item_has_and_its_id() -> None:
    three = {"question": "q", "choices": "c", "answer": "a"}
    for columns in ({}, three, {**three, "id": "i"}):
        assert task(columns=columns).columns == columns
    assert task(columns={"first": 1}).columns == {"first": "1"}
    assert task(columns={**three, "first": 0}).columns == {**three, "first": "0"}
    for lacking in three:
        wrong = {k: v for k, v in three.items() if k != lacking}
        assert told(Task, name="A", file="a", columns=wrong) == (
            "names question, choices and answer (and id, if there is one)"
        )
    assert "names question" in told(Task, name="A", file="a", columns={**three, "hint": "h"})
    assert "names question" in told(Task, name="A", file="a", columns={"id": "i"})
    for first in (2, True, "1", -1):
        assert told(Task, name="A", file="a", columns={"first": first}) == f"first: {first!r} is neither 0 nor 1"
    assert "valid dictionary" in told(Task, name="A", file="a", columns=5)


def test_tests_of_speed_are_prompts_generations_or_both_each_once() -> None:
    assert Bench(tests=("tg1", "pp1", "pp2+tg3", "tg1")).tests == ("tg1", "pp1", "pp2+tg3")
    assert Bench.model_validate({"tests": ["pp8"]}).tests == ("pp8",)
    assert Bench(tests=()).tests == ()
    for wrong in ("", "pp", "pp0", "tg1234567", "pp1+", "+tg1", "+", "tg1+pp1", "pp1 tg1", "xpp1"):
        assert told(Bench, tests=(wrong,)) == f"{wrong!r} is not like pp512, tg128 or pp1024+tg1024"


def test_minutes_are_for_probes_of_layers() -> None:
    assert SensitivityOptions(minutes=5.0).minutes == 5
    assert SensitivityOptions(probes="all").minutes is None


def recipe(**more: Any) -> Recipe:
    texts = {"calibration": {"text": "a.txt"}, "evaluation": {"text": "b.txt"}}
    return Recipe.model_validate({"name": "q", "model": "x.gguf", **texts, **more})


def test_texts_are_told_by_role_in_the_order_of_their_use() -> None:
    assert list(recipe().texts()) == ["calibration", "evaluation"]
    domains = [{"text": "b.txt"}, {"text": "c.txt"}, {"text": "d.txt", "domain": "x"}]
    several = recipe(selection={"text": "s.txt"}, evaluation=domains)
    assert {role: text.text for role, text in several.texts().items()} == {
        "calibration": "a.txt", "selection": "s.txt", "evaluation": "b.txt", "evaluation:c": "c.txt",
        "evaluation:x": "d.txt",
    }  # fmt: skip
    assert domain_role("c") == "evaluation:c"
    with pytest.raises(ValidationError, match="states domains; further texts of evaluation are"):
        recipe(domains=[{"text": "c.txt"}])
    with pytest.raises(ValidationError, match="evaluation"):
        recipe(evaluation=[])
    with pytest.raises(ValidationError, match="valid dictionary"):
        Recipe.model_validate(5)


def test_the_stem_of_file_names_is_a_name() -> None:
    assert [recipe(model_name=name).model_name for name in ("", "A.b_c+d-1")] == ["", "A.b_c+d-1"]
    for wrong in ("a b", "a/b", ".a", "x" * 97):
        with pytest.raises(ValidationError, match=r"may hold letters, digits and . _ \+ - only"):
            recipe(model_name=wrong)


def test_lists_of_a_recipe_are_kept_in_their_order() -> None:
    listed = recipe(
        targets=[{"ftype": "Q8_0"}, {"ftype": "Q4_0"}],
        third_party=[{"name": "o", "model": "o.gguf"}],
        tasks=[{"name": "A", "file": "a"}],
        select={"over": ["kld", "bytes"]},
    )
    assert [t.name for t in listed.targets] == ["Q8_0", "Q4_0"]
    assert (listed.third_party[0].name, listed.tasks[0].file, listed.select.over) == ("o", ("a",), ("kld", "bytes"))
