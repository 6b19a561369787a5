"""Names that are one name on some file system: macOS and Windows fold capitals, and accents of either spelling."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable


def folded(name: str) -> str:
    """What is equal of two names that some file system takes for one."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def alike(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Names that some file system takes for one, those of each file together; none when all differ."""
    by_name: dict[str, list[str]] = {}
    for name in names:
        by_name.setdefault(folded(name), []).append(name)
    return [tuple(same) for _, same in sorted(by_name.items()) if len(same) > 1]
