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
from lwq.cli.workers import SCHEDULER, WORKERS, Pool, pool_options
from lwq.errors import UsageError
from lwq.plan import explain
from lwq.plan.queue import noted
from lwq.plan.reading import ReadRecipe, read_all, read_recipe
from lwq.record.record import Record
from lwq.store.ledger import Ledger
from lwq.store.living import Living

RECIPE = click.argument("recipe", type=click.Path(path_type=Path))
RECIPES = click.argument("recipes", metavar="RECIPE…", type=click.Path(path_type=Path), nargs=-1, required=True)
MODEL = click.option("--model", metavar="REFERENCE", help="Use this model instead of the recipe's.")


@click.command("plan")
@RECIPES
@MODEL
@WORKERS
@SCHEDULER
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.pass_obj
def plan_command(
    settings: Settings, recipes: tuple[Path, ...], model: str | None, workers: int, scheduler: str, as_json: bool
) -> None:
    """Show RECIPE's steps with memory, disk and time of each, and predicted sizes of files.

    Nothing is measured and nothing large is fetched or read; sizes come from dry runs of llama-quantize. Steps without
    a key depend on a model that was never hashed. Of several recipes, or of a family file, each is shown under its
    name, with --json by name. With --workers also how long it takes side by side: on this machine, or where a scheduler
    is named, on so many machines as fast as this one.
    """
    pool = Pool(workers=workers, scheduler=scheduler)
    show_plan([read.asked for read in _read(recipes, model)], settings, pool, as_json=as_json)


@click.command("run")
@RECIPES
@MODEL
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Report folder, of several recipes the one that theirs are made in; reports/NAME and reports when absent.",
)
@pool_options
@click.option("--dry-run", is_flag=True, help="The same as `lwq plan`.")
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON.")
@click.pass_obj
def run_command(
    settings: Settings,
    recipes: tuple[Path, ...],
    model: str | None,
    out: Path | None,
    dry_run: bool,
    as_json: bool,
    workers: int,
    scheduler: str,
    detach: bool,
) -> None:
    """Carry out RECIPE and write its model card.

    Finished steps are kept: the same command goes on where a broken run ended, and a changed recipe
    repeats only what the change touches.

    Several recipes, or a family file, are read and checked first, then carried out one after another; one that fails
    does not stop the others. At the end there is one page over the reports. See `lwq status`, `stop` and `resume`.
    """
    read, pool = _read(recipes, model), Pool(workers=workers, scheduler=scheduler, detach=detach)
    if dry_run:
        show_plan([one.asked for one in read], settings, pool, as_json=as_json)
    elif len(recipes) > 1 or read[0].is_of_family:
        run_several(read, settings, out or Path("reports"), pool, as_json=as_json)
    else:
        folder = out or Path("reports") / read[0].asked.recipe.name
        done = _run_one(read[0], settings, folder, model, pool)
        _tell(*done, folder, as_json=as_json)


def _read(recipes: tuple[Path, ...], model: str | None) -> tuple[ReadRecipe, ...]:
    if not model:
        return read_all(recipes)
    if len(recipes) > 1:
        hint = "a family file carries out one recipe on several models (docs/recipe.md)"
        raise UsageError(f"--model {model}: is for one recipe, and {len(recipes)} are named", hint=hint)
    return (ReadRecipe(path=recipes[0], asked=read_recipe(recipes[0], model)),)


def _run_one(read: ReadRecipe, settings: Settings, folder: Path, model: str | None, pool: Pool) -> tuple[Record, Path]:
    """Carries out one recipe now, whatever else is queued; its record and the path of its card."""
    with showing(settings.verbosity) as progress:
        ledger = Ledger(settings.cache().root)
        (order,) = ledger.post([asking_for(read, settings, folder, model=model)], Living.me(), running=True)
        progress.noting = Noting(ledger=ledger, order=order)
        with noted(ledger, order):
            job = prepare(read.asked, settings, progress)
            with pool.crew(settings, progress.note) as crew:
                return carry(job, folder, progress, crew, crew.n_places if crew else lambda: 1)


def _tell(record: Record, card: Path, folder: Path, *, as_json: bool) -> None:
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
