"""The task sets of the reference card by name: what heads their columns, and where their items are found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from lwq.errors import FileError, UsageError

TITLES: Final = {
    "arc": "ARC",
    "arc-easy": "ARC-Easy",
    "arc-challenge": "ARC-Challenge",
    "hellaswag": "HellaSwag",
    "mmlu": "MMLU",
    "truthfulqa": "TruthfulQA",
    "winogrande": "WinoGrande",
}
FIVE: Final = ("arc", "hellaswag", "mmlu", "truthfulqa", "winogrande")
"""The sets of the reference card."""
_PARTS: Final = {"arc": ("arc-easy", "arc-challenge")}
_HUB: Final = {
    "arc-easy": "hf://datasets/allenai/ai2_arc/ARC-Easy/test-00000-of-00001.parquet",
    "arc-challenge": "hf://datasets/allenai/ai2_arc/ARC-Challenge/test-00000-of-00001.parquet",
    "hellaswag": "hf://datasets/Rowan/hellaswag/data/validation-00000-of-00001.parquet",
    "mmlu": "hf://datasets/cais/mmlu/all/test-00000-of-00001.parquet",
    "truthfulqa": "hf://datasets/truthfulqa/truthful_qa/multiple_choice/validation-00000-of-00001.parquet",
    "winogrande": "hf://datasets/allenai/winogrande/winogrande_xl/validation-00000-of-00001.parquet",
}
_SUFFIXES: Final = frozenset({".jsonl", ".json", ".csv", ".txt", ".parquet", ".bin"})


def title_of(name: str) -> str:
    """What heads the set's column."""
    return TITLES.get(name.lower(), name)


def files_of(name: str, folder: Path | None) -> tuple[str, ...]:
    """References to a set's items: files in ``folder``, or the official data on the Hub where there is none.

    ``arc`` is ARC Easy and ARC Challenge together.

    Raises:
        UsageError: a name that no set has.
        FileError: not exactly one file or folder of that name.
    """
    name = name.lower()
    if folder is None and name not in TITLES:
        known = ", ".join(TITLES)
        raise UsageError(f"{name!r}: no such task set", hint=f"known are {known}; or NAME=FILE for a set of your own")
    return tuple(str(_only_file(part, folder)) if folder else _HUB[part] for part in _PARTS.get(name, (name,)))


def _only_file(name: str, folder: Path) -> Path:
    """The one file of ``folder`` that is of the set: its name, or its folder's, begins with the set's name."""
    if not folder.is_dir():
        raise FileError(f"{folder}: no such folder of task data", hint="name the folder that holds the sets")
    here = sorted(_candidates(name, folder))
    if len(here) == 1:
        return here[0].absolute()
    if not here:
        others = ", ".join(sorted(p.name for p in folder.iterdir())[:12]) or "nothing"
        raise FileError(f"{folder}: has no file of the set {name!r}", hint=f"it holds {others}; or {name}=FILE")
    raise FileError(f"{folder}: several files may be {name!r}: {', '.join(p.name for p in here)}", hint=f"{name}=FILE")


def _candidates(name: str, folder: Path) -> Iterator[Path]:
    """Files whose name, or whose topmost folder, begins with the set's name; a folder of CSVs counts as one."""
    for path in folder.iterdir():
        if not _plain(path.name).startswith(_plain(name)):
            continue
        files = (p for p in path.rglob("*") if p.is_file()) if path.is_dir() else (path,)
        data = [p for p in files if p.suffix.lower() in _SUFFIXES]
        yield from (path,) if len(data) > 1 and {p.suffix.lower() for p in data} == {".csv"} else data


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")
