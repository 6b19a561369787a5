"""What ``lwq plan`` prints."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import click

from lwq.cli.progress import clock
from lwq.cli.settings import Settings
from lwq.cli.tables import print_table
from lwq.errors import DownloadError, LwqError
from lwq.gguf.header import GgufHeader, read_header
from lwq.plan import preview
from lwq.plan.job import Job, read_recipe
from lwq.store.files import free_bytes, human_bytes


def show_plan(path: Path, model: str | None, settings: Settings, *, as_json: bool) -> None:
    """Prints steps and what is done of them, sizes, disk and time, as far as they can be known now.

    Raises:
        LwqError: faults of the recipe, or of files it names that should be here.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    asked, machine = read_recipe(path, model), settings.machine()
    recipe = asked.recipe
    job, missing, header = None, "", None
    try:
        job = Job.prepare(asked, machine, settings.cache(), _note)
        header = _header(job)
    except LwqError as error:
        header = _model_alone(recipe.model, path.parent)
        if header is None and not isinstance(error, DownloadError):
            raise
        missing = error.message
    if header:
        preview.check_targets(recipe, header.n_layer)
    files = preview.planned_files(recipe, header, machine.toolchain) if header else ()
    if as_json:
        click.echo(json.dumps(_values(job, missing, files), indent=2))
        return
    _print_steps(job, missing)
    _print_files(header, files)
    if job and header:
        _print_cost(job, header, files)


def _note(text: str) -> None:
    click.echo(text, err=True)


def _header(job: Job) -> GgufHeader | None:
    """The base where it is made, else the original where dry runs on it tell the truth."""
    convert = job.plan.convert
    if entry := job.cache.lookup("convert", convert.key):
        return read_header(entry.path(convert.inputs.file))
    model = job.sources.model
    return read_header(model.fetched.paths[0]) if model.kind == "gguf" else None


def _model_alone(reference: str, folder: Path) -> GgufHeader | None:
    """The model's header if it is a local GGUF, though other sources are not here yet."""
    if "://" in reference:
        return None
    path = folder / reference
    return read_header(path) if path.is_file() else None


def _values(job: Job | None, missing: str, files: tuple[preview.PlannedFile, ...]) -> dict[str, object]:
    steps, seconds = [], None
    if job:
        seconds = job.forecast().seconds
        done = (job.cache.lookup(s.module.NAME, s.key) is not None for s in job.plan.steps)
        steps = [{"label": s.label, "key": s.key, "done": d} for s, d in zip(job.plan.steps, done, strict=True)]
    return {
        "steps": steps,
        "not_here_yet": missing,
        "files": [dataclasses.asdict(f) for f in files],
        "seconds": seconds,
    }


def _print_steps(job: Job | None, missing: str) -> None:
    if job is None:
        click.echo(f"not here yet: {missing}\n")
        return
    rows = []
    for step in job.plan.steps:
        entry = job.cache.lookup(step.module.NAME, step.key)
        rows.append((step.label, step.key[:12], f"done in {clock(entry.seconds)}" if entry else "to do"))
    print_table(("step", "key", "state"), rows, left=3)
    click.echo()


def _print_files(header: GgufHeader | None, files: tuple[preview.PlannedFile, ...]) -> None:
    if header is None:
        click.echo("sizes: known once the model is here and converted")
        return
    click.echo("predicted by dry runs of llama-quantize:")
    rows = [
        (f.name, f.ftype, human_bytes(f.file_bytes), f"{f.bpw:.4f}", f"{f.n_params / 1e9:.2f} B", str(f.n_fallback))
        for f in files
    ]
    print_table(("file", "ftype", "size", "bpw", "params", "fallbacks"), rows, left=2)
    for file in files:
        if file.obstacle:
            click.echo(f"{file.name}: cannot be pruned: {file.obstacle}")


def _print_cost(job: Job, header: GgufHeader, files: tuple[preview.PlannedFile, ...]) -> None:
    text_bytes = {role: text.paths[0].stat().st_size for role, text in job.sources.texts.items()}
    need = preview.disk_bytes(job.recipe, header, files, text_bytes)
    click.echo(f"\ndisk: {human_bytes(need)} in all, {human_bytes(free_bytes(job.cache.root))} free")
    forecast = job.forecast()
    if not forecast.n_missing:
        click.echo("time: nothing to do")
    elif forecast.seconds is None:
        click.echo("time: not known; no step of each kind has run on this machine yet")
    else:
        left = f"; not counted, since none ran here yet: {', '.join(forecast.unknown)}" if forecast.unknown else ""
        click.echo(f"time: about {clock(forecast.seconds)} at the pace of earlier runs on this machine{left}")
