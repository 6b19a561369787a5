"""Files between machines, by content: what a step reads goes to a worker, what it made comes back, each hash checked.

A worker looks in its own cache first, then where the client has the file (a shared disk), and is sent the rest in
pieces. Nothing is used before its sha256 is right.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from lwq.errors import FileError
from lwq.plan.graph import given_of, made_of
from lwq.plan.plan import AnyStep
from lwq.store.cache import HASHES, Cache, Entry, sealed
from lwq.store.files import link_or_copy, lock, os_errors, sha256_file, write_json

PIECE_BYTES: Final = 16 << 20
_GIVEN: Final = "given-files"
_ARRIVING: Final = "arriving"


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedFile:
    """One file by content."""

    name: str
    """Below its entry, or below the folder that was given."""
    sha256: str
    n_bytes: int
    path: str
    """Where the client has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedFiles:
    """What a step reads: a finished step with the files of it that are read, or something that the user gave."""

    key: str
    """Of the step, or the content hash of what was given."""
    files: tuple[WantedFile, ...]
    step: str = ""
    """Its kind; empty for what was given."""
    stored: str = ""
    """Its ``step.json``."""
    is_folder: bool = False
    """A folder was given, which is handed on as one."""


def wanted_by(
    step: AnyStep, entries: Mapping[str, Entry], given: Mapping[str, tuple[Path, ...]], root: Path
) -> tuple[WantedFiles, ...]:
    """Everything that a step reads; of an entry of which no file is named, all files.

    Args:
        root: of the cache, which remembers hashes.
    """
    names: dict[str, set[str]] = {}
    for made in made_of(step):
        every = set(entries[made.key].outputs) - set(entries[made.key].released)
        names.setdefault(made.key, set()).update({made.name} if made.name else every)
    found = [_of_entry(entries[key], read) for key, read in names.items()]
    for sha256 in dict.fromkeys(origin.sha256 for origin in given_of(step)):
        found.append(_of_given(sha256, given[sha256], root / HASHES))
    return tuple(found)


def _of_entry(entry: Entry, names: Iterable[str]) -> WantedFiles:
    kept = sorted(name for name in names if name in entry.outputs and name not in entry.released)
    files = tuple(
        WantedFile(
            name=name,
            sha256=str(entry.outputs[name]["sha256"]),
            n_bytes=int(entry.outputs[name]["n_bytes"]),
            path=str(entry.path(name)),
        )
        for name in kept
    )
    stored = (entry.folder / "step.json").read_text(encoding="utf-8")
    return WantedFiles(key=entry.key, files=files, step=entry.step, stored=stored)


def _of_given(sha256: str, paths: tuple[Path, ...], memo: Path | None) -> WantedFiles:
    is_folder = paths[0].is_dir()
    root = paths[0] if is_folder else paths[0].parent
    every = sorted(p for p in root.rglob("*") if p.is_file()) if is_folder else paths
    files = tuple(
        WantedFile(
            name=path.relative_to(root).as_posix() if is_folder else path.name,
            sha256=sha256_file(path, memo=memo),
            n_bytes=path.stat().st_size,
            path=str(path),
        )
        for path in every
    )
    return WantedFiles(key=sha256, files=files, is_folder=is_folder)


# at the worker


def entry_here(cache: Cache, wanted: WantedFiles) -> Entry | None:
    """The finished step with all its files that are read, of this cache or of a disk that the client shares."""
    entry = cache.lookup(wanted.step, wanted.key)
    if entry and not {f.name for f in wanted.files} & set(entry.released):
        return entry
    lacking = [f for f in wanted.files if not entry or f.name in entry.released]
    found = {f.name: path for f in lacking if (path := _shared(cache, f))}
    return _publish(cache, wanted, found) if len(found) == len(lacking) else None


def lacking_of(cache: Cache, wanted: WantedFiles) -> WantedFiles:
    """What of it is still to be sent."""
    if not wanted.step:
        folder = _given_folder(cache, wanted)
        return replace(wanted, files=tuple(f for f in wanted.files if not _is_right(cache, folder / f.name, f)))
    entry = cache.lookup(wanted.step, wanted.key)
    return replace(wanted, files=tuple(f for f in wanted.files if not entry or f.name in entry.released))


def given_here(cache: Cache, wanted: WantedFiles) -> tuple[Path, ...] | None:
    """Paths of what the user gave: as the client has them, where that is right here too, else of what was sent."""
    paths = [_shared(cache, file) for file in wanted.files]
    if all(paths) and not wanted.is_folder:
        return tuple(path for path in paths if path)
    folder = _given_folder(cache, wanted)
    if not (folder.is_dir() and all(_is_right(cache, folder / f.name, f) for f in wanted.files)):
        return None
    return (folder,) if wanted.is_folder else tuple(folder / f.name for f in wanted.files)


def _given_folder(cache: Cache, wanted: WantedFiles) -> Path:
    return cache.root / _GIVEN / wanted.key[:24]


def _shared(cache: Cache, file: WantedFile) -> Path | None:
    """Where a file is on this machine without being sent: as the client has it, or given for something else."""
    alike = (cache.root / _GIVEN / file.sha256[:24]).glob("*")
    return next((path for path in (Path(file.path), *alike) if _is_right(cache, path, file)), None)


def _is_right(cache: Cache, path: Path, file: WantedFile) -> bool:
    try:
        is_alike = path.is_file() and path.stat().st_size == file.n_bytes
        return is_alike and sha256_file(path, memo=cache.root / HASHES) == file.sha256
    except (OSError, FileError):
        return False


def receive(root: str, ticket: str, sha256: str, offset: int, piece: bytes) -> None:
    """Keeps a piece of a file that arrives; a ticket is of one client and one step."""
    path = Path(root) / _ARRIVING / ticket / sha256
    with os_errors("keep what arrives", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("r+b" if path.exists() else "xb") as file:
            file.seek(offset)
            file.write(piece)
            file.truncate()


def settle(root: str, ticket: str, wanted: WantedFiles) -> tuple[str, ...]:
    """Puts what arrived where it belongs; names of files whose content is not what was sent: then nothing is kept."""
    cache, folder = Cache(Path(root)), Path(root) / _ARRIVING / ticket
    try:
        arrived = {f.name: folder / f.sha256 for f in wanted.files}
        if wrong := tuple(f.name for f in wanted.files if not _is_right(cache, arrived[f.name], f)):
            return wrong
        if wanted.step:
            _publish(cache, wanted, arrived)
        else:
            place = _given_folder(cache, wanted)
            for name, path in arrived.items():
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                link_or_copy(path, place / name)
        return ()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _publish(cache: Cache, wanted: WantedFiles, found: Mapping[str, Path]) -> Entry | None:
    """An entry as the client has it, as far as its files are here; the others count as released."""
    stored = json.loads(wanted.stored)
    folder = cache.folder(wanted.step, wanted.key)
    cache.steps.mkdir(parents=True, exist_ok=True)
    with lock(cache.steps / f".{folder.name}.lock"):
        entry = cache.lookup(wanted.step, wanted.key)
        here = {n for n in entry.outputs if n not in entry.released} if entry else set[str]()
        place = folder if entry else Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=cache.steps))
        try:
            for name in found.keys() - here:
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                link_or_copy(found[name], place / name)
                _set_time(place / name, stored["outputs"][name])
            gone = sorted(set(stored["outputs"]) - found.keys() - here)
            write_json(place / "step.json", sealed({**stored, "released": gone}))
            if place != folder:
                shutil.rmtree(folder, ignore_errors=True)
                os.replace(place, folder)
        finally:
            if place != folder:
                shutil.rmtree(place, ignore_errors=True)
    return cache.lookup(wanted.step, wanted.key)


def _set_time(path: Path, facts: Mapping[str, Any]) -> None:
    if path.stat().st_nlink == 1:  # else it is a file of somebody else too, whose time stays
        os.utime(path, ns=(facts["mtime_ns"], facts["mtime_ns"]))


def piece_of(root: str, step: str, key: str, name: str, offset: int) -> bytes:
    """A piece of an output in this cache; empty at its end."""
    path = Cache(Path(root)).folder(step, key) / name
    with os_errors("read what was made", path), path.open("rb") as file:
        file.seek(offset)
        return file.read(PIECE_BYTES)
