"""``lwq cache``: what is kept, and what may go."""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lwq.cli.progress import clock
from lwq.cli.settings import Settings
from lwq.cli.tables import print_json, print_table
from lwq.errors import UsageError
from lwq.llama.converter_env import current, environments, is_whole
from lwq.llama.toolchain import home
from lwq.llama.twin import twins
from lwq.plan.stand_ins import stand_ins
from lwq.store.files import human_bytes, lock_if_free, os_errors
from lwq.store.garbage import Garbage, garbage, remove
from lwq.store.verify import harmed, repair

if TYPE_CHECKING:
    from lwq.store.cache import Cache


@click.group("cache")
def cache_command() -> None:
    """List finished steps; compare them with their hashes; remove what no recipe needs."""


@cache_command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.pass_obj
def list_entries(settings: Settings, as_json: bool) -> None:
    """List finished steps with their size and time."""
    cache = settings.cache()
    entries, converters = list(cache.entries()), [(p, _size(p)) for p in environments()]
    if as_json:
        values = [{"step": e.step, "key": e.key, "n_bytes": e.n_bytes, "folder": str(e.folder)} for e in entries]
        values += [{"step": "converter", "key": p.name, "n_bytes": n, "folder": str(p)} for p, n in converters]
        print_json(values)
        return
    rows = [(e.step, e.key[:12], human_bytes(e.n_bytes), clock(e.seconds), e.finished) for e in entries]
    print_table(("step", "key", "size", "time", "finished"), rows, left=2)
    for path, n_bytes in converters:
        state = "" if is_whole(path) else ", not finished"
        click.echo(f"converter's environment{state}: {human_bytes(n_bytes)} in {path}")
    click.echo(f"{len(entries)} steps, {human_bytes(sum(e.n_bytes for e in entries))} in {cache.root}")


def _size(path: Path) -> int:
    """Bytes of a file, or of a folder's own files: what links point to is somebody else's."""
    return sum(p.lstat().st_size for p in (path, *path.rglob("*")) if p.is_file() and not p.is_symlink())


def _blocks(path: Path) -> int:
    """What a sparse file, or a folder of such, takes on the disk."""
    return sum(p.stat().st_blocks * 512 for p in (path, *path.rglob("*")) if p.is_file())


@cache_command.command("gc")
@click.option("--yes", is_flag=True, help="Remove; without it they are only listed.")
@click.pass_obj
def collect(settings: Settings, yes: bool) -> None:
    """Remove steps that no recipe's last run used, what killed runs left, the converter's earlier environments,
    what plans made of models that they looked at, and what other versions compiled."""
    from lwq.values.compiled import earlier

    cache = settings.cache()
    with garbage(cache) as found:
        stale = [path for path in environments() if path != current()] if found.is_quiet else []
        made = [*twins(), *stand_ins(home()), *earlier()] if found.is_quiet else []
        n_bytes, n = 0, 0
        for path in (*found.paths, *stale, *made):
            size = (_blocks if path in made else _size)(path)
            if not yes or _is_removed(cache, found, path):
                n, n_bytes = n + 1, n_bytes + size
                click.echo(path.name if path in found.paths else f"{path.parent.name}/{path.name}")
    what = "removed" if yes else "to remove (`--yes` does it)"
    click.echo(f"{n} entries, {human_bytes(n_bytes)} {what}")
    if not found.is_quiet:
        click.echo("a run is at work: what it needs stays, and so does what plans and other versions made")


@cache_command.command("verify")
@click.option("--repair", "mend", is_flag=True, help="Remove what is damaged; the next run makes that alone again.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.pass_obj
def verify_entries(settings: Settings, mend: bool, as_json: bool) -> int:
    """Read all that is kept and compare it with the hashes of when it was made.

    Exit code 1 where something is damaged and stays.
    """
    cache = settings.cache()
    harms = list(harmed(cache))
    with garbage(cache) as found:
        if mend and harms and not found.is_quiet:
            raise UsageError("a run is at work", hint="repair when it has ended")
        mended = [mend and repair(cache, harm) for harm in harms]
    if as_json:
        print_json([{"path": str(h.path), "what": h.what, "removed": m} for h, m in zip(harms, mended, strict=True)])
    else:
        for harm, is_mended in zip(harms, mended, strict=True):
            then = f" (removed; the next run makes {harm.label} again)" if is_mended else ""
            click.echo(f"{harm.path}: {harm.what}{then}")
        hint = "; `--repair` removes it" if not all(mended) else ""
        click.echo(f"{len(list(cache.entries()))} steps whole, {len(harms)} damaged{hint}")
    return 0 if all(mended) else 1


def _is_removed(cache: Cache, found: Garbage, path: Path) -> bool:
    """Removes it, unless it is being made this moment."""
    if path in found.paths:
        return remove(cache, path)
    of_maker = path.with_name(f"{path.name}.lock") if path.is_dir() else path.with_suffix(".lock")
    held = lock_if_free(of_maker) if of_maker.exists() else nullcontext(True)
    with held as is_free, os_errors("remove it", path):
        if is_free and path.is_dir():
            shutil.rmtree(path)
        elif is_free:
            path.unlink(missing_ok=True)
    return is_free
