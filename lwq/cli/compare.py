"""``lwq eval`` and ``lwq compare``: GGUFs of one model measured beside each other, without a recipe."""

from __future__ import annotations

import dataclasses
import json
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from lwq.cli.job import carry_out, check_writable, prepare, ready
from lwq.cli.progress import Progress, showing
from lwq.cli.settings import Settings
from lwq.cli.tables import print_json, print_table
from lwq.errors import ModelError
from lwq.gguf.header import GgufHeader, read_header
from lwq.gguf.same_model import difference
from lwq.gguf.scan import not_finite
from lwq.gguf.usable import check_usable
from lwq.metrics.speeds import BUSY, busiest
from lwq.plan.assemble import assemble
from lwq.plan.given import Fetched
from lwq.plan.job import Asked, Job
from lwq.plan.publish import publish_files
from lwq.plan.sources import Sources
from lwq.recipe.family import name_of
from lwq.recipe.parse import parse_recipe
from lwq.record.record import Record
from lwq.tasks.sets import files_of, title_of

_BASE_ROWS = ("F16", "BF16")
_OPTIONS = (
    click.argument("models", nargs=-1, required=True, metavar="MODEL..."),
    click.option("--base", required=True, metavar="REFERENCE", help="The original: what damage is measured against."),
    click.option("--text", default="packaged:evaluation", metavar="TEXT", help="Text for PPL and KLD."),
    click.option("--ctx", "n_ctx", type=click.IntRange(32), default=512, show_default=True, help="Tokens of a window."),
    click.option("--chunks", "n_chunks", type=click.IntRange(1), help="Windows of the text; all when absent."),
    click.option("--data", type=click.Path(path_type=Path), help="Folder that holds the task sets; else from the Hub."),
    click.option("--items", "n_items", type=click.IntRange(1), default=750, show_default=True, help="Of each set."),
    click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Of the draw of items."),
    click.option("--skip-faulty", is_flag=True, help="Leave out items with faults instead of refusing the set."),
    click.option("--out", type=click.Path(path_type=Path), help="Also write a model card into this folder."),
    click.option("--json", "as_json", is_flag=True, help="Print the record as JSON."),
)


def _with_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """What is measured, of which files."""

    models: tuple[str, ...]
    base: str
    text: str
    n_ctx: int
    n_chunks: int | None
    tasks: str
    data: Path | None
    n_items: int
    seed: int
    skip_faulty: bool
    speed: str

    def recipe(self) -> str:
        """The same as a recipe without targets."""
        lines = ['name = "comparison"', f"model = {_quoted(_absolute(self.base))}"]
        lines += ["[calibration]", 'text = "packaged:calibration"', "[evaluation]"]
        lines += [f"text = {_quoted(_absolute(self.text))}", f"n_ctx = {self.n_ctx}"]
        lines += [f"n_chunks = {self.n_chunks}"] if self.n_chunks else []
        for name, model in zip(_names(self.models), self.models, strict=True):
            lines += ["[[third_party]]", f"name = {_quoted(name)}", f"model = {_quoted(_absolute(model))}"]
        for asked in filter(None, (part.strip() for part in self.tasks.split(","))):
            name, equals, file = asked.partition("=")
            files = [_absolute(file)] if equals else list(files_of(name, self.data))
            lines += ["[[tasks]]", f"name = {_quoted(title_of(name))}", f"file = {_quoted(files)}"]
            lines += [f"n_items = {self.n_items}", f"seed = {self.seed}"]
            lines += ['faulty = "skip"'] if self.skip_faulty else []
        tests = [test.strip() for test in self.speed.split(",") if test.strip()]
        return "\n".join([*lines, "[bench]", f"tests = {_quoted(tests)}"]) + "\n"


def _quoted(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _absolute(reference: str) -> str:
    kind = reference.partition(":")[0]
    if kind in ("cloze-sentences", "cloze-words"):
        return f"{kind}:{_absolute(reference.partition(':')[2])}"
    return reference if kind in ("hf", "pypi", "packaged") else str(Path(reference).absolute())


def _names(models: tuple[str, ...]) -> list[str]:
    """Names of rows: stems of the files, told apart where they are alike, or like the base's own row."""
    names = list(_BASE_ROWS)
    for model in models:
        clean = name_of(model, 80)
        n = sum(name == clean or name.startswith(f"{clean}-no") for name in names) + 1
        names.append(clean if n == 1 else f"{clean}-no{n}")
    return names[len(_BASE_ROWS) :]


@click.command("eval")
@_with_options
@click.option("--tasks", default="", metavar="LIST", help="Task sets: arc,hellaswag,…; or NAME=FILE; none when absent.")
@click.pass_obj
def eval_command(settings: Settings, /, out: Path | None, as_json: bool, **asked: Any) -> None:
    """Measure PPL, KLD and task scores of each MODEL against the original.

    A MODEL is a GGUF (of a split one the first shard): a path or hf://OWNER/NAME/FILE.gguf. Finished measurements are
    kept, so the same command with one more MODEL measures that one only.
    """
    _measure(Files(speed="", **asked), settings, out, as_json=as_json)


@click.command("compare")
@_with_options
@click.option("--tasks", default="", metavar="LIST", help="Task sets: arc,hellaswag,…; or NAME=FILE; none when absent.")
@click.option("--speed", default="", metavar="LIST", help="Speed tests too: pp512,tg128,pp1024+tg1024.")
@click.pass_obj
def compare_command(settings: Settings, /, out: Path | None, as_json: bool, **asked: Any) -> None:
    """Put GGUFs of one model side by side: types, damage, tasks, speed, and what the differences show.

    Each MODEL must be a file of the base's model (same tokenizer, vocabulary, sizes, norms and embedding); one that is
    not is refused, and the others are measured all the same (exit code 1).
    """
    _measure(Files(**asked), settings, out, as_json=as_json)


def _measure(files: Files, settings: Settings, out: Path | None, *, as_json: bool) -> None:
    toml = files.recipe()
    asked = Asked(recipe=parse_recipe(toml, "command line"), text=toml, folder=Path())
    if out:
        check_writable(out)
    with showing(settings.verbosity) as progress:
        job = prepare(asked, settings, progress)
        refused = _refused(job.sources, _base(job, progress))
        if refused and len(refused) == len(job.sources.third_party):
            raise ModelError("\n".join(refused.values()), hint="each MODEL must be a GGUF of the base's model")
        record = _record(job.without(frozenset(refused)), out, progress)
    if as_json:
        print_json(dataclasses.asdict(record))
    else:
        _print(record)
    if out:
        click.echo(f"card: {out / 'README.md'}", err=as_json)
    if refused:
        raise ModelError("\n".join(refused.values()), hint="left out above; name GGUFs of the base's model only")


def _base(job: Job, progress: Progress) -> GgufHeader:
    """What files are compared with: the model itself if it is a GGUF, else what it is converted to."""
    if job.sources.model.kind == "gguf":
        return read_header(job.sources.model.fetched.paths[0])
    progress.n_steps = 1
    ready(job, progress)
    return read_header(job.base(progress))


def _refused(sources: Sources, base: GgufHeader) -> dict[str, str]:
    """Name → why a file is not one of the base's model, or cannot be measured."""
    found = {name: _unlike(base, file) for name, file in sources.third_party.items()}
    return {name: why for name, why in found.items() if why}


def _unlike(base: GgufHeader, file: Fetched) -> str:
    """Why a file is none that can stand beside the base; empty where it can."""
    header, name = read_header(file.paths[0]), file.given.name
    try:
        check_usable(header)
    except ModelError as error:
        return f"{error.message} ({error.hint})"
    if why := difference(base, header):
        return f"{name}: {why}: another model"
    return f"{name}: {why}: the file is damaged" if (why := not_finite(header)) else ""


def _record(job: Job, out: Path | None, progress: Progress) -> Record:
    run = carry_out(job, progress)
    record = assemble(run)
    if out:
        from lwq.report.write import write_report

        publish_files(run, out)
        write_report(record, out)
    return record


def _print(record: Record) -> None:
    """The card's own tables, and what they show."""
    from lwq.report import intervals, speed_table, tables, task_section, ties

    scores, speeds = task_section.scores(record), speed_table.tables(record)
    shown = [tables.contents(record), *tables.quality(record), *intervals.tables(record), scores, *speeds]
    for table in (t for t in shown if t is not None):
        click.echo(f"\n{table.caption}")
        print_table([column.title for column in table.columns], table.rows)
    busy = max((busiest(row.speed) for row in record.rows), default=0.0)
    if busy > BUSY:
        click.echo(f"warning: the machine was busy: before a round, others used up to {busy:.0%} of it", err=True)
    if paragraph := ties.paragraph(record):
        click.echo("\n" + textwrap.fill(paragraph, 110, break_on_hyphens=False))
