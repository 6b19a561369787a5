"""``lwq cache``: what is kept, and what may go."""

from __future__ import annotations

import json

import click

from lwq.cli.progress import clock
from lwq.cli.settings import Settings
from lwq.cli.tables import print_table
from lwq.store.files import human_bytes


@click.group("cache")
def cache_command() -> None:
    """List finished steps; remove what no recipe needs."""


@cache_command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.pass_obj
def list_entries(settings: Settings, as_json: bool) -> None:
    """List finished steps with their size and time."""
    cache = settings.cache()
    entries = list(cache.entries())
    if as_json:
        values = [{"step": e.step, "key": e.key, "n_bytes": e.n_bytes, "folder": str(e.folder)} for e in entries]
        click.echo(json.dumps(values, indent=2))
        return
    rows = [(e.step, e.key[:12], human_bytes(e.n_bytes), clock(e.seconds), e.finished) for e in entries]
    print_table(("step", "key", "size", "time", "finished"), rows, left=2)
    click.echo(f"{len(entries)} steps, {human_bytes(sum(e.n_bytes for e in entries))} in {cache.root}")


@cache_command.command("gc")
@click.option("--yes", is_flag=True, help="Remove; without it they are only listed.")
@click.pass_obj
def collect(settings: Settings, yes: bool) -> None:
    """Remove steps that no recipe's last run used, and what killed runs left."""
    cache = settings.cache()
    garbage = cache.garbage()
    files = (p for path in garbage for p in (path.rglob("*") if path.is_dir() else (path,)))
    n_bytes = sum(p.stat().st_size for p in files if p.is_file())
    for folder in garbage:
        click.echo(folder.name)
        if yes:
            cache.remove(folder)
    what = "removed" if yes else "to remove (`--yes` does it)"
    click.echo(f"{len(garbage)} entries, {human_bytes(n_bytes)} {what}")
