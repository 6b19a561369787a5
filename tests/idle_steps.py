"""Steps of ``idle_step``, and what they are carried out with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lwq.llama.toolchain import Toolchain
from lwq.plan.execution import Crew, Surroundings
from lwq.plan.plan import AnyStep, Machine, step_of
from lwq.store.cache import Cache, Entry
from tests import idle_step
from tests.run_tiny import Log

TOOLCHAIN = Toolchain(
    bin_dir=Path("/nowhere"),
    lib_dir=Path("/nowhere"),
    commit="0" * 40,
    backend="cpu",
    flags=(),
    compiler="cc",
    stock=True,
    manifest_sha256="",
)
MACHINE = Machine(toolchain=TOOLCHAIN, n_threads=1, cpu="a test's CPU")


def idle(name: str, *after: AnyStep, **inputs: Any) -> AnyStep:
    made = tuple(step.output(f"{step.inputs.name}.txt") for step in after)
    asked = idle_step.Inputs(name=name, after=made, **inputs)
    module: Any = idle_step
    return step_of(module, asked, TOOLCHAIN, ("idle", name))


@dataclass
class Where(Log):
    """Also notes where steps began."""

    places: dict[str, str] = field(default_factory=dict)
    events: list[tuple[str, str]] = field(default_factory=list)

    def started(self, label: str, where: str = "") -> None:
        self.places[label] = where
        self.events.append(("started", label))

    def finished(self, step: AnyStep, entry: Entry, *, fresh: bool) -> None:
        super().finished(step, entry, fresh=fresh)
        self.events.append(("finished", step.label))


def around(root: Path, crew: Crew | None, **fields: Any) -> Surroundings:
    given: Mapping[str, tuple[Path, ...]] = fields.pop("given", {})
    watch = fields.pop("watch", None) or Where()
    return Surroundings(cache=Cache(root), machine=MACHINE, given=given, watch=watch, work={}, crew=crew, **fields)
