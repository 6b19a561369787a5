"""Recipes and families read from their files, with every mistake in any of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lwq.errors import FileError, LwqError, UsageError
from lwq.plan.job import Asked
from lwq.recipe.family import parse_family, recipes_of
from lwq.recipe.parse import checked, is_family, parse_recipe, values_in
from lwq.store.names import folded


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadRecipe:
    """A recipe, and where it was read."""

    path: Path
    asked: Asked
    is_of_family: bool = False


def read_recipe(path: Path, model: str | None = None) -> Asked:
    """A recipe file; ``model`` replaces the recipe's own.

    Raises:
        FileError: no such file, or not text.
        RecipeError: its mistakes.
    """
    text = _text(path)
    asked = Asked(recipe=parse_recipe(text, str(path)), text=text, folder=path.parent)
    if not model:
        return asked
    here = model if "://" in model else str(Path(model).absolute())
    return replace(asked, recipe=asked.recipe.model_copy(update={"model": here}))


def read_file(path: Path) -> tuple[ReadRecipe, ...]:
    """What a file asks for: a recipe, or of a family the recipe of each model.

    Raises:
        FileError: no such file, or not text.
        RecipeError: its mistakes.
    """
    text = _text(path)
    values = values_in(text, str(path))
    if not is_family(values):
        return (ReadRecipe(path=path, asked=Asked(recipe=checked(values, str(path)), text=text, folder=path.parent)),)
    family = parse_family(values, str(path))
    shared = path.parent / family.recipe
    asked = (
        Asked(recipe=one.recipe, text=one.text, folder=shared.parent) for one in recipes_of(family, path, _text(shared))
    )
    return tuple(ReadRecipe(path=path, asked=one, is_of_family=True) for one in asked)


def read_all(paths: Sequence[Path]) -> tuple[ReadRecipe, ...]:
    """All that the files ask for.

    Raises:
        LwqError: all that is wrong with any of them, and names that two have, together.
    """
    found: list[ReadRecipe] = []
    faults: list[LwqError] = []
    for path in paths:
        try:
            found += read_file(path)
        except LwqError as error:
            faults.append(error)
    by_name: dict[str, list[str]] = {}
    for one in found:
        by_name.setdefault(folded(one.asked.recipe.name), []).append(str(one.path))
    for name, files in by_name.items():
        if len(files) > 1:
            told = f"{', '.join(dict.fromkeys(files))}: {len(files)} recipes are named {name!r}"
            faults.append(UsageError(told, hint="each report has a folder of its own; give each recipe its own `name`"))
    if faults:
        raise together(faults)
    return tuple(found)


def together(faults: Sequence[LwqError]) -> LwqError:
    """One error of several: their messages, one below the other, and their hints."""
    if len(faults) == 1:
        return faults[0]
    kind = UsageError if any(isinstance(fault, UsageError) for fault in faults) else FileError
    hints = dict.fromkeys(fault.hint for fault in faults if fault.hint)
    return kind("\n".join(fault.message for fault in faults), hint="; ".join(hints))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        near = ", ".join(sorted(str(p) for p in Path("recipes").glob("*.toml")))
        raise FileError(f"{path}: no such recipe", hint=f"recipes here: {near}" if near else "`lwq init`") from None
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"{path}: cannot be read as a recipe: {error}", hint="name a TOML file") from None
