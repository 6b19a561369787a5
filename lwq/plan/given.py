"""Given files by content: one, all shards of a split model, or a folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lwq.plan.hub import Source
from lwq.record.record import FileHash
from lwq.steps.step import Given, names_of

HashOf = Callable[[Path], str]
NOT_READ: Final = "not read: "
"""What the stand-in for the hash of a model that was only looked at begins with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A given file (or the files of a model) with its content hash and a label that tells no local path."""

    given: Given
    paths: tuple[Path, ...]
    label: str
    hashes: tuple[str, ...] = ()
    """Of each path, where there are several."""
    to_fetch_bytes: int = 0
    """Of a model that was only looked at and is still to be fetched."""

    def files(self) -> tuple[FileHash, ...]:
        """Each file (of a split model each shard) under its public name."""
        names = names_of(self.given.name, self.paths)
        hashes = zip(names, self.hashes or (self.given.sha256,), strict=True)
        return tuple(FileHash(file=name, sha256=digest) for name, digest in hashes)


def fetched_model(source: Source, hash_of: HashOf) -> Fetched:
    """Content hash of a model: of the file, or of the list of its files' hashes."""
    is_here = not source.to_fetch_bytes  # what stands in for a file is never hashed
    hashes = [(path.name, hash_of(path) if is_here else f"{NOT_READ}{source.label}") for path in source.files]
    unread = next((digest for _, digest in hashes if digest.startswith(NOT_READ)), "")
    whole = hashes[0][1] if len(hashes) == 1 else hashlib.sha256(repr(sorted(hashes)).encode()).hexdigest()
    digest = unread or whole
    paths = source.files if source.kind == "gguf" else (source.files[0].parent,)
    each = tuple(digest for _, digest in hashes) if len(paths) > 1 else ()
    given = Given(sha256=digest, name=source.name)
    return Fetched(given=given, paths=paths, label=source.label, hashes=each, to_fetch_bytes=source.to_fetch_bytes)
