"""The publisher's picture for the top of a card."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from lwq.errors import FileError
from lwq.store.files import os_errors

_BEGINS: Final = ((b"\x89PNG\r\n\x1a\n", ".png"), (b"\xff\xd8\xff", ".jpg"), (b"GIF8", ".gif"), (b"RIFF", ".webp"))
_MOST_BYTES: Final = 1 << 20


def check_logo(path: Path) -> None:
    """Raises FileError for a picture that is not there, is none, or is too large for a page."""
    if not public_name(path):
        raise FileError(f"{path}: the logo is no PNG, JPEG, GIF or WebP", hint="convert it, or leave out [card] logo")
    if (n_bytes := path.stat().st_size) > _MOST_BYTES:
        raise FileError(f"{path}: the logo has {n_bytes:,} bytes, more than {_MOST_BYTES:,}", hint="make it smaller")


def public_name(path: Path) -> str:
    """Under which name a picture lies beside the card, ``logo.png``; empty where it is none."""
    with os_errors("read the logo", path), path.open("rb") as file:
        head = file.read(12)
    suffix = next((suffix for start, suffix in _BEGINS if head.startswith(start)), "")
    is_other = suffix == ".webp" and head[8:] != b"WEBP"
    return f"logo{suffix}" if suffix and not is_other else ""
