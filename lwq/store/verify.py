"""Whether what the cache keeps is what was put there: outputs against their hashes, pieces against their checksums."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lwq.errors import FileError
from lwq.store.cache import Cache, Entry, read_entry
from lwq.store.files import lock, os_errors, sha256_file, write_atomic
from lwq.store.garbage import remove
from lwq.store.ledger import Ledger
from lwq.store.pieces import Pieces, is_sound_archive, sound_lines


@dataclass(frozen=True, slots=True, kw_only=True)
class Harm:
    """Something in the cache that is not as it was made."""

    path: Path
    """A folder of a step, a file of pieces, or a file of values."""
    what: str
    label: str
    """What is made again once it is gone."""


def harmed(cache: Cache) -> Iterator[Harm]:
    """All that is not as it was made; what is being made this moment is not looked at."""
    for folder in sorted(p for p in cache.steps.glob("[!.]*") if p.is_dir()):
        entry = read_entry(folder)
        what = _of_entry(entry) if entry else "is not whole, or was changed since it was made"
        if what:
            yield Harm(path=folder, what=what, label=folder.name.rpartition("-")[0])
    for file in sorted((*cache.pieces.glob("*.jsonl"), *cache.pieces.glob("*.values/*.jsonl"))):
        if n := sound_lines(file)[1]:
            yield Harm(path=file, what=f"{n} of its lines were changed or are half-written", label="these measurements")
    for folder in sorted(cache.pieces.glob("*.values")):
        yield from _of_values(folder)
    ledger = Ledger(cache.root)
    if what := ledger.fault():
        yield Harm(path=ledger.path, what=what, label="the list of runs")


def repair(cache: Cache, harm: Harm) -> bool:
    """Whether what was harmed was removed, so that the next run makes that alone again; not one that is in use."""
    if harm.path.parent == cache.steps:
        return remove(cache, harm.path)
    if harm.path == (ledger := Ledger(cache.root)).path:
        ledger.mend()
        return True
    with os_errors("repair it", harm.path):
        if harm.path.suffix != ".jsonl":
            harm.path.unlink(missing_ok=True)
            return True
        with lock(harm.path.with_suffix(".lock")):
            write_atomic(harm.path, b"".join(line + b"\n" for line in sound_lines(harm.path)[0]))
    return True


def _of_entry(entry: Entry) -> str:
    """What is wrong with an output; empty where nothing is."""
    for name in sorted(set(entry.outputs) - set(entry.released)):
        try:
            if sha256_file(entry.path(name)) != entry.outputs[name]["sha256"]:
                return f"{name} is not what was made"
        except FileError as error:
            return f"{name} cannot be read: {error.message}"
    return ""


def _of_values(folder: Path) -> Iterator[Harm]:
    """Tensors against the verdicts on them, and Gram matrices against their own checksums."""
    label = "these values"
    for key, verdict in Pieces(folder / "verdicts.jsonl").by_key.items():
        path = folder / key.replace("/", ".")
        if isinstance(verdict, dict) and path.exists() and sha256_file(path) != verdict["sha256"]:
            yield Harm(path=path, what="is not what was made", label=label)
    for path in sorted(folder.glob("*.npz")):
        if not is_sound_archive(path):
            yield Harm(path=path, what="is not what was made", label=label)
