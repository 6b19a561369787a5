"""What ``lwq plan`` prints."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import click

from lwq.cli.ahead import Ahead, Seen, look
from lwq.cli.progress import clock
from lwq.cli.settings import Settings
from lwq.cli.tables import print_json, print_table
from lwq.cli.together import print_together, wall_of
from lwq.cli.workers import Pool
from lwq.gguf.header import GgufHeader
from lwq.gguf.usable import cautions
from lwq.outlook.expected import DISK_HINT, Expected
from lwq.plan import preview
from lwq.plan.forecast import Forecast, waits_for_experts
from lwq.plan.job import Asked, Job
from lwq.record.record import FileFacts
from lwq.store.files import human_bytes


def show_plan(several: Sequence[Asked], settings: Settings, pool: Pool, *, as_json: bool) -> None:
    """Prints steps and what is done of them, sizes, disk and time, as far as they can be known now.

    Of several recipes each under its name; exit code 1 where one cannot be done.

    Raises:
        LwqError: faults of a recipe, or of files it names that should be here, before anything is printed.
    """
    seen = [look(asked, settings) for asked in several]
    wall = wall_of(seen, settings, pool) if pool.is_of_many else None
    if as_json:
        found = _values(seen[0]) if len(seen) == 1 else {one.recipe.name: _values(one) for one in seen}
        print_json(found | ({"side_by_side": dataclasses.asdict(wall)} if wall else {}))
    for n, one in enumerate(() if as_json else seen):
        if len(seen) > 1:
            click.echo(f"{chr(10) if n else ''}{one.recipe.name}\n")
        _print(one, settings)
    if not as_json:
        print_together(seen, wall, pool)
    if not all(one.can_be_done for one in seen):
        raise SystemExit(1)


def _print(seen: Seen, settings: Settings) -> None:
    header, recipe = seen.header, seen.recipe
    _print_steps(seen.job, seen.ahead, seen.missing, keys=settings.verbosity > 0)
    _print_files(header, seen.files, _written(seen.job))
    for caution in cautions(header, (text.n_ctx for text in recipe.texts().values())) if header else ():
        click.echo(f"note: {caution}")
    if header and waits_for_experts(recipe, header):
        click.echo("note: calibration may use all of its text (min_expert_tokens); its time is told for that")
    if seen.ahead:
        _print_cost(seen.ahead)


def _values(seen: Seen) -> dict[str, object]:
    ahead, files = seen.ahead, seen.files
    return {
        "steps": [_step_values(s, ahead.forecast) for s in ahead.steps] if ahead else _bare_steps(seen.job),
        "not_here_yet": seen.missing,
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


def _print_steps(job: Job | None, ahead: Ahead | None, missing: str, *, keys: bool) -> None:
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


def _print_cost(ahead: Ahead) -> None:
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
