"""Finished work by content address: step keys, lookup, publish, explain.

An entry is a folder built under a temporary name and renamed; its ``step.json`` is written last and
is the only mark of completeness. Nothing outside ``root`` is ever touched.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lwq.errors import FileError, ToolError
from lwq.store.files import begun_with, lock, os_errors, sha256_file, write_json
from lwq.store.leases import Lease

SCHEMA = 1
HASHES = "hashes.sqlite"
"""In a cache's root: hashes of files by their stat."""
_SEAL = "seal"
_SMALL_BYTES = 1 << 20
"""What is kept of a failed step's own files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A complete cache entry: what ``step.json`` says, and where its files are."""

    folder: Path
    step: str
    key: str
    key_value: Mapping[str, Any]
    """What the key is the hash of: step, version, tool, inputs."""
    result: Any
    """The step's result as JSON values."""
    commands: tuple[tuple[str, ...], ...]
    seconds: float
    tool_seconds: float
    finished: str
    work: float
    """Amount of work in units of its kind of step, for forecasts; 0 where it is not counted."""
    outputs: Mapping[str, Mapping[str, Any]]
    peak_bytes: int = 0
    """The most memory (resident bytes, mapped files included) that one of its processes was seen with."""
    released: tuple[str, ...] = ()
    """Outputs that were deleted to save room; the step is done all the same."""

    def path(self, name: str) -> Path:
        return self.folder / name

    @property
    def n_bytes(self) -> int:
        return sum(int(facts["n_bytes"]) for name, facts in self.outputs.items() if name not in self.released)


def canonical(value: Mapping[str, Any]) -> str:
    """The one JSON text of a key's value: sorted, compact, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def key_of(value: Mapping[str, Any]) -> str:
    """sha256 (hex) of the canonical JSON of a key's value."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


class Cache:
    """Entries in ``root/steps``, pieces of measurements in ``root/pieces``, recipes' last runs in ``root/ledger``.

    What may go of it: ``garbage``.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.steps = root / "steps"
        self.ledger = root / "ledger"
        self.pieces = root / "pieces"
        self.lease = Lease(root)

    def folder(self, step: str, key: str) -> Path:
        return self.steps / f"{step}-{key[:24]}"

    def hold(self, steps: Iterable[tuple[str, str]]) -> None:
        """Keeps what has to do with these steps, (step, key) each, from being removed while this run is at work."""
        self.lease.hold(self.folder(step, key).name for step, key in steps)

    def lookup(self, step: str, key: str) -> Entry | None:
        """The complete entry of that key, or None where it is absent, damaged or half-written."""
        entry = read_entry(self.folder(step, key))
        return entry if entry is not None and entry.key == key else None

    def build(
        self, step: str, value: Mapping[str, Any], work: Callable[[Path], Mapping[str, Any]], *, whole: bool = False
    ) -> tuple[Entry, bool]:
        """The entry of a key (with ``whole``, one that lacks no released output), and whether ``work`` was done for it.

        ``work`` fills the folder it is given and returns ``result``, ``commands``, ``seconds``, ``tool_seconds``,
        ``peak_bytes``, ``finished`` and ``work``; symbolic links it leaves at the top are inputs and dropped, unless
        the result lists them under ``keep_links``. When a program failed, the folder stays without its large
        files until the step is done again or the cache is cleaned: its command can be pasted there.
        """
        key = key_of(value)
        if (entry := self.lookup(step, key)) and not (whole and entry.released):
            return entry, False
        with os_errors("make room for a step in the cache", self.steps):
            self.steps.mkdir(parents=True, exist_ok=True)
        with lock(self.steps / f".{step}-{key[:24]}.lock"):
            if (entry := self.lookup(step, key)) and not (whole and entry.released):
                return entry, False
            self._clear(step, key)
            with os_errors("make room for a step in the cache", self.steps):
                temporary = Path(tempfile.mkdtemp(prefix=f".{step}-{key[:24]}.", dir=self.steps))
            try:
                facts = dict(work(temporary))
                self._publish(temporary, step, key, value, facts)
            except ToolError:
                _keep_for_a_look(temporary)
                raise
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                raise
        entry = self.lookup(step, key)
        if entry is None:
            raise FileError(
                f"{self.folder(step, key)}: vanished while it was written",
                hint="something else deletes files there; run again",
            )
        return entry, True

    def release(self, entry: Entry, names: Iterable[str]) -> None:
        """Delete outputs of an entry, which stays finished: who needs them again makes them again."""
        gone = sorted({*entry.released, *names})
        with os_errors("remove an output from the cache", entry.folder):
            stored = json.loads((entry.folder / "step.json").read_text(encoding="utf-8"))
            write_sealed(entry.folder / "step.json", {**stored, "released": gone})
            for name in gone:
                entry.path(name).unlink(missing_ok=True)

    def _clear(self, step: str, key: str) -> None:
        """Remove what killed runs left of this key; the caller holds its lock."""
        for leftover in begun_with(self.steps, f".{step}-{key[:24]}."):
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
        shutil.rmtree(self.folder(step, key), ignore_errors=True)

    def _publish(self, temporary: Path, step: str, key: str, value: Mapping[str, Any], facts: dict[str, Any]) -> None:
        keep = set(facts.pop("keep_links", ()))
        with os_errors("store the result of a step", temporary):
            for link in [p for p in temporary.iterdir() if p.is_symlink() and p.name not in keep]:
                link.unlink()
            outputs = {p.relative_to(temporary).as_posix(): _seal(p) for p in _files(temporary)}
            stored = {"schema": SCHEMA, "step": step, "key": key, "key_value": value, "outputs": outputs, **facts}
            write_sealed(temporary / "step.json", stored)
            os.replace(temporary, self.folder(step, key))
            _sync_folder(self.steps)

    def remember(self, recipe: str, values: Mapping[str, Mapping[str, Any]]) -> None:
        """Note the key values (by label) of a recipe's run, for ``why`` and so that they are not taken for garbage."""
        if self.remembered(recipe) != values:
            write_json(self._ledger_path(recipe), values)

    def remembered(self, recipe: str) -> Mapping[str, Mapping[str, Any]]:
        """Label → key value of a recipe's last run; empty where there was none."""
        try:
            notes = json.loads(self._ledger_path(recipe).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return {k: v for k, v in notes.items() if isinstance(v, dict)} if isinstance(notes, dict) else {}

    def _ledger_path(self, recipe: str) -> Path:
        self.ledger.mkdir(parents=True, exist_ok=True)
        return self.ledger / f"{recipe}.json"

    def entries(self) -> Iterator[Entry]:
        """All complete entries, by name."""
        for folder in sorted(self.steps.glob("[!.]*")):
            if entry := read_entry(folder):
                yield entry


def _keep_for_a_look(folder: Path) -> None:
    """Links to inputs and small files stay, large ones, the program's half-made outputs, go."""
    with os_errors("remove a half-made file", folder):
        for path in _files(folder):
            if not path.is_symlink() and path.stat().st_size > _SMALL_BYTES:
                path.unlink()


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file())


def write_sealed(path: Path, value: Mapping[str, Any]) -> None:
    """Writes JSON with the hash of itself."""
    write_json(path, sealed(value))


def read_sealed(path: Path) -> dict[str, Any] | None:
    """What ``write_sealed`` wrote; None where that is not there, or not what was written."""
    try:
        stored = json.loads(path.read_bytes())
        return stored if stored[_SEAL] == sealed(stored)[_SEAL] else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def is_sealed_or_older(stored: Mapping[str, Any]) -> bool:
    """Whether it is what was written; what was written before there were seals has none."""
    try:
        return stored.get(_SEAL, "") in ("", sealed(stored)[_SEAL])
    except (ValueError, RecursionError):  # half a character, NaN, nested without end: nothing that lwq writes
        return False


def sealed(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Values with the hash of all the rest of them."""
    plain = {k: v for k, v in json.loads(json.dumps(stored)).items() if k != _SEAL}
    return {**plain, _SEAL: key_of(plain)}


def _seal(path: Path) -> dict[str, Any]:
    """Size, sha256 and time of an output, which is flushed to disk and made read-only (a link stays as it is)."""
    if not path.is_symlink():
        with path.open("rb") as file:
            os.fsync(file.fileno())
        path.chmod(stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH)
    facts = path.stat()
    return {"sha256": sha256_file(path), "n_bytes": facts.st_size, "mtime_ns": facts.st_mtime_ns}


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_entry(folder: Path) -> Entry | None:
    """The complete entry in a folder, or None where it is absent, damaged or half-written."""
    try:
        stored = json.loads((folder / "step.json").read_text(encoding="utf-8"))
        if stored["schema"] != SCHEMA or not is_sealed_or_older(stored):
            return None
        released = tuple(stored.get("released", ()))
        kept = ((folder / n, f) for n, f in stored["outputs"].items() if n not in released)
        if not all(_is_as_made(path, facts, folder.parents[1] / HASHES) for path, facts in kept):
            return None
        return Entry(
            folder=folder,
            step=stored["step"],
            key=stored["key"],
            key_value=stored["key_value"],
            result=stored["result"],
            commands=tuple(tuple(argv) for argv in stored["commands"]),
            seconds=stored["seconds"],
            tool_seconds=stored["tool_seconds"],
            finished=stored["finished"],
            work=stored["work"],
            outputs=stored["outputs"],
            peak_bytes=stored.get("peak_bytes", 0),
            released=released,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, FileError):
        return None


def _is_as_made(path: Path, facts: Mapping[str, Any], memo: Path) -> bool:
    """Whether an output has its size, and its content where somebody wrote to it since it was made."""
    now = path.stat()
    if now.st_size != facts["n_bytes"]:
        return False
    is_untouched: bool = now.st_mtime_ns == facts.get("mtime_ns", now.st_mtime_ns)
    return is_untouched or sha256_file(path, memo=memo) == facts["sha256"]
