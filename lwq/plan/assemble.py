"""A run's record, put together from the results of its steps."""

from __future__ import annotations

import platform
from typing import Any

from lwq import __version__
from lwq.gguf.allocation import Allocation
from lwq.gguf.header import read_header
from lwq.metrics.values import Speed
from lwq.plan.chat import prompt_form
from lwq.plan.finished import Run, pruned_parts, pruning_facts, removed_layers, steps_of_pruned_bases
from lwq.plan.plan import InspectStep, PlannedRow, TargetSteps
from lwq.plan.stated import card_facts, cautions_of, domains_of
from lwq.plan.twins import has_own_values
from lwq.recipe.schema import Task
from lwq.record.command import Command
from lwq.record.provenance import Provenance, StepTime
from lwq.record.record import (
    SCHEMA,
    FileFacts,
    ModelFacts,
    Projector,
    Record,
    Role,
    Row,
    TaskSet,
    TextFacts,
)
from lwq.record.search import Sensitivity
from lwq.record.values import StockTwin
from lwq.steps import convert, lean, search
from lwq.steps.step import file_facts


def assemble(run: Run) -> Record:
    """The record of a finished run; the same entries give the same record."""
    plan = run.plan
    assert plan.select
    base = run.result(plan.convert)
    described = run.result(plan.statistics) if plan.statistics else None
    rows = tuple(_row(run, row, base) for row in plan.rows)
    return Record(
        schema=SCHEMA,
        name=run.recipe.name,
        recipe=run.recipe_text,
        model=_model(run, base),
        card=card_facts(run, base),
        texts=tuple(_text(run, role) for role in run.recipe.texts() if role != "calibration" or plan.imatrix),
        toolchain=run.machine.toolchain.facts,
        baseline=run.result(plan.baselines["evaluation"]).perplexity,
        floor=rows[0].evaluation.kld,
        commands=run.commands(plan.convert, plan.imatrix, *plan.baselines.values(), *steps_of_pruned_bases(plan)),
        rows=rows,
        selection=run.result(plan.select).selection,
        tensor_statistics=described.tensors if described else (),
        layer_statistics=described.layers if described else (),
        provenance=_provenance(run),
        sensitivity=_sensitivity(run),
        pruning=pruning_facts(run),
        domains=domains_of(run.recipe),
        task_sets=tuple(_task_set(run, task) for task in run.recipe.tasks),
        experts=run.result(plan.imatrix).experts if plan.imatrix else None,
        projector=_projector(run, base.projector) if base.projector else None,
    )


def _projector(run: Run, file: str) -> Projector:
    entry = run.entry(run.plan.convert)
    facts = file_facts(read_header(entry.path(file)))
    return Projector(
        file=file,
        sha256=str(entry.outputs[file]["sha256"]),
        file_bytes=facts.file_bytes,
        n_params=facts.n_params,
        types=facts.types,
    )


def _task_set(run: Run, task: Task) -> TaskSet:
    step, files = run.plan.task_sets[task.name], run.sources.tasks[task.name]
    made = run.result(step)
    return TaskSet(
        name=task.name,
        kind=made.kind,
        sources=tuple(f.label for f in files),
        sha256=tuple(f.given.sha256 for f in files),
        cloze=step.inputs.cloze,
        n_given=made.n_given,
        n_faulty=made.n_faulty,
        seed=task.seed,
        ids=made.ids,
        parts=made.parts,
        n_ctx=made.n_ctx,
        n_parallel=made.n_parallel,
        unfair=made.unfair,
    )


def _sensitivity(run: Run) -> Sensitivity | None:
    if run.plan.sensitivity is None:
        return None
    measured = run.result(run.plan.sensitivity)
    return Sensitivity(
        text=run.sources.texts["calibration"].given.name,
        n_ctx=run.recipe.calibration.n_ctx,
        importance_file=measured.file,
        n_windows=measured.n_windows,
        n_scored=measured.n_scored,
        output_tensor=measured.output_tensor,
        tensors=measured.tensors,
        frontier=measured.frontier,
        notes=measured.notes,
    )


def _model(run: Run, base: convert.Result) -> ModelFacts:
    source, step = run.sources.model, run.plan.convert
    file = step.inputs.file
    header = read_header(run.entry(step).path(file))
    return ModelFacts(
        name=source.name,
        source=source.fetched.label,
        sha256=source.fetched.given.sha256,
        architecture=base.facts.architecture,
        n_layer=base.facts.n_layer,
        n_params=base.facts.n_params,
        base_type=run.recipe.base_type,
        base_file=file,
        base_sha256=str(run.entry(step).outputs[file]["sha256"]),
        original_types=base.original_types,
        was_quantized=base.was_quantized,
        notes=(*base.notes, *cautions_of(run, base)),
        n_ctx_train=header.number(f"{header.architecture}.context_length") or 0,
        prompt=prompt_form(header),
    )


def _text(run: Run, role: Role) -> TextFacts:
    fetched, asked = run.sources.texts[role], run.recipe.texts()[role]
    if role == "calibration":
        assert run.plan.imatrix
        n_chunks = run.result(run.plan.imatrix).n_chunks
    else:
        n_chunks = run.result(run.plan.baselines[role]).perplexity.n_chunks
    return TextFacts(
        role=role,
        file=fetched.given.name,
        source=fetched.label,
        sha256=fetched.given.sha256,
        n_bytes=fetched.paths[0].stat().st_size,
        n_ctx=asked.n_ctx,
        n_chunks=n_chunks,
    )


def _row(run: Run, row: PlannedRow, base: convert.Result) -> Row:
    if row.own:
        return _our_row(run, row, row.own)
    return _other_row(run, row, row.inspect) if row.inspect else _base_row(run, row, base)


def _measured(run: Run, row: PlannedRow) -> dict[str, Any]:
    """What is measured alike of every row."""
    selection = row.evaluations.get("selection")
    speed: tuple[Speed, ...] = run.result(run.plan.bench).of_row(row.name).speed if run.plan.bench else ()
    return {
        "name": row.name,
        "evaluation": run.result(row.evaluations["evaluation"]).damage,
        "selection": run.result(selection).damage if selection else None,
        "domains": tuple(run.result(step).damage for role, step in row.evaluations.items() if ":" in role),
        "speed": speed,
        "tasks": tuple(run.result(step).score for step in row.tasks),
        "commands": _commands(run, row),
    }


def _held(facts: FileFacts) -> dict[str, Any]:
    kept = ("file_bytes", "n_params", "bpw", "types", "classes")
    return {name: getattr(facts, name) for name in kept}


def _commands(run: Run, row: PlannedRow) -> tuple[Command, ...]:
    """The commands that write (with its own pruned base, where it has one) and measure a row, as they ran."""
    timed = run.result(run.plan.bench).of_row(row.name).argv if run.plan.bench else None
    measured = run.commands(*row.evaluations.values(), *row.tasks)
    return (*_written(run, row.own), *measured, *((Command(step="bench", argv=timed),) if timed else ()))


def _written(run: Run, own: TargetSteps | None) -> tuple[Command, ...]:
    """What writes a file; of one with compensated values llama-quantize alone writes the twin."""
    if own is None:
        return ()
    if _twin(run, own):
        return (Command(step="compensate", argv=("lwq", "run", f"{run.recipe.name}.toml")),)
    return run.commands(own.lean, own.quantize)


def _twin(run: Run, own: TargetSteps) -> StockTwin | None:
    """The stock-valued twin of a file; None of a file that has stock values itself."""
    if own.twin is None or not has_own_values(run.entry(own.quantize)):
        return None
    file = own.twin.file.name
    return StockTwin(
        file=file,
        sha256=str(run.entry(own.twin.quantize).outputs[file]["sha256"]),
        evaluation=run.result(own.twin.evaluate).damage,
        commands=run.commands(own.twin.quantize, own.twin.evaluate),
    )


def _base_row(run: Run, row: PlannedRow, base: convert.Result) -> Row:
    file = run.plan.convert.inputs.file
    return Row(
        file=file,
        origin=row.origin,
        ftype=row.name,
        uses_imatrix=False,
        tensor_type_patterns=(),
        pruned_layers=(),
        sha256=str(run.entry(run.plan.convert).outputs[file]["sha256"]),
        predicted_file_bytes=None,
        tensor_types_file=None,
        n_fallback=0,
        **_held(base.facts),
        **_measured(run, row),
    )


def _our_row(run: Run, row: PlannedRow, made: TargetSteps) -> Row:
    written, planned = run.result(made.quantize), made.allocation.result_of(run.entry(made.allocation))
    allocation, file = planned.allocation, made.quantize.inputs.file
    assert allocation  # a search that nothing fits is followed by a step that finds something, or fails
    return Row(
        file=file,
        origin=row.origin,
        ftype=allocation.ftype,
        uses_imatrix=made.target.imatrix,
        tensor_type_patterns=made.target.tensor_types,
        pruned_layers=removed_layers(run, made),
        parts=pruned_parts(run, made),
        sha256=str(run.entry(made.quantize).outputs[file]["sha256"]),
        predicted_file_bytes=written.predicted_file_bytes,
        tensor_types_file=planned.tensor_types_file,
        n_fallback=allocation.n_fallback,
        tensor_types=_decided(allocation),
        compensated=written.compensated,
        twin=_twin(run, made),
        contexts=run.result(run.plan.contexts).of_file(file) if run.plan.contexts else (),
        continuation=run.result(run.plan.continuations).of_file(file) if run.plan.continuations else None,
        search=planned.search if isinstance(planned, search.Result | lean.Result) else None,
        **_held(written.facts),
        **_measured(run, row),
    )


def _decided(allocation: Allocation) -> tuple[tuple[str, str], ...]:
    types = dict(allocation.types)
    return tuple((name, types[name]) for name in allocation.quantizable)


def _other_row(run: Run, row: PlannedRow, inspect: InspectStep) -> Row:
    fetched, facts = run.sources.third_party[row.name], run.result(inspect).facts
    shards = fetched.files()
    return Row(
        file=fetched.given.name,
        origin=row.origin,
        ftype=facts.types[0].name,
        uses_imatrix=False,
        tensor_type_patterns=(),
        pruned_layers=(),
        sha256=fetched.given.sha256,
        shards=shards if len(shards) > 1 else (),
        predicted_file_bytes=None,
        tensor_types_file=None,
        n_fallback=0,
        **_held(facts),
        **_measured(run, row),
    )


def _provenance(run: Run) -> Provenance:
    times = tuple(
        StepTime(step=s.label, seconds=run.entries[s.key].seconds, tool_seconds=run.entries[s.key].tool_seconds)
        for s in run.plan.steps
    )
    return Provenance(
        lwq_version=__version__,
        finished=max(run.entries[s.key].finished for s in run.plan.steps),
        cpu=run.machine.cpu,
        n_threads=run.machine.n_threads,
        system=f"{platform.system()} {platform.machine()}",
        steps=times,
    )
