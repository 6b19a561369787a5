"""A family file: several models, and the one recipe that is carried out on each."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field, ValidationError, field_validator

from lwq.errors import RecipeError
from lwq.gguf.header import whole_name
from lwq.recipe.parse import SCHEMA_HINT, checked, is_family, told, values_in
from lwq.recipe.schema import Recipe
from lwq.recipe.target import NAME, Strict, fault
from lwq.recipe.toml import to_toml
from lwq.store.names import folded

_MOST: Final = 96
_OWN: Final = ("model_name", "base_type", "mtp")
_PATHS: Final = ("logo", "templates")


class FamilyModel(Strict):
    """One model, and what of the recipe is its own; paths are seen from the family file."""

    model: str = Field(min_length=1, description="The original, as a recipe names it.")
    name: str = Field(
        default="",
        pattern=f"^({NAME.pattern})?$",
        description="Names the folder of its report; the recipe's name and the model's, `NAME-MODEL`, when absent.",
    )
    model_name: str | None = Field(default=None, description="In place of the recipe's.")
    base_type: Literal["f16", "bf16"] | None = Field(default=None, description="In place of the recipe's.")
    mtp: Literal["keep", "drop"] | None = Field(default=None, description="In place of the recipe's.")
    card: dict[str, Any] = Field(default={}, description="Keys of `[card]` in place of the recipe's, or beside them.")


class Family(Strict):
    """Models, and the recipe that is carried out on each of them."""

    recipe: str = Field(
        min_length=1, description="A recipe, seen from this file; its own `name` and `model` may be absent."
    )
    models: tuple[FamilyModel, ...] = Field(description="The models: a list of them, or a `[[models]]` table for each.")

    @field_validator("models", mode="before")
    @classmethod
    def _tables(cls, value: Any) -> Any:
        if not isinstance(value, list) or not value:
            raise fault("is no list of models; name at least one")
        return tuple({"model": item} if isinstance(item, str) else item for item in value)


def family_schema() -> dict[str, Any]:
    """The JSON Schema of a family file, for editors."""
    schema = Family.model_json_schema()
    models = schema["properties"]["models"]
    models["minItems"] = 1
    models["items"] = {"anyOf": [models["items"], {"type": "string", "minLength": 1}]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


@dataclass(frozen=True, slots=True, kw_only=True)
class OfFamily:
    """The recipe of one model of a family, and the text that states it by itself."""

    recipe: Recipe
    text: str


def parse_family(values: dict[str, Any], source: str) -> Family:
    """The family that a file states; raises RecipeError with every mistake in the file."""
    try:
        return Family.model_validate(values)
    except ValidationError as error:
        raise RecipeError(source, tuple(told(error, _keys_near)), hint=SCHEMA_HINT) from None


def recipes_of(family: Family, source: Path, toml: str) -> tuple[OfFamily, ...]:
    """One recipe for each model of the family in the file ``source``.

    Args:
        toml: the text of the recipe that it names.

    Raises:
        RecipeError: every mistake of the recipe, once, and of what the models have of their own.
    """
    shared = values_in(toml, f"{source}: {family.recipe}")
    if is_family(shared):
        raise RecipeError(str(source), (f"recipe: {family.recipe!r} is a family file too; name a recipe",))
    found, faults = [], dict[str, list[int]]()
    for n, model in enumerate(family.models, 1):
        values = _merged(shared, family, model, source.parent)
        try:
            head = f"# {source.name}: {Path(family.recipe).name} for {values['name']}\n"
            found.append(OfFamily(recipe=checked(values, str(source)), text=head + to_toml(values)))
        except RecipeError as error:
            for fault in error.faults:
                faults.setdefault(fault, []).append(n)
    told_once = [_told(fault, of, family) for fault, of in faults.items()] + list(_clashes(found))
    if told_once:
        raise RecipeError(str(source), tuple(told_once), hint=SCHEMA_HINT)
    return tuple(found)


def name_of(reference: str, most: int) -> str:
    """A name of at most so many characters from a path or reference: ``hf://owner/Model-8B@main`` → ``Model-8B``."""
    name = whole_name(Path(reference.split("@")[0].rstrip("/")).name)
    return re.sub(r"[^A-Za-z0-9._+-]", "-", name).strip("._+-")[:most] or "model"


def _merged(shared: dict[str, Any], family: Family, model: FamilyModel, folder: Path) -> dict[str, Any]:
    """The recipe's values with the model's own; paths of the family file are seen from the recipe's folder."""
    away = (folder / family.recipe).parent
    named = "-".join(part for part in (shared.get("name"), name_of(model.model, _MOST)) if isinstance(part, str))
    values: dict[str, Any] = {"name": model.name or named[:_MOST], "model": _seen(model.model, folder, away)}
    values |= {key: value for key, value in shared.items() if key not in values}
    values |= {key: value for key in _OWN if (value := getattr(model, key)) is not None}
    if model.card:
        own = {k: _seen(v, folder, away) if k in _PATHS and isinstance(v, str) else v for k, v in model.card.items()}
        card = shared.get("card")
        values["card"] = {**(card if isinstance(card, dict) else {}), **own}
    return values


def _seen(path: str, folder: Path, away: Path) -> str:
    """A path of one folder as it is seen from another; references and absolute paths stay."""
    if not path or "://" in path or Path(path).is_absolute() or folder.absolute() == away.absolute():
        return path
    return Path(os.path.relpath((folder / path).absolute(), away.absolute())).as_posix()


def _told(fault: str, of: list[int], family: Family) -> str:
    if len(of) == len(family.models):
        return f"{family.recipe}: {fault}"
    return f"models {', '.join(f'#{n}' for n in of)}: {fault}"


def _clashes(found: list[OfFamily]) -> Iterator[str]:
    """Names that two models have; a file system may not tell capitals from small letters."""
    names = [folded(one.recipe.name) for one in found]
    for name in sorted({n for n in names if names.count(n) > 1}):
        yield f"models: {names.count(name)} of them are named {name!r}; give each a `name` of its own"


def _keys_near(loc: tuple[int | str, ...]) -> list[str]:
    return list((FamilyModel if len(loc) > 1 else Family).model_fields)
