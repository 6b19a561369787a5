"""``lwq card``: the card again, from its record."""

from __future__ import annotations

from pathlib import Path

import click

from lwq.errors import FileError


@click.command("card")
@click.argument("record", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Folder to write to; the record's own when absent.")
@click.option("--templates", type=click.Path(path_type=Path), help="Folder of templates in place of lwq's own.")
def card_command(record: Path, out: Path | None, templates: Path | None) -> None:
    """Write the model card again from RECORD (a record.json, or its folder)."""
    from lwq.report.record_json import read_record
    from lwq.report.sandbox import check_templates
    from lwq.report.write import write_report
    from lwq.store.files import os_errors, write_atomic

    if templates:
        check_templates(templates)
    found, folder = read_record(record)
    logo = folder / found.card.logo
    if out and found.card.logo and logo.is_file() and Path(found.card.logo).name == found.card.logo:
        with os_errors("make the report folder", out):
            out.mkdir(parents=True, exist_ok=True)
        write_atomic(out / logo.name, logo.read_bytes())
    try:
        card = write_report(found, out or folder, templates=templates)
    except (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        hint = "`lwq run` writes it anew; if nobody changed it, please report this"
        raise FileError(f"{record}: no card can be drawn of this record ({what})", hint=hint) from error
    click.echo(f"card: {card}")
