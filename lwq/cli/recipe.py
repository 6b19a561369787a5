"""``lwq init`` and ``lwq recipe``."""

from __future__ import annotations

import json
import re
from importlib import resources
from pathlib import Path
from typing import Final

import click

from lwq.errors import FileError
from lwq.gguf.header import without_extension
from lwq.plan.chat import has_chat_template
from lwq.plan.reading import read_file
from lwq.plan.sources import look_at
from lwq.store.files import write_atomic

_CHATS: Final = re.compile(r"\[\[calibration\.parts\]\]\n(?:\w.*\n)*chat = true.*\n\n")
"""The template's part of conversations, which needs a chat template."""


@click.group("recipe")
def recipe_command() -> None:
    """Check a recipe; print the schema."""


@recipe_command.command("check")
@click.argument("recipe", type=click.Path(path_type=Path))
def check(recipe: Path) -> None:
    """Tell every mistake of RECIPE, or of a family file (its own text; `lwq plan` also looks at the files it names)."""
    read = read_file(recipe)
    n = len(read[0].asked.recipe.targets)
    models = f"{len(read)} model{'s' if len(read) > 1 else ''}, each with " if read[0].is_of_family else ""
    click.echo(f"{recipe}: no mistake; {models}{n} target{'s' if n > 1 else ''}")


@recipe_command.command("schema")
@click.option("--markdown", is_flag=True, help="The page docs/recipe.md instead of the JSON Schema.")
@click.option("--family", is_flag=True, help="Of a family file, which names models and one recipe.")
def schema(markdown: bool, family: bool) -> None:
    """Print the JSON Schema of a recipe."""
    from lwq.recipe.family import family_schema
    from lwq.recipe.page import recipe_page
    from lwq.recipe.schema import recipe_schema

    values = family_schema() if family else recipe_schema()
    click.echo(recipe_page() if markdown else json.dumps(values, indent=2), nl=not markdown)


@click.command("init")
@click.argument("model")
@click.option("--out", type=click.Path(path_type=Path), help="File to write; recipes/NAME.toml when absent.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
def init_command(model: str, out: Path | None, force: bool) -> None:
    """Write a commented recipe for MODEL (a path, hf:// or pypi:// reference)."""
    name = re.sub(r"[^A-Za-z0-9._+-]+", "-", without_extension(re.split(r"[/@]", model.rstrip("/"))[-1]))
    name = re.sub(r"==.*", "", name).strip("-.").lower() or "model"
    path = out or Path("recipes") / f"{name}.toml"
    if path.exists() and not force:
        raise FileError(f"{path}: exists already", hint="name another with --out, or replace it with --force")
    reference, has_chats = model, True
    if "://" not in model:
        import os

        has_chats = has_chat_template(look_at(Path(model)))
        reference = Path(os.path.relpath(Path(model).absolute(), path.parent.absolute())).as_posix()
    template = resources.files("lwq.recipe").joinpath("template.toml").read_text(encoding="utf-8")
    if not has_chats:
        template = _CHATS.sub("", template)
    text = template.replace("@NAME@", name).replace("@MODEL@", json.dumps(reference))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, text)
    click.echo(f"{path}: written; look it through, then `lwq plan {path}` and `lwq run {path}`")
