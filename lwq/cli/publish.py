"""``lwq publish``, ``lwq verify``, ``lwq index`` and ``lwq diff``: what becomes of finished runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lwq.cli.progress import showing
from lwq.cli.settings import Settings
from lwq.cli.tables import print_json, print_table
from lwq.errors import ModelError, UsageError

if TYPE_CHECKING:
    from lwq.plan.outgoing import OutFile
    from lwq.record.origin import Whereabouts
    from lwq.record.record import Record

_PATH = click.Path(path_type=Path)


@click.command("publish")
@click.argument("folder", type=_PATH)
@click.option(
    "--to", "repo", required=True, metavar="OWNER/REPO", help="Repository on the Hub; made if it is not there."
)
@click.option("--private", is_flag=True, help="Make it private; refused where it is there and public.")
@click.option("--revision", default="main", show_default=True, metavar="REV", help="Branch; made if it is not there.")
@click.option("--dry-run", is_flag=True, help="Print exactly what would go; ask the Hub nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.pass_obj
def publish_command(
    settings: Settings, folder: Path, repo: str, private: bool, revision: str, dry_run: bool, as_json: bool
) -> None:
    """Publish the report FOLDER of a finished run (reports/NAME) on the Hugging Face Hub.

    What goes: the files that the selection keeps, a projector, their tensor types and importance matrices, recipe,
    card, details, page, figures and record. Before, all is compared with the record and searched for local paths and
    access tokens, and a card that nobody edited is drawn again with OWNER/REPO in its commands; afterwards each file is
    compared with what the Hub has. The same command goes on where it was cut.
    """
    from lwq.plan.leaks import check_leaks
    from lwq.plan.outgoing import publish_set
    from lwq.plan.upload import OnHub, hub_token, upload
    from lwq.record.hub_terms import REPOSITORY
    from lwq.report.record_json import read_record

    if not REPOSITORY.fullmatch(repo):
        raise UsageError(f"--to {repo}: is no repository of the Hub", hint="OWNER/REPO, as in its address")
    record, folder = read_record(folder)
    with showing(settings.verbosity) as progress:
        progress.note(f"reading {folder}")
        publish_set(record, folder)
        record = _named(record, folder, repo, progress.note)
        files = publish_set(record, folder)
        check_leaks((folder / file.path for file in files), folder, hub_token())
        if dry_run:
            _print_set(files, f"{repo}, {revision}", as_json=as_json)
            return
        place = OnHub(repo=repo, revision=revision, private=private)
        done = upload(files, folder, place, progress.note)
    if done.others:
        progress.note(f"note: {repo} also has files that are not of this run: {', '.join(done.others)}")
    if as_json:
        print_json({"files": [dataclasses.asdict(f) for f in files], **dataclasses.asdict(done)})
        return
    click.echo(f"published: {done.address}, commit {done.commit}, {len(files)} files compared")


def _named(record: Record, folder: Path, repo: str, note: Callable[[str], None]) -> Record:
    """The record, whose card names that repository in its commands, unless the user edited the card."""
    from lwq.report.write import write_for

    if record.card.repository == repo:
        return record
    if drawn := write_for(record, folder, repo):
        note(f"note: card, details and page in {folder} were drawn again, their commands name {repo}")
        return drawn
    told = f"name {record.card.repository}" if record.card.repository else "name no repository"
    key = f'repository = "{repo}" below [card] and `lwq run` would change that'
    note(f"note: the card's commands {told}; it was edited, or drawn by templates of your own, and stays. {key}")
    return record


def _print_set(files: tuple[OutFile, ...], where: str, *, as_json: bool) -> None:
    """Each file with its size and sum, and the sum of sizes."""
    n_bytes = sum(file.n_bytes for file in files)
    if as_json:
        print_json({"files": [dataclasses.asdict(f) for f in files], "n_bytes": n_bytes})
        return
    rows = [(file.path, file.what, f"{file.n_bytes:,}", file.sha256) for file in files]
    print_table(("file", "what", "bytes", "sha256"), rows, left=2)
    click.echo(f"\n{len(files)} files, {n_bytes:,} bytes would go to {where}; nothing was sent")


@click.command("verify")
@click.argument("file", type=_PATH)
@click.option("--record", type=_PATH, help="The run's record.json (or its folder); the one beside FILE when absent.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def verify_command(file: Path, record: Path | None, as_json: bool) -> None:
    """Say where FILE, a GGUF, comes from, and whether it is whole.

    The file says itself what it was made from; the record of the run that made it, fetched beside it, knows its size
    and sha256. Exit code 1 where something is not as it should be.
    """
    from lwq.record.origin import whereabouts
    from lwq.report.record_json import read_record

    beside = record or file.parent / "record.json"
    known = read_record(beside)[0] if record or beside.is_file() else None
    found = whereabouts(file, known)
    if as_json:
        print_json({**dataclasses.asdict(found), "record": known.name if known else None})
    else:
        _print_origin(found, known)
    if found.faults:
        listed = "".join(f"\n  {fault}" for fault in found.faults)
        hint = "fetch it again; or name the record that came with it, --record"
        raise ModelError(f"{file}: is not whole, or not the file that the record knows:{listed}", hint=hint)


def _print_origin(found: Whereabouts, record: Record | None) -> None:
    lines = [(f.file, f"sha256 {f.sha256}") for f in found.files]
    lines += [("holds", f"{found.n_tensors} tensors, {found.architecture}, {found.n_bytes:,} bytes"), *found.said]
    row = next((row for row in record.rows if row.name == found.row), None) if record else None
    if record and row:
        from lwq.report.rows import how_made

        lines += [
            ("row", f"{row.name} of the run {record.name} ({how_made(row)})"),
            ("original", record.model.source),
            ("made", f"{record.provenance.finished[:10]}, lwq {record.provenance.lwq_version}"),
        ]
    width = max(len(name) for name, _ in lines) + 2
    for name, value in lines:
        click.echo(f"{name:<{width}}{value}")
    if not found.faults:
        click.echo(f"\n{_conclusion(found, record)}")


def _conclusion(found: Whereabouts, record: Record | None) -> str:
    if record:
        return "whole: size and sha256 are the record's"
    origin = "made by lwq, as it says" if found.is_lwqs else "does not say that lwq made it"
    return f"{origin}; header and tensors can be read. Whether each byte is as written only the run's record tells"


@click.command("index")
@click.argument("folder", type=_PATH)
def index_command(folder: Path) -> None:
    """Write one page over all runs below FOLDER (reports/): index.html, and INDEX.md with the same tables."""
    from lwq.report.index import find_runs, write_index

    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder", hint="name the folder of reports")
    runs, left_out = find_runs(folder)
    for why in left_out:
        click.echo(f"left out: {why}", err=True)
    page, text = write_index(runs, folder)
    click.echo(f"index: {page} and {text.name}, {len(runs)} run{'s' if len(runs) > 1 else ''}")


@click.command("diff")
@click.argument("before", type=_PATH)
@click.argument("after", type=_PATH)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def diff_command(before: Path, after: Path, as_json: bool) -> None:
    """Say what differs between the records BEFORE and AFTER (record.json files, or their folders).

    Inputs, rows, types and figures; of each figure whether it differs by more than noise: 95 % intervals of paired
    windows, exact tests of paired items, ratios of speed to each run's own base. Each is judged for itself.
    """
    from lwq.report.changes import changes
    from lwq.report.record_json import read_record

    found = changes(read_record(before)[0], read_record(after)[0])
    if as_json:
        print_json([dataclasses.asdict(change) for change in found])
        return
    if not found:
        click.echo("nothing differs")
    for i, (name, group) in enumerate(groupby(found, key=lambda change: change.of)):
        click.echo(f"{'' if i == 0 else chr(10)}{name}")
        print_table(("what", "before", "after", ""), [(c.what, c.before, c.after, c.verdict) for c in group], left=4)
