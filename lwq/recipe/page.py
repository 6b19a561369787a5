"""docs/recipe.md, from the schema itself: one page that cannot disagree with the code."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from lwq.recipe.card import Card
from lwq.recipe.family import Family, FamilyModel
from lwq.recipe.schema import Bench, Pruning, Recipe, Select, SensitivityOptions, Task, ThirdParty
from lwq.recipe.target import Target
from lwq.recipe.text import Calibration, Evaluation, Part, Text

_HEAD = """# The recipe

A recipe is a TOML file that says what to make: a model, three disjoint texts, and the files. Strings with
backslashes go in 'single quotes'. Unknown keys are mistakes; all mistakes are told at once, before anything runs:
`lwq recipe check FILE`. `lwq init MODEL` writes a recipe to start from, `lwq recipe schema` prints a JSON Schema
for editors. This page is written by `lwq recipe schema --markdown`.
"""
_SECTIONS: tuple[tuple[str, type[BaseModel]], ...] = (
    ("Top level", Recipe),
    ("[calibration], [selection], [evaluation]", Text),
    ("[calibration], beside that", Calibration),
    ("[[calibration.parts]]", Part),
    ("[evaluation], beside that", Evaluation),
    ("[[targets]]", Target),
    ("[[third_party]]", ThirdParty),
    ("[[tasks]]", Task),
    ("[bench]", Bench),
    ("[sensitivity]", SensitivityOptions),
    ("[pruning]", Pruning),
    ("[select]", Select),
    ("[card]", Card),
)
_FAMILY = """
## The family file

A family file names one recipe and the models that it is carried out on: `lwq run family.toml` is a run of several
recipes, one for each model, each with a report folder of its own. Paths in it are seen from the family file, those in
the recipe from the recipe. The recipe that a report shows is that model's, whole. `lwq recipe schema --family` prints
its JSON Schema.

```toml
recipe = "release.toml"
models = ["hf://OWNER/Model-1B", "hf://OWNER/Model-8B"]   # or a table for each, with what is its own:
```

```toml
recipe = "release.toml"

[[models]]
model = "hf://OWNER/Model-1B"
name = "model-1b"
card = { base_model = ["OWNER/Model-1B"], repository = "OWNER/Model-1B-GGUF" }
```
"""
_FAMILY_SECTIONS: tuple[tuple[str, type[BaseModel]], ...] = (
    ("Keys of a family file", Family),
    ("[[models]]", FamilyModel),
)
_TABLES = (
    *("calibration", "selection", "evaluation", "targets", "third_party", "tasks", "bench"),
    "sensitivity",
    "select",
    "card",
)


def recipe_page() -> str:
    """The page, in Markdown."""
    recipe, family = ("".join(_section(*each) for each in some) for some in (_SECTIONS, _FAMILY_SECTIONS))
    return _HEAD + recipe + _FAMILY + family


def _section(title: str, model: type[BaseModel]) -> str:
    schema = model.model_json_schema()
    about = (model.__doc__ or "").strip().splitlines()[0]
    lines = [f"\n## `{title}`" if title[0] == "[" else f"\n## {title}", "", about, ""]
    lines += ["| key | type | default | meaning |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        if model in (Calibration, Evaluation) and name in Text.model_fields:
            continue
        if name == "domains":
            continue  # written as [[evaluation]]
        default = "required" if field.default is PydanticUndefined else _default(field.default)
        kind = "table" if model is Recipe and name in _TABLES else _kind(schema["properties"][name])
        about = (field.description or "").replace("|", "\\|")
        lines.append(f"| `{name}` | {kind} | {default} | {about} |")
    return "\n".join(lines) + "\n"


def _default(value: object) -> str:
    if value is None or value == "" or value == ():
        return "–"
    if isinstance(value, BaseModel):
        return "see below"
    if isinstance(value, tuple):
        return f"`{list(value)}`".replace("'", '"')
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _kind(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "anyOf" in schema:
        kinds = [_kind(s) for s in schema["anyOf"] if s.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "const" in schema:
        return f"`{schema['const']}`"
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items']).replace('list of ', 'lists of ').removesuffix('s')}s"
    return {"string": "text", "integer": "whole number", "number": "number", "boolean": "true/false"}.get(
        schema.get("type", ""), "table"
    )
