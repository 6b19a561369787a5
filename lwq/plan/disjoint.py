"""Whether two texts have in common what is no chance."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_N_LOOKED_FOR: Final = 64
_LOOKED_FOR: Final = 120
"""Characters of a passage, white space made single, that two texts do not share by chance."""
_N_LETTERS: Final = 8
"""Different characters of a passage that says something; rules and rows of zeros say nothing."""
_SHARED: Final = 0.1


def overlap(paths: tuple[Path, Path], labels: tuple[str, str]) -> str:
    """What two texts have in common, in words; empty where nothing is found."""
    first, second = (" ".join(path.read_text(encoding="utf-8-sig").split()) for path in paths)
    for inner, outer, names in ((first, second, labels), (second, first, labels[::-1])):
        step = max(_LOOKED_FOR, len(inner) // _N_LOOKED_FOR)
        passages = [inner[i : i + _LOOKED_FOR] for i in range(0, len(inner), step)]
        passages = [p for p in passages if len(p) == _LOOKED_FOR and len(set(p)) > _N_LETTERS] or [inner]
        share = sum(passage in outer for passage in passages) / len(passages)
        if share > _SHARED:
            return f"overlap: {share:.0%} of {len(passages)} passages of {names[0]} stand in {names[1]} too"
    return ""
