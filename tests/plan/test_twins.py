"""A file with compensated values is measured beside its stock-valued twin; one with stock values is its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from lwq.gguf.header import read_header
from lwq.llama.toolchain import Toolchain
from lwq.outlook.effort import effort_of
from lwq.outlook.expected import expected, outlook
from lwq.plan.assemble import assemble
from lwq.plan.explain import why
from lwq.plan.job import Asked, Job
from lwq.plan.plan import Machine, Plan, TwinSteps
from lwq.plan.planner import Planner
from lwq.plan.preview import planned_files
from lwq.plan.sources import fetch
from lwq.plan.twins import alike, has_own_values
from lwq.recipe.parse import parse_recipe
from lwq.report.numerals import rounded
from lwq.steps import search
from lwq.store.cache import Cache, Entry
from lwq.store.files import sha256_file
from tests.plan.test_sources import HEAD
from tests.run_tiny import Log, run_tiny

MIX = '[[targets]]\nname = "mix"\nftype = "Q4_0"\nvalues = "compensated"\n'
FILE, TWIN = "tiny-mix.gguf", "tiny-mix-stock-values.gguf"
SOME = {"n_tensors": 3, "kept": []}


def entry(folder: Path, key: str, result: Mapping[str, Any], released: tuple[str, ...] = ()) -> Entry:
    folder.mkdir(exist_ok=True)
    (folder / FILE).write_bytes(b"as llama-quantize wrote it")
    return Entry(
        folder=folder, step="quantize", key=key, key_value={}, result=result, seconds=9.0, tool_seconds=8.0,
        commands=(("llama-quantize", "tiny-F16.gguf", FILE, "2"),), finished="2026-11-24T00:05:25Z", work=1.0,
        outputs={FILE: {"sha256": "", "n_bytes": 26}}, released=released,
    )  # fmt: skip


def planned(folder: Path, toolchain: Toolchain) -> tuple[Plan, TwinSteps]:
    recipe = parse_recipe(HEAD + MIX, "a.toml")
    found = fetch(recipe, folder, folder / "home", lambda note: None)
    plan = Planner(recipe, found, Machine(toolchain=toolchain, n_threads=1, cpu="")).plan()
    (twin,) = (row.own.twin for row in plan.rows if row.own and row.own.twin)
    return plan, twin


@pytest.mark.parametrize(("compensated", "own"), [(None, False), ({"n_tensors": 0, "kept": []}, False), (SOME, True)])
def test_a_file_has_values_of_its_own_where_some_tensor_does(tmp_path: Path, compensated: Any, own: bool) -> None:
    assert has_own_values(entry(tmp_path, "a", {"compensated": compensated})) == own


@pytest.mark.tools
def test_a_file_with_stock_values_gives_its_bytes_and_figures_to_its_twin(folder: Path, toolchain: Toolchain) -> None:
    plan, twin = planned(folder, toolchain)
    (own,) = (row.own for row in plan.rows if row.own)
    of_twin = alike(plan)
    assert set(of_twin) == {twin.quantize.key, twin.evaluate.key}
    done = {own.quantize.key: entry(folder / "entry", own.quantize.key, {"compensated": None})}
    same = of_twin[twin.quantize.key].finished(done)
    assert same
    (folder / "twin").mkdir()
    facts = of_twin[twin.quantize.key].taken_over(same)(folder / "twin")
    assert (folder / "twin" / TWIN).samefile(folder / "entry" / FILE)
    assert facts["commands"] == [["llama-quantize", "tiny-F16.gguf", TWIN, "2"]]
    assert facts["seconds"] == facts["tool_seconds"] == facts["work"] == 0
    assert facts["result"] == {"compensated": None}
    assert of_twin[twin.evaluate.key].finished(done) is None  # the file's own figures are not there yet


@pytest.mark.tools
@pytest.mark.parametrize(("result", "released"), [({"compensated": SOME}, ()), ({"compensated": None}, (FILE,))])
def test_a_twin_is_written_where_the_file_has_other_values_or_is_here_no_more(
    result: Mapping[str, Any], released: tuple[str, ...], folder: Path, toolchain: Toolchain
) -> None:
    plan, twin = planned(folder, toolchain)
    (own,) = (row.own for row in plan.rows if row.own)
    done = {own.quantize.key: entry(folder / "entry", own.quantize.key, result, released)}
    assert alike(plan)[twin.quantize.key].finished(done) is None


@pytest.mark.tools
def test_a_row_holds_what_its_twin_measured_and_only_the_file_is_published(folder: Path, toolchain: Toolchain) -> None:
    run, log, card = run_tiny(folder, folder / "home", toolchain, HEAD + MIX)
    record = assemble(run)
    assert [row.name for row in record.rows] == ["F16", "mix"]
    assert "quantize:mix:stock-values" in log.fresh
    row = record.rows[1]
    assert row.compensated
    assert row.compensated.n_tensors > 0
    assert row.twin
    written = run.entry("quantize:mix:stock-values").path(TWIN)
    assert row.twin.sha256 == sha256_file(written) != row.sha256
    types, own = ({t.name: t.ggml_type for t in read_header(f).tensors} for f in (written, folder / "report" / FILE))
    assert types == own
    assert row.twin.evaluation == run.result("evaluate:mix:evaluation:stock-values").damage != row.evaluation
    assert [c.step for c in row.twin.commands] == ["quantize", "evaluate"]
    assert [c.argv for c in row.commands if c.step == "compensate"] == [("lwq", "run", "tiny.toml")]
    assert "quantize" not in {c.step for c in row.commands}
    assert not (folder / "report" / TWIN).exists()
    assert f"KLD {rounded(row.twin.evaluation.kld)} nats" in card.read_text(encoding="utf-8")


@pytest.mark.tools
def test_a_file_whose_search_chose_stock_values_has_no_twin_and_costs_no_second_time(
    folder: Path, toolchain: Toolchain
) -> None:
    recipe = HEAD + '[[targets]]\nname = "same"\nbudget = "Q8_0"\ntypes = ["q8_0"]\n'
    run, _, _ = run_tiny(folder, folder / "home", toolchain, recipe)
    assert assemble(run).rows[1].twin
    found = run.entry("allocate:same").folder / "step.json"
    stored = json.loads(found.read_text(encoding="utf-8"))
    stored["result"]["compensated"] = False
    del stored["seal"]  # as entries of before have none
    found.write_text(json.dumps(stored), encoding="utf-8")
    for step in run.steps:
        if "same" in step.title and step.module is not search:
            shutil.rmtree(run.entry(step).folder)
    run, _, _ = run_tiny(folder, folder / "home", toolchain, recipe)
    row = assemble(run).rows[1]
    assert row.compensated is None
    assert row.twin is None
    assert [c.step for c in row.commands] == ["quantize", "evaluate", "evaluate"]
    file, twin = (run.entry(f"quantize:same{more}") for more in ("", ":stock-values"))
    assert twin.path("tiny-same-stock-values.gguf").samefile(file.path("tiny-same.gguf"))
    assert run.result("evaluate:same:evaluation:stock-values") == run.result("evaluate:same:evaluation")
    assert [run.entry(f"{s}:stock-values").seconds for s in ("quantize:same", "evaluate:same:evaluation")] == [0, 0]


def prepared(folder: Path, toolchain: Toolchain) -> Job:
    text = HEAD + MIX
    asked = Asked(recipe=parse_recipe(text, "a.toml"), text=text, folder=folder)
    machine = Machine(toolchain=toolchain, n_threads=1, cpu="a test's CPU")
    return Job.prepare(asked, machine, Cache(folder / "home"), lambda note: None)


@pytest.mark.tools
def test_a_plan_tells_what_a_twin_takes(folder: Path, toolchain: Toolchain) -> None:
    job = prepared(folder, toolchain)
    header = job.header()
    assert header
    ahead = outlook(job, header, planned_files(job.recipe, header, toolchain))
    steps = {s.step.label: s for s in expected(job, ahead)}
    file, twin = steps["quantize:mix"], steps["quantize:mix:stock-values"]
    n_bytes = ahead.target(file.step).file_bytes
    assert (twin.disk.kept, file.disk.kept) == (n_bytes, 2 * n_bytes)  # its tensors are kept beside it
    assert twin.peak.anonymous < file.peak.anonymous  # no Gram matrix is held
    measured, of_twin = steps["evaluate:mix:evaluation"], steps["evaluate:mix:evaluation:stock-values"]
    assert of_twin.peak == measured.peak
    assert job.work()[of_twin.step.key] == job.work()[measured.step.key] > 0
    written, of_file = effort_of(twin.step, ahead), effort_of(file.step, ahead)
    assert written
    assert of_file
    assert written.quantized == ahead.shape.n_params < of_file.quantized
    said = why(twin.step, job.plan.steps, job.cache, job.recipe.name)
    assert said[0] == "quantize:mix:stock-values: not done yet"


@pytest.mark.tools
def test_a_twin_is_released_after_the_run_and_done_all_the_same(folder: Path, toolchain: Toolchain) -> None:
    job = prepared(folder, toolchain)
    run = job.carry_out(Log())
    (twin,) = (row.own.twin for row in job.plan.rows if row.own and row.own.twin)
    assert run.entry(twin.quantize).path(TWIN).exists() is False
    again = Log()
    assert assemble(prepared(folder, toolchain).carry_out(again)) == assemble(run)
    assert again.fresh == []
