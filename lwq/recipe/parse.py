"""A recipe's TOML text turned into a Recipe, or into the list of all its mistakes.

Unknown keys are mistakes too; the nearest known word is offered.
"""

from __future__ import annotations

import difflib
import itertools
import tomllib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from lwq.errors import RecipeError
from lwq.recipe.card import Card
from lwq.recipe.schema import ROLES, Bench, Pruning, Recipe, Select, SensitivityOptions, Task, ThirdParty
from lwq.recipe.target import Target
from lwq.recipe.text import Calibration, Evaluation, Text
from lwq.store.names import alike, folded

SCHEMA_HINT: Final = "`lwq recipe schema` lists all keys; docs/recipe.md explains them"


def parse_recipe(toml: str, source: str) -> Recipe:
    """The recipe that a TOML text states; ``source`` names it in errors.

    Raises:
        RecipeError: with every mistake found.
    """
    values = values_in(toml, source)
    if is_family(values):
        hint = "`lwq run`, `lwq plan` and `lwq recipe check` take it; name its recipe elsewhere"
        raise RecipeError(source, ("is a family file, of several models, not a recipe",), hint=hint)
    return checked(values, source)


def values_in(toml: str, source: str) -> dict[str, Any]:
    """What a TOML text states, whatever it is; raises RecipeError where it is no TOML."""
    try:
        return tomllib.loads(toml)
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, thousands of brackets
        hint = "TOML is described at https://toml.io; strings with backslashes go in 'single quotes'"
        raise RecipeError(source, (f"not TOML: {error}",), hint=hint) from None


def is_family(values: Mapping[str, Any]) -> bool:
    """Whether these are the keys of a family file: no recipe has ``models``, or names another recipe."""
    return "models" in values or "recipe" in values


def checked(values: dict[str, Any], source: str) -> Recipe:
    """The recipe of these values; ``source`` names it in errors.

    Raises:
        RecipeError: with every mistake found.
    """
    faults = list(_clashes(values))
    try:
        recipe = Recipe.model_validate(values)
        faults += [] if faults else list(_contradictions(recipe))
    except ValidationError as error:
        faults = told(error, _keys_near) + faults
    if faults:
        raise RecipeError(source, tuple(faults), hint=SCHEMA_HINT)
    return recipe


def told(error: ValidationError, keys_near: Callable[[tuple[int | str, ...]], list[str]]) -> list[str]:
    """A sentence for each mistake; ``keys_near`` knows the keys of the table that a place is in."""
    details = error.errors(include_url=False)
    above = {d["loc"][:n] for d in details for n in range(len(d["loc"]))}  # a list lacks what is wrong in it
    return [_sentence(d, keys_near) for d in details if d["type"] != "too_short" or d["loc"] not in above]


def _clashes(values: dict[str, Any]) -> Iterator[str]:
    """Faults between keys, found in the raw values so that they are told beside all others."""
    rows = [row for key in ("targets", "third_party") for row in _tables(values.get(key))]
    names = [name for row in rows if (name := _written_name(row))]
    yield from _alike("targets, third_party", "rows are named", names)
    if not any(values.get(key) for key in ("targets", "third_party")):
        yield "targets: missing; name the files to make, or in third_party those of others to compare"
    sets = [str(row.get("name")) for row in _tables(values.get("tasks"))]
    yield from _alike("tasks", "sets are named", sets)
    base = str(values.get("base_type", "f16")).upper()
    if base.casefold() in map(folded, names):
        yield f"targets: {base!r} is the name of the base's own row, which every card has"
    for (first, text), (second, other) in itertools.combinations(_texts(values), 2):
        if text is not None and text == other:
            yield f"{first}, {second}: both use the text {text!r}; they must be disjoint"


def _texts(values: dict[str, Any]) -> list[tuple[str, Any]]:
    """What each table of a text names."""
    found = [(role, values[role].get("text")) for role in ROLES if isinstance(values.get(role), dict)]
    return found + [(f"evaluation #{i}", t.get("text")) for i, t in enumerate(_tables(values.get("evaluation")), 1)]


def _written_name(row: dict[str, Any]) -> str:
    """A row's name as the file says it; a budget and a number of layers to remove name their row later."""
    later = any(row.get(key) for key in ("budget", "bpw", "size", "ram", "prune"))
    return str(row.get("name") or ("" if later else row.get("ftype") or ""))


def _contradictions(recipe: Recipe) -> Iterator[str]:
    """Rows whose names come out the same though nobody wrote them; a choice by what nothing measures."""
    if "tg" in recipe.select.over and not any(test.startswith("tg") for test in recipe.bench.tests):
        yield "select.over: 'tg' chooses by speed of generation; [bench] has no test like tg128"
    if "tasks" in recipe.select.over and not recipe.tasks:
        yield "select.over: 'tasks' chooses by task scores; the recipe has no [[tasks]]"
    domains = [recipe.evaluation.domain, *(text.domain for text in recipe.domains)]
    yield from _alike("evaluation", "texts are of the domain", domains, "domain")
    names = [*(t.name for t in recipe.targets), *(t.name for t in recipe.third_party)]
    yield from _alike("targets, third_party", "rows are named", names)


def _alike(where: str, what: str, names: list[str], own: str = "name") -> Iterator[str]:
    """Names of files that are one file, here or on a file system that takes capitals for small letters."""
    for same in alike(names):
        told, *others = dict.fromkeys(same)
        apart = f", or {' or '.join(map(repr, others))}: one file where capitals do not count" if others else ""
        yield f"{where}: {len(same)} {what} {told!r}{apart}; give each a {own} of its own"


def _tables(value: Any) -> list[dict[str, Any]]:
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def _sentence(detail: ErrorDetails, keys_near: Callable[[tuple[int | str, ...]], list[str]]) -> str:
    if detail["loc"][:1] == ("domains",) and len(detail["loc"]) > 1:
        _, at, *rest = detail["loc"]
        detail["loc"] = ("evaluation", int(at) + 1, *rest)
    where = "".join(f" #{part + 1}" if isinstance(part, int) else f".{part}" for part in detail["loc"]).lstrip(".")
    value = detail["input"]
    shown = "" if isinstance(value, dict | BaseModel) else f" {value!r}"
    if detail["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(detail["loc"][-1]), keys_near(detail["loc"]), n=1)
        return f"{where}: unknown key" + (f"; perhaps you meant {near[0]!r}" if near else "")
    if detail["type"] == "missing":
        return f"{where}: missing"
    return f"{where or 'recipe'}:{shown} {_lower_first(detail['msg'])}"


def _lower_first(message: str) -> str:
    return message[:1].lower() + message[1:] if message[1:2].islower() else message


def _keys_near(loc: tuple[int | str, ...]) -> list[str]:
    models: dict[str, type[BaseModel]] = {
        "calibration": Calibration,
        "selection": Text,
        "evaluation": Evaluation,
        "targets": Target,
    }
    models |= {"third_party": ThirdParty, "tasks": Task, "bench": Bench, "sensitivity": SensitivityOptions}
    models |= {"pruning": Pruning, "select": Select, "card": Card}
    model = models.get(str(loc[0]), Recipe) if len(loc) > 1 else Recipe
    return list(model.model_fields)
