"""``lwq cache``: what is kept, and what may go."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from lwq.cli.progress import clock
from lwq.cli.settings import Settings
from lwq.cli.tables import print_json, print_table
from lwq.llama.converter_env import current, environments, is_whole
from lwq.llama.toolchain import home
from lwq.llama.twin import twins
from lwq.plan.stand_ins import stand_ins
from lwq.store.files import human_bytes, lock, os_errors


@click.group("cache")
def cache_command() -> None:
    """List finished steps; remove what no recipe needs."""


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


def _size(folder: Path) -> int:
    return sum(p.lstat().st_size for p in folder.rglob("*") if p.is_file() and not p.is_symlink())


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
    garbage = cache.garbage()
    stale = [path for path in environments() if path != current()]
    files = (p for path in garbage for p in (path.rglob("*") if path.is_dir() else (path,)))
    n_bytes = sum(p.stat().st_size for p in files if p.is_file())
    for folder in garbage:
        click.echo(folder.name)
        if yes:
            cache.remove(folder)
    for path in stale:
        n_bytes += _size(path)
        click.echo(f"converter/{path.name}")
        if yes:
            with lock(path.parent / f"{path.name}.lock"), os_errors("remove the converter's environment", path):
                shutil.rmtree(path)
    for path in (made := [*twins(), *stand_ins(home()), *earlier()]):
        n_bytes += _blocks(path)
        click.echo(f"{path.parent.name}/{path.name}")
        if yes and path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif yes:
            path.unlink(missing_ok=True)
    garbage += [*stale, *made]
    what = "removed" if yes else "to remove (`--yes` does it)"
    click.echo(f"{len(garbage)} entries, {human_bytes(n_bytes)} {what}")
