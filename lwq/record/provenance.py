"""What measured and wrote everything, when and how long."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolchainFacts:
    """The llama.cpp that measured and wrote everything."""

    commit: str
    backend: str
    flags: tuple[str, ...]
    compiler: str
    stock: bool
    """Built by lwq at the pinned commit; False for a llama.cpp given by the user."""
    device: str = "CPU"
    """On what it computed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTime:
    """Wall seconds of one step when it really ran."""

    step: str
    seconds: float
    tool_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """When, on what, and how long: the only place for such facts (no host, user or path)."""

    lwq_version: str
    finished: str
    """UTC, ISO 8601, of the newest step."""
    cpu: str
    n_threads: int
    system: str
    steps: tuple[StepTime, ...]
