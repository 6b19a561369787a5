"""A command line of a run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command as it was run, with bare file names: it can be pasted in the report's folder."""

    step: str
    argv: tuple[str, ...]
