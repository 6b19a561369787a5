"""A plan as a value: all steps of a recipe in order, and whose each is. Labels are for people; code goes by fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, TypeVar

from lwq.llama.toolchain import Toolchain
from lwq.recipe.target import Target
from lwq.record.record import Role
from lwq.steps import (
    allocate,
    baseline,
    bench,
    contexts,
    continuations,
    convert,
    cut,
    evaluate,
    grams,
    heal,
    imatrix,
    inspect,
    items,
    lean,
    pace,
    parts,
    prune,
    quantize,
    search,
    select,
    sensitivity,
    statistics,
    tasks,
)
from lwq.steps.step import Made, Origin, Step, StepModule, to_json
from lwq.store.cache import key_of

I = TypeVar("I")  # noqa: E741 - the inputs of a step, as R is its result
R = TypeVar("R")
AnyStep: TypeAlias = Step[Any, Any]
AllocateStep: TypeAlias = Step[allocate.Inputs, allocate.Result]
BaselineStep: TypeAlias = Step[baseline.Inputs, baseline.Result]
BenchStep: TypeAlias = Step[bench.Inputs, bench.Result]
ContextsStep: TypeAlias = Step[contexts.Inputs, contexts.Result]
ContinuationsStep: TypeAlias = Step[continuations.Inputs, continuations.Result]
ConvertStep: TypeAlias = Step[convert.Inputs, convert.Result]
CutStep: TypeAlias = Step[cut.Inputs, cut.Result]
EvaluateStep: TypeAlias = Step[evaluate.Inputs, evaluate.Result]
GramsStep: TypeAlias = Step[grams.Inputs, grams.Result]
HealStep: TypeAlias = Step[heal.Inputs, heal.Result]
ImatrixStep: TypeAlias = Step[imatrix.Inputs, imatrix.Result]
InspectStep: TypeAlias = Step[inspect.Inputs, inspect.Result]
ItemsStep: TypeAlias = Step[items.Inputs, items.Result]
LeanStep: TypeAlias = Step[lean.Inputs, lean.Result]
PaceStep: TypeAlias = Step[pace.Inputs, pace.Result]
PartsStep: TypeAlias = Step[parts.Inputs, parts.Result]
PruneStep: TypeAlias = Step[prune.Inputs, prune.Result]
QuantizeStep: TypeAlias = Step[quantize.Inputs, quantize.Result]
SearchStep: TypeAlias = Step[search.Inputs, search.Result]
SelectStep: TypeAlias = Step[select.Inputs, select.Result]
SensitivityStep: TypeAlias = Step[sensitivity.Inputs, sensitivity.Result]
StatisticsStep: TypeAlias = Step[statistics.Inputs, statistics.Result]
TasksStep: TypeAlias = Step[tasks.Inputs, tasks.Result]
AllocationStep: TypeAlias = AllocateStep | SearchStep | LeanStep
"""What gives a target's tensors their types: llama-quantize asked, a search, or a search that layers may leave."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a run is carried out with; only ``bench`` and ``pace`` depend on it."""

    toolchain: Toolchain
    n_threads: int
    cpu: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """The steps collected so far; every key is known before anything runs."""

    toolchain: Toolchain
    collected: list[AnyStep] = field(default_factory=list)

    def add(self, module: StepModule[I, R], inputs: I, *about: str, what: str = "") -> Step[I, R]:
        """The step of these inputs, appended unless it is there already under that title.

        Args:
            about: what its title says after what is done: a row, a text, …
            what: what is done, where the module's name would say less.
        """
        step = step_of(module, inputs, self.toolchain, (what or module.NAME, *about))
        if step.title not in {s.title for s in self.collected if s.key == step.key}:
            self.collected.append(step)
        return step


def step_of(module: StepModule[I, R], inputs: I, toolchain: Toolchain, title: tuple[str, ...]) -> Step[I, R]:
    """A step with its key."""
    tool = dict(toolchain.identity) if module.USES_TOOLS else {}
    value = {"step": module.NAME, "version": module.VERSION, "tool": tool, "inputs": to_json(inputs)}
    return Step(title=title, module=module, inputs=inputs, key_value=value, key=key_of(value))


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What a target's file is made from: the base or a pruned one, its importance matrix, its sensitivity."""

    about: tuple[str, ...]
    """What the titles of its steps say after what is done: the pruned base's name, nothing for the whole model."""
    base: Made
    cut: CutStep | None
    """The step that writes the pruned base; None for the whole model."""
    imatrix: ImatrixStep
    sensitivity: SensitivityStep | None = None
    """Where a budget asks for it."""
    grams: GramsStep | None = None
    """Where values are compensated."""

    @property
    def matrix(self) -> Made:
        """The importance matrix as a file."""
        return self.imatrix.output(imatrix.file_of(self.base))

    @property
    def probed(self) -> Made:
        """The sensitivity, with the importance matrix that it completes."""
        assert self.sensitivity
        return self.sensitivity.output(sensitivity.file_of(self.matrix))


@dataclass(frozen=True, slots=True, kw_only=True)
class TwinSteps:
    """The steps that write and measure a file's stock-valued twin: the same types with llama-quantize's own values."""

    quantize: QuantizeStep
    evaluate: EvaluateStep
    """On the evaluation text."""

    @property
    def file(self) -> Made:
        """The twin itself."""
        return self.quantize.output(self.quantize.inputs.file)


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetSteps:
    """The steps that make the file of one target."""

    target: Target
    line: Line
    allocation: AllocationStep
    quantize: QuantizeStep
    cut: CutStep | None = None
    """What wrote a base without layers."""
    lean: LeanStep | None = None
    """What may have written one."""
    parts: PartsStep | None = None
    twin: TwinSteps | None = None
    """Where the file may get compensated values."""

    @property
    def file(self) -> Made:
        """The file itself."""
        return self.quantize.output(self.quantize.inputs.file)

    @property
    def pruned_base(self) -> Made | None:
        """The base without layers; without a name where only the step that may have written one knows it."""
        if self.cut:
            return self.cut.output(self.cut.inputs.file)
        return self.lean.output() if self.lean else None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRow:
    """One file of the card and the steps that measure it."""

    name: str
    origin: Literal["base", "ours", "third-party"]
    file: Origin
    evaluations: Mapping[Role, EvaluateStep]
    tasks: tuple[TasksStep, ...] = ()
    own: TargetSteps | None = None
    """How our own files are made."""
    inspect: InspectStep | None = None
    """Of a file of somebody else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All steps in the order in which they are carried out, and what each is for; a command may need some alone."""

    steps: tuple[AnyStep, ...]
    convert: ConvertStep
    imatrix: ImatrixStep | None = None
    """Of the whole model."""
    statistics: StatisticsStep | None = None
    sensitivity: SensitivityStep | None = None
    """Of the whole model."""
    prune: PruneStep | None = None
    heal: HealStep | None = None
    """Of the sets that ``prune`` finds."""
    cuts: tuple[CutStep, ...] = ()
    """Pruned bases, by target."""
    baselines: Mapping[Role, BaselineStep] = field(default_factory=dict)
    task_sets: Mapping[str, ItemsStep] = field(default_factory=dict)
    rows: tuple[PlannedRow, ...] = ()
    """The base, the recipe's targets, files of others."""
    contexts: ContextsStep | None = None
    """Of our own files."""
    continuations: ContinuationsStep | None = None
    """Of our own files."""
    bench: BenchStep | None = None
    select: SelectStep | None = None
