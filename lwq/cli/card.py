"""``lwq card``: the card again, from its record."""

from __future__ import annotations

from pathlib import Path

import click

from lwq.errors import FileError


@click.command("card")
@click.argument("record", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Folder to write to; the record's own when absent.")
def card_command(record: Path, out: Path | None) -> None:
    """Write the model card again from RECORD (a record.json, or its folder)."""
    from lwq.report.record_json import record_from_json
    from lwq.report.write import write_report

    path = record / "record.json" if record.is_dir() else record
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"{path}: no record to read: {error}", hint="name reports/NAME/record.json") from None
    click.echo(f"card: {write_report(record_from_json(text, str(path)), out or path.parent)}")
