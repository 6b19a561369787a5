"""A recipe read, its sources fetched, its steps planned: all that is known before the first step, and its run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, TypeAlias

from lwq.gguf.header import GgufHeader, read_header
from lwq.gguf.hf_folder import read_folder
from lwq.layers.further import header_without_further
from lwq.llama.toolchain import home
from lwq.llama.twin import twin_of
from lwq.plan.asked import check_asked
from lwq.plan.execution import Crew, Surroundings, Watch, execute
from lwq.plan.finished import Run
from lwq.plan.forecast import Forecast, Guess, forecast, work_of
from lwq.plan.graph import Needs
from lwq.plan.logo import check_logo
from lwq.plan.plan import Machine, Plan
from lwq.plan.planner import Planner
from lwq.plan.sources import OnNote, Sources, fetch
from lwq.plan.twins import alike
from lwq.recipe.schema import Recipe
from lwq.record.record import Role
from lwq.report.sandbox import check_templates
from lwq.store.cache import Cache, Entry

_KEPT_BYTES: Final = 4 << 30
Part: TypeAlias = Callable[[Planner], Plan]
"""Which steps of a recipe a command needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A recipe, its text, and the folder from which its paths start."""

    recipe: Recipe
    text: str
    folder: Path

    @property
    def templates(self) -> Path | None:
        """The folder of the publisher's templates."""
        named = self.recipe.card.templates
        return self.folder / named if named else None

    @property
    def logo(self) -> Path | None:
        """The publisher's picture."""
        named = self.recipe.card.logo
        return self.folder / named if named else None


@dataclass(frozen=True, slots=True, kw_only=True)
class SideBySide:
    """Who carries a job's steps out, and what is foretold of them; nobody else than this process where it is empty."""

    crew: Crew | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    needs: Mapping[str, Needs] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Everything known before the first step."""

    asked: Asked
    sources: Sources
    machine: Machine
    cache: Cache
    plan: Plan
    part: Part
    side_by_side: SideBySide = field(default_factory=SideBySide)

    @classmethod
    def prepare(
        cls,
        asked: Asked,
        machine: Machine,
        cache: Cache,
        on_note: OnNote,
        part: Part = Planner.plan,
        *,
        look: bool = False,
    ) -> Job:
        """The job of a recipe, or of the part of its steps that a command needs.

        Args:
            look: it will not be carried out, so no model is read to be hashed.

        Raises:
            LwqError: every fault of what the recipe names, before anything costly.
        """
        if asked.templates:
            check_templates(asked.templates)
        if asked.logo:
            check_logo(asked.logo)
        sources = fetch(asked.recipe, asked.folder, home(), on_note, look=look)
        plan = part(Planner(asked.recipe, sources, machine))
        if not look:
            cache.hold((step.module.NAME, step.key) for step in plan.steps)
        job = cls(asked=asked, sources=sources, machine=machine, cache=cache, plan=plan, part=part)
        if header := job.header():
            check_asked(asked.recipe, header, machine.toolchain)
        return job

    @property
    def recipe(self) -> Recipe:
        return self.asked.recipe

    def without(self, names: frozenset[str]) -> Job:
        """The job without these files of others."""
        recipe = self.recipe.model_copy(
            update={"third_party": tuple(t for t in self.recipe.third_party if t.name not in names)}
        )
        others = {name: file for name, file in self.sources.third_party.items() if name not in names}
        sources = replace(self.sources, third_party=others)
        plan = self.part(Planner(recipe, sources, self.machine))
        return replace(self, asked=replace(self.asked, recipe=recipe), sources=sources, plan=plan)

    @property
    def must_convert(self) -> bool:
        """Whether llama.cpp's converter, which needs an environment of its own, is still to run."""
        convert = self.plan.convert
        return self.sources.model.kind == "hf-folder" and not self.cache.lookup(convert.module.NAME, convert.key)

    def base(self, watch: Watch) -> Path:
        """The base, made now if it is not there yet."""
        convert = self.plan.convert
        entries = execute((convert,), self.surroundings(watch))
        return entries[convert.key].path(convert.inputs.file)

    def header(self) -> GgufHeader | None:
        """Of the base where it is made, else of the original, or of what a folder would be converted to.

        None where that is not known yet: a folder, and no environment to convert it in.
        """
        if entry := self.cache.lookup(self.plan.convert.module.NAME, self.plan.convert.key):
            return read_header(entry.path(self.plan.convert.inputs.file))
        model = self.sources.model
        return header_of(self.recipe, model.kind, model.fetched.paths[0], model.fetched.given.name)

    def work(self) -> dict[str, float]:
        """Key → amount of work; nothing for a model whose size is not known before it is converted."""
        if (header := self.header()) is None:
            return {}
        text_bytes = {role: text.paths[0].stat().st_size for role, text in self.sources.texts.items()}
        return work_of(self.plan, self.recipe, header, text_bytes)

    def forecast(self, guess: Guess | None = None) -> Forecast:
        """What is still to do, and how long it may take; ``guess`` for kinds of steps that never ran here."""
        return forecast(self.plan.steps, self.cache, self.work(), guess)

    def carry_out(self, watch: Watch, *, name: str = "", given: Mapping[str, tuple[Path, ...]] | None = None) -> Run:
        """The finished run; its key values are remembered for ``why`` and for the garbage collector.

        Args:
            name: under which they are remembered; the recipe's when empty.
            given: further files by content hash.
        """
        steps = self.plan.steps
        self.cache.remember(name or self.recipe.name, {step.label: step.key_value for step in steps})
        entries = execute(steps, self.surroundings(watch, given or {}))
        self._release_logits(entries)
        self._release_twins(entries)
        return Run(
            recipe=self.recipe,
            recipe_text=self.asked.text,
            sources=self.sources,
            machine=self.machine,
            plan=self.plan,
            entries=entries,
            logo=self.asked.logo,
        )

    def passing(self, sizes: Mapping[str, int]) -> frozenset[str]:
        """Keys of steps whose file is removed at the end of a run: of logits by their bytes, and of twins."""
        roles = {step.key: role for role, step in self.plan.baselines.items()}
        logits = {key for key, role in roles.items() if not self._keeps_logits(role, sizes.get(key, 0))}
        twins = {row.own.twin.quantize.key for row in self.plan.rows if row.own and row.own.twin}
        return frozenset(logits | twins)

    def _keeps_logits(self, role: Role, n_bytes: int) -> bool:
        asked = self.recipe.texts()[role].keep_logits
        return n_bytes < _KEPT_BYTES if asked is None else asked

    def _release_logits(self, entries: Mapping[str, Entry]) -> None:
        """Delete stored log-probabilities that the recipe does not keep; a later row makes them again."""
        for role, step in self.plan.baselines.items():
            name, entry = step.inputs.logits_file, entries[step.key]
            keep = self._keeps_logits(role, int(entry.outputs[name]["n_bytes"]))
            if not keep and name not in entry.released and not self._is_wanted(step.key):
                self.cache.release(entry, (name,))

    def _release_twins(self, entries: Mapping[str, Entry]) -> None:
        """Delete stock-valued twins, which were measured and are no files of the card."""
        for twin in (row.own.twin for row in self.plan.rows if row.own and row.own.twin):
            entry = entries[twin.quantize.key]
            if twin.file.name not in entry.released and not self._is_wanted(entry.key):
                self.cache.release(entry, (twin.file.name,))

    def _is_wanted(self, key: str) -> bool:
        """Whether a run beside this one reads what a step made; it then deletes that itself."""
        crew = self.side_by_side.crew
        return crew is not None and crew.is_wanted(key)

    def surroundings(self, watch: Watch, given: Mapping[str, tuple[Path, ...]] | None = None) -> Surroundings:
        """What the steps are carried out with."""
        files = {**self.sources.given(), **(given or {})}
        return Surroundings(
            cache=self.cache,
            machine=self.machine,
            given=files,
            watch=watch,
            work=self.work(),
            alike=alike(self.plan),
            crew=self.side_by_side.crew,
            seconds=self.side_by_side.seconds,
            needs=self.side_by_side.needs,
        )


def header_of(recipe: Recipe, kind: str, path: Path, name: str) -> GgufHeader | None:
    """Of the base as it is asked for, from an original or a folder of that name; None without the converter."""
    given = path if kind == "gguf" else twin_of(path, read_folder(path).outtype, name)
    if given is None:
        return None
    header = read_header(given)
    return header_without_further(header) if recipe.mtp == "drop" else header
