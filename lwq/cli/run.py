"""``lwq plan``, ``lwq run`` and ``lwq why``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from lwq.cli.batch import asking_for, run_several
from lwq.cli.carry import carry, print_results
from lwq.cli.job import prepare
from lwq.cli.noting import Noting
from lwq.cli.planned import show_plan
from lwq.cli.progress import Progress, showing
from lwq.cli.settings import Settings
from lwq.errors import UsageError
from lwq.plan import explain
from lwq.plan.queue import noted
from lwq.plan.reading import ReadRecipe, read_all, read_recipe
from lwq.store.ledger import Ledger
from lwq.store.living import Living

RECIPE = click.argument("recipe", type=click.Path(path_type=Path))
RECIPES = click.argument("recipes", metavar="RECIPE…", type=click.Path(path_type=Path), nargs=-1, required=True)
MODEL = click.option("--model", metavar="REFERENCE", help="Use this model instead of the recipe's.")


@click.command("plan")
@RECIPES
@MODEL
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.pass_obj
def plan_command(settings: Settings, recipes: tuple[Path, ...], model: str | None, as_json: bool) -> None:
    """Show RECIPE's steps with memory, disk and time of each, and predicted sizes of files.

    Nothing is measured and nothing large is fetched or read; sizes come from dry runs of llama-quantize. Steps without
    a key depend on a model that was never hashed. Of several recipes, or of a family file, each is shown under its
    name, with --json by name.
    """
    show_plan([read.asked for read in _read(recipes, model)], settings, as_json=as_json)


@click.command("run")
@RECIPES
@MODEL
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Report folder, of several recipes the one that theirs are made in; reports/NAME and reports when absent.",
)
@click.option("--dry-run", is_flag=True, help="The same as `lwq plan`.")
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON.")
@click.pass_obj
def run_command(
    settings: Settings, recipes: tuple[Path, ...], model: str | None, out: Path | None, dry_run: bool, as_json: bool
) -> None:
    """Carry out RECIPE and write its model card.

    Finished steps are kept: the same command goes on where a broken run ended, and a changed recipe
    repeats only what the change touches.

    Several recipes, or a family file, are read and checked first, then carried out one after another; one that fails
    does not stop the others. At the end there is one page over the reports. See `lwq status`, `stop` and `resume`.
    """
    read = _read(recipes, model)
    if dry_run:
        show_plan([one.asked for one in read], settings, as_json=as_json)
    elif len(recipes) > 1 or read[0].is_of_family:
        run_several(read, settings, out or Path("reports"), as_json=as_json)
    else:
        folder = out or Path("reports") / read[0].asked.recipe.name
        _run_one(read[0], settings, folder, model, as_json=as_json)


def _read(recipes: tuple[Path, ...], model: str | None) -> tuple[ReadRecipe, ...]:
    if not model:
        return read_all(recipes)
    if len(recipes) > 1:
        hint = "a family file carries out one recipe on several models (docs/recipe.md)"
        raise UsageError(f"--model {model}: is for one recipe, and {len(recipes)} are named", hint=hint)
    return (ReadRecipe(path=recipes[0], asked=read_recipe(recipes[0], model)),)


def _run_one(read: ReadRecipe, settings: Settings, folder: Path, model: str | None, *, as_json: bool) -> None:
    """Carries out one recipe now, whatever else is queued."""
    with showing(settings.verbosity) as progress:
        job = prepare(read.asked, settings, progress)
        ledger = Ledger(job.cache.root)
        (order,) = ledger.post([asking_for(read, settings, folder, model=model)], Living.me(), running=True)
        progress.noting = Noting(ledger=ledger, order=order)
        with noted(ledger, order):
            record, card = carry(job, folder, progress)
    if as_json:
        click.echo(json.dumps({"card": str(card), "folder": str(folder)}))
    else:
        print_results(record)
        click.echo(f"card: {card}")


@click.command("why")
@click.argument("step")
@RECIPE
@MODEL
@click.pass_obj
def why_command(settings: Settings, step: str, recipe: Path, model: str | None) -> None:
    """Say why STEP of RECIPE is done, or would run again.

    STEP is a label of `lwq plan` (quantize:Q4_K_M) or its first part (quantize, for all of them).
    """
    job = prepare(read_recipe(recipe, model), settings, Progress(-1))
    chosen = [s for s in job.plan.steps if s.label == step or s.label.startswith(f"{step}:")]
    if not chosen:
        labels = ", ".join(s.label for s in job.plan.steps)
        raise UsageError(f"{step!r} is no step of {recipe}", hint=f"its steps: {labels}")
    for one in chosen:
        click.echo("\n".join(explain.why(one, job.plan.steps, job.cache, job.recipe.name)))
