"""``lwq drop-mtp``: a model without the blocks that predict further tokens."""

from __future__ import annotations

from pathlib import Path

import click

from lwq.errors import FileError
from lwq.gguf.header import read_header
from lwq.layers.further import drop_further
from lwq.store.files import human_bytes


@click.command("drop-mtp")
@click.argument("gguf", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The file to write (GGUF).")
def drop_mtp_command(gguf: Path, out: Path) -> None:
    """Write GGUF (of a split model the first shard) without its blocks that predict further tokens (MTP).

    What it predicts next stays as it was; only speculative decoding reads these blocks. A recipe's mtp = "drop" makes
    the base so.
    """
    header = read_header(gguf)
    if out.exists():
        raise FileError(f"{out}: exists already", hint="remove it, or choose another name")
    written = drop_further(header, out)
    less = human_bytes(header.file_bytes - written.file_bytes)
    click.echo(f"{len(header.tensors) - len(written.tensors)} tensors left out, {less} less: {out}")
