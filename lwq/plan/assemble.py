"""A run's record, put together from the results of its steps."""

from __future__ import annotations

import platform
from typing import Any

from lwq import __version__
from lwq.gguf.allocation import Allocation
from lwq.metrics.values import Damage, Speed, TaskScore
from lwq.plan.finished import Run, cut_steps, pruned_parts, pruning_facts, removed_layers
from lwq.recipe.schema import Task
from lwq.recipe.target import Target
from lwq.record.record import (
    SCHEMA,
    CardFacts,
    Command,
    FileFacts,
    ModelFacts,
    Provenance,
    Record,
    Role,
    Row,
    StepTime,
    TaskSet,
    TextFacts,
)
from lwq.record.search import Sensitivity
from lwq.steps import (
    allocate,
    baseline,
    convert,
    cut,
    heal,
    imatrix,
    inspect,
    items,
    pace,
    parts,
    search,
    select,
    sensitivity,
    statistics,
)


def assemble(run: Run) -> Record:
    """The record of a finished run; the same entries give the same record."""
    base: convert.Result = run.result("convert")
    measured: statistics.Result | None = run.result("statistics") if run.has("statistics") else None
    first: baseline.Result = run.result("baseline:evaluation")
    chosen: select.Result = run.result("select")
    rows = (_base_row(run, base), *(_our_row(run, t) for t in run.recipe.targets), *_other_rows(run))
    return Record(
        schema=SCHEMA,
        name=run.recipe.name,
        recipe=run.recipe_text,
        model=_model(run, base),
        card=_card(run, base),
        texts=tuple(_text(run, role) for role in run.recipe.texts() if role != "calibration" or run.has("imatrix")),
        toolchain=run.machine.toolchain.facts,
        baseline=first.perplexity,
        floor=rows[0].evaluation.kld,
        commands=run.commands("convert", "imatrix", "baseline:evaluation", "baseline:selection", *cut_steps(run)),
        rows=rows,
        selection=chosen.selection,
        tensor_statistics=measured.tensors if measured else (),
        layer_statistics=measured.layers if measured else (),
        provenance=_provenance(run),
        sensitivity=_sensitivity(run),
        pruning=pruning_facts(run),
        task_sets=tuple(_task_set(run, task) for task in run.recipe.tasks),
    )


def _task_set(run: Run, task: Task) -> TaskSet:
    step, found = run.step(f"items:{task.name}"), run.sources.tasks[task.name]
    made: items.Result = run.result(step.label)
    return TaskSet(
        name=task.name,
        kind=made.kind,
        sources=tuple(f.label for f in found),
        sha256=tuple(f.given.sha256 for f in found),
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
    if not run.has("sensitivity"):
        return None
    found: sensitivity.Result = run.result("sensitivity")
    text = run.sources.texts["calibration"].given.name
    kept = ("n_windows", "n_scored", "output_tensor", "tensors", "frontier", "notes")
    return Sensitivity(
        text=text,
        n_ctx=run.recipe.calibration.n_ctx,
        importance_file=found.file,
        **{name: getattr(found, name) for name in kept},
    )


def _model(run: Run, base: convert.Result) -> ModelFacts:
    source, entry = run.sources.model, run.entry("convert")
    file = run.step("convert").inputs.file
    return ModelFacts(
        name=source.name,
        source=source.found.label,
        sha256=source.found.given.sha256,
        architecture=base.facts.architecture,
        n_layer=base.facts.n_layer,
        n_params=base.facts.n_params,
        base_type=run.recipe.base_type,
        base_file=file,
        base_sha256=str(entry.outputs[file]["sha256"]),
        original_types=base.original_types,
        was_quantized=base.was_quantized,
        notes=base.notes,
    )


def _card(run: Run, base: convert.Result) -> CardFacts:
    """The recipe's facts; what it leaves out, from the model's metadata."""
    card, general = run.recipe.card, dict(base.general)
    licence = card.licence or run.sources.model.licence or "".join(general.get("license", ()))
    repositories = general.get("base_model.0.repo_url", ())
    return CardFacts(
        title=card.title or f"{run.sources.model.name} GGUF",
        author=card.author,
        licence=licence,
        base_model=card.base_model or tuple(r.removeprefix("https://huggingface.co/") for r in repositories),
        languages=card.languages or general.get("languages", ()),
        tags=card.tags,
        description=card.description,
    )


def _text(run: Run, role: Role) -> TextFacts:
    found, asked = run.sources.texts[role], run.recipe.texts()[role]
    if role == "calibration":
        collected: imatrix.Result = run.result("imatrix")
        n_chunks = collected.n_chunks
    else:
        measured: baseline.Result = run.result(f"baseline:{role}")
        n_chunks = measured.perplexity.n_chunks
    return TextFacts(
        role=role,
        file=found.given.name,
        source=found.label,
        sha256=found.given.sha256,
        n_bytes=found.paths[0].stat().st_size,
        n_ctx=asked.n_ctx,
        n_chunks=n_chunks,
    )


def _measured(run: Run, name: str) -> dict[str, Any]:
    """What is measured alike of every row."""
    selection: Damage | None = None
    if run.has(f"evaluate:{name}:selection"):
        selection = run.result(f"evaluate:{name}:selection").damage
    speed: tuple[Speed, ...] = run.result("bench").of(name).speed if run.has("bench") else ()
    scores: tuple[TaskScore, ...] = tuple(run.result(f"tasks:{name}:{t.name}").score for t in run.recipe.tasks)
    evaluation: Damage = run.result(f"evaluate:{name}:evaluation").damage
    return {"name": name, "evaluation": evaluation, "selection": selection, "speed": speed, "tasks": scores}


def _held(facts: FileFacts) -> dict[str, Any]:
    kept = ("file_bytes", "n_params", "bpw", "types", "classes")
    return {name: getattr(facts, name) for name in kept}


def _row_commands(run: Run, name: str) -> tuple[Command, ...]:
    unshown = (allocate, cut, heal, imatrix, inspect, items, pace, parts, search, sensitivity)
    labels = [s.label for s in run.steps if s.label.split(":")[1:2] == [name] and s.module not in unshown]
    timed = (Command(step="bench", argv=run.result("bench").of(name).argv),) if run.has("bench") else ()
    return (*run.commands(*labels), *timed)


def _base_row(run: Run, base: convert.Result) -> Row:
    name, file = run.recipe.base_type.upper(), run.step("convert").inputs.file
    return Row(
        file=file,
        origin="base",
        ftype=name,
        uses_imatrix=False,
        tensor_type_patterns=(),
        pruned_layers=(),
        sha256=str(run.entry("convert").outputs[file]["sha256"]),
        predicted_file_bytes=None,
        commands=_row_commands(run, name),
        tensor_types_file=None,
        n_fallback=0,
        **_held(base.facts),
        **_measured(run, name),
    )


def _our_row(run: Run, target: Target) -> Row:
    written, planned = run.result(f"quantize:{target.name}"), run.result(f"allocate:{target.name}")
    file = run.step(f"quantize:{target.name}").inputs.file
    return Row(
        file=file,
        origin="ours",
        ftype=planned.allocation.ftype,
        uses_imatrix=target.imatrix,
        tensor_type_patterns=target.tensor_types,
        pruned_layers=removed_layers(run, target),
        parts=pruned_parts(run, target),
        sha256=str(run.entry(f"quantize:{target.name}").outputs[file]["sha256"]),
        predicted_file_bytes=written.predicted_file_bytes,
        commands=_row_commands(run, target.name),
        tensor_types_file=planned.tensor_types_file,
        n_fallback=planned.allocation.n_fallback,
        tensor_types=_decided(planned.allocation),
        search=getattr(planned, "search", None),
        **_held(written.facts),
        **_measured(run, target.name),
    )


def _decided(allocation: Allocation) -> tuple[tuple[str, str], ...]:
    types = dict(allocation.types)
    return tuple((name, types[name]) for name in allocation.quantizable)


def _other_rows(run: Run) -> tuple[Row, ...]:
    return tuple(_other_row(run, name) for name in run.sources.third_party)


def _other_row(run: Run, name: str) -> Row:
    found = run.sources.third_party[name]
    facts: FileFacts = run.result(f"inspect:{name}").facts
    return Row(
        file=found.given.name,
        origin="third-party",
        ftype=facts.types[0].name,
        uses_imatrix=False,
        tensor_type_patterns=(),
        pruned_layers=(),
        sha256=found.given.sha256,
        predicted_file_bytes=None,
        commands=_row_commands(run, name),
        tensor_types_file=None,
        n_fallback=0,
        **_held(facts),
        **_measured(run, name),
    )


def _provenance(run: Run) -> Provenance:
    times = tuple(
        StepTime(step=s.label, seconds=run.entries[s.key].seconds, tool_seconds=run.entries[s.key].tool_seconds)
        for s in run.steps
    )
    return Provenance(
        lwq_version=__version__,
        finished=max(run.entries[s.key].finished for s in run.steps),
        cpu=run.machine.cpu,
        n_threads=run.machine.n_threads,
        system=f"{platform.system()} {platform.machine()}",
        steps=times,
    )
