"""The recipe: strict, with defaults filled and each mistake named."""

from __future__ import annotations

import json

import pytest

from lwq.errors import RecipeError
from lwq.recipe.parse import parse_recipe
from lwq.recipe.schema import recipe_schema

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
