"""Sensitivity and search on tiny models, from the recipe to the written file, and what they make of odd inputs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lwq.bits.mixes import Mixer
from lwq.bits.race import Polish
from lwq.engine.engine import Engine
from lwq.errors import LwqError, ModelError
from lwq.gguf.header import read_header
from lwq.gguf.imatrix import read_imatrix
from lwq.gguf.importance import importance_rows
from lwq.gguf.types import FTYPES
from lwq.llama.toolchain import Toolchain
from lwq.plan import sources
from lwq.plan.assemble import assemble
from lwq.plan.execution import Surroundings, execute
from lwq.plan.plan import Machine
from lwq.plan.planner import Planner
from lwq.recipe.budget import parse_budget
from lwq.recipe.constraints import NEED_IMPORTANCE, TYPE_SETS
from lwq.recipe.parse import parse_recipe
from lwq.report.rows import how_made
from lwq.report.searches import compared_candidates
from lwq.steps import search, sensitivity
from lwq.steps.quantize import mostly
from lwq.store.cache import Cache
from tests.run_tiny import LabelledRun, Log
from tests.steps.test_sensitivity import LAST, Bench, matrix, write_inputs
from tests.tiny_models import (
    write_tiny_moe,
    write_tiny_phi3,
)

pytestmark = pytest.mark.tools
N_WINDOWS = 8
RECIPE = f"""
name = "tiny"
model = "tiny.gguf"
[calibration]
text = "calibration.txt"
n_ctx = 128
n_chunks = 4
[selection]
text = "selection.txt"
n_ctx = 128
n_chunks = {N_WINDOWS}
[evaluation]
text = "evaluation.txt"
n_ctx = 128
n_chunks = 2
[sensitivity]
n_windows = 2
n_selection_windows = {N_WINDOWS}
[bench]
tests = []
"""
TARGETS = """
[[targets]]
ftype = "Q4_K_M"
[[targets]]
name = "hand"
ftype = "Q3_K_M"
tensor_types = ['ffn_down=q5_k']
[[targets]]
budget = "Q4_K_M"
types = ["no-iq"]
[[targets]]
name = "kept"
bpw = 3.5
types = ["k", "iq4_nl"]
min_types = ['attn_v=q5_k']
tensor_types = ['^blk\\.0\\.ffn_down=q8_0']
ties = [["attn_q", "attn_k"]]
[[targets]]
name = "file"
size = "800 KiB"
types = ["legacy", "q2_K", "q3_K"]
"""
SHORT = ("convert", "imatrix", "sensitivity", "grams", "allocate:")


def carry_out(
    folder: Path, home: Path, toolchain: Toolchain, recipe: str, wanted: tuple[str, ...] = ("",), n_threads: int = 1
):
    """The run of those steps whose label starts so, and what was done."""
    asked = parse_recipe(recipe, "tiny.toml")
    machine = Machine(toolchain=toolchain, n_threads=n_threads, cpu="a test's CPU")
    found = sources.fetch(asked, folder, home, lambda note: None)
    plan = Planner(asked, found, machine).plan()
    plan = replace(plan, steps=tuple(s for s in plan.steps if s.label.startswith(wanted)))
    log = Log()
    around = Surroundings(cache=Cache(home), machine=machine, given=found.given(), watch=log, work={})
    entries = execute(plan.steps, around)
    run = LabelledRun(recipe=asked, recipe_text=recipe, sources=found, machine=machine, plan=plan, entries=entries)
    return run, log


def file_of(run: LabelledRun, name: str) -> Path:
    step = run.step(f"quantize:{name}")
    return run.entries[step.key].path(step.inputs.file)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, toolchain: Toolchain) -> tuple[LabelledRun, Path]:
    folder = tmp_path_factory.mktemp("search")
    write_inputs(folder)
    return carry_out(folder, folder / "home", toolchain, RECIPE + TARGETS)[0], folder


HALF_STEP = 16 / 65535 / 2
BUDGETS = ("Q4_K_M_LWQ", "kept", "file")


# the written files


def test_written_files_keep_to_their_budget(finished) -> None:
    run, _ = finished
    base = read_header(run.entries[run.step("convert").key].path("tiny-F16.gguf"))
    stock = sum(t.n_bytes for t in read_header(file_of(run, "Q4_K_M")).tensors)
    allowed = {"Q4_K_M_LWQ": stock, "kept": int(3.5 * base.n_params / 8)}
    for name in BUDGETS:
        header, result = read_header(file_of(run, name)), run.result(f"allocate:{name}")
        n_bytes = sum(t.n_bytes for t in header.tensors)
        assert n_bytes == result.tensor_bytes <= result.search.budget_bytes
        assert result.search.budget_bytes == allowed.get(name, result.search.budget_bytes)
        assert n_bytes > 0.9 * result.search.budget_bytes, name
    assert file_of(run, "file").stat().st_size <= 800 * 1024


def test_types_read_back_are_the_allocation(finished) -> None:
    run, _ = finished
    for name in BUDGETS:
        types = {t.name: t.ggml_type for t in read_header(file_of(run, name)).tensors}
        assert types == dict(run.result(f"allocate:{name}").allocation.types)


def test_file_type_is_of_the_type_that_most_tensors_have(finished) -> None:
    run, _ = finished
    for name in ("Q4_K_M", "hand", *BUDGETS):
        header, found = read_header(file_of(run, name)), run.result(f"allocate:{name}")
        is_stock = not getattr(found, "search", None) or found.plain_imatrix
        label = found.allocation.ftype if is_stock else mostly(found.allocation)
        assert header.number("general.file_type") == FTYPES[label][0]


def test_constraints_hold_in_the_written_file(finished) -> None:
    run, _ = finished
    types = {t.name: t.ggml_type for t in read_header(file_of(run, "kept")).tensors}
    stock, *_ = run.result("allocate:kept").search.candidates
    assert stock.n_bytes <= run.result("allocate:kept").search.budget_bytes
    assert stock.verdict.startswith("against the target's constraints at blk.0.")
    assert types["blk.0.ffn_down.weight"] == "q8_0"
    assert {types[f"blk.{i}.attn_v.weight"] for i in range(2)} <= {"q5_K", "q6_K", "q8_0"}
    assert all(types[f"blk.{i}.attn_q.weight"] == types[f"blk.{i}.attn_k.weight"] for i in range(2))
    assert {t for n, t in types.items() if "norm" not in n} <= {*TYPE_SETS["k"], "iq4_nl"}


def test_stock_mix_and_fitting_rivals_are_candidates_of_every_search(finished) -> None:
    run, _ = finished
    for name in BUDGETS:
        found = run.result(f"allocate:{name}").search
        assert found.candidates[0].name.startswith("stock ")
        assert found.candidates[0].n_windows == N_WINDOWS
        assert [c.name for c in found.candidates if c.verdict == "chosen"] == [found.chosen]
        assert all(c.n_bytes <= found.budget_bytes for c in found.candidates if c.verdict == "chosen")
    names = {c.name for c in run.result("allocate:Q4_K_M_LWQ").search.candidates}
    assert {"stock Q4_K_M", "hand"} <= names


def test_a_target_called_like_stock_is_raced_and_shown_as_the_hand_written_mix_that_it_is(
    tmp_path: Path, toolchain: Toolchain
) -> None:
    write_inputs(tmp_path)
    targets = TARGETS[: TARGETS.index('[[targets]]\nname = "kept"')].replace('"hand"', '"stock-x"')
    run, _ = carry_out(tmp_path, tmp_path / "home", toolchain, RECIPE + targets)
    record = assemble(run)
    (row,) = (r for r in record.rows if r.search)
    kinds = {c.name: c.kind for c in row.search.candidates}
    assert kinds["stock-x"] == "hand"
    assert [name for name, kind in kinds.items() if kind == "stock"] == ["stock Q4_K_M"]
    by_hand = next(r for r in record.rows if r.name == "stock-x")
    assert how_made(by_hand) == "Q3_K_M, 1 hand-written pattern, imatrix"
    assert [c.is_stock for c in compared_candidates(record)].count(True) == 1


def test_divergence_of_the_written_file_is_what_the_search_measured(finished) -> None:
    """Same windows: the tool's base log-probabilities have 16 bits over at most 16 nats, each wrong by half a step
    at most. That moves Σ p (log p − log q) by half a step, and little more where log p − log q is not near 0."""
    run, _ = finished
    wanted = {name: run.result(f"allocate:{name}").search for name in BUDGETS}
    pairs = [(name, next(c for c in s.candidates if c.name == s.chosen)) for name, s in wanted.items()]
    pairs.append(("Q4_K_M", wanted["Q4_K_M_LWQ"].candidates[0]))
    for name, candidate in pairs:
        assert candidate.n_windows == N_WINDOWS
        printed = run.result(f"evaluate:{name}:selection").damage.kld.value
        assert abs(candidate.kld.value - printed) < 1.5 * HALF_STEP, name
    assert max(candidate.kld.value for _, candidate in pairs) > 50 * HALF_STEP


def test_chosen_mix_leads_stock_by_its_error_or_is_stock(finished) -> None:
    run, _ = finished
    for name in BUDGETS:
        found = run.result(f"allocate:{name}").search
        if found.stock_difference is None:
            assert found.chosen.startswith("stock ")
            continue
        stock, gap = found.candidates[0], found.stock_difference
        assert gap.value + 1.96 * gap.stderr < 0 or stock.verdict.endswith("shown for comparison")
        assert ("% above that of" if gap.value > 0 else "% below that of") in found.reason
        chosen = next(c for c in found.candidates if c.name == found.chosen)
        np.testing.assert_allclose(chosen.kld.value - stock.kld.value, gap.value, rtol=1e-9)
        assert found.confirmation is None  # eight windows are too few
        assert "(not confirmed on others)" in found.reason


def test_probes_cover_every_tensor_and_name_the_embedding_they_completed(finished) -> None:
    run, _ = finished
    found = run.result("sensitivity")
    assert found.output_tensor == "token_embd.weight"
    assert len(found.tensors) == 2 * 7 + 1
    assert found.n_windows == 2
    assert found.n_scored == 2 * len(range(64, 127, 2))
    for tensor in found.tensors:
        assert tensor.kld.value > 0
        errors = dict(tensor.errors)
        assert tensor.alpha == pytest.approx(tensor.kld.value / errors[tensor.probe_type])
        assert errors["q8_0"] < errors["q4_K"] < errors["q2_K"]
    klds = [point.predicted_kld for point in found.frontier]
    assert klds == sorted(klds, reverse=True)


def test_second_run_starts_no_step(finished, toolchain: Toolchain) -> None:
    run, folder = finished
    again, log = carry_out(folder, folder / "home", toolchain, RECIPE + TARGETS)
    assert log.fresh == []
    assert len(log.kept) == len(run.steps)
    assert again.result("allocate:kept") == run.result("allocate:kept")


# interruptions


def outcome(run: LabelledRun) -> dict[str, Any]:
    """Results of all steps, and the bytes of what sensitivity and searches wrote."""
    found: dict[str, Any] = {}
    for step in run.steps:
        entry = run.entries[step.key]
        found[step.label] = (
            entry.result,
            {n: entry.path(n).read_bytes() for n in entry.outputs if n.endswith((".txt", ".gguf"))},
        )
    return found


@dataclass(slots=True)
class Probes:
    """What was probed, in order; and at which of them (counted from 1) the run is killed."""

    asked: list[tuple[str, str]]
    stops: set[int]


@pytest.fixture
def probes(in_this_process: None, monkeypatch: pytest.MonkeyPatch) -> Probes:
    found = Probes([], set())
    measure = Mixer.measured

    def measured(self: Mixer, name: str, ggml_type: str) -> tuple[float, float]:
        found.asked.append((name, ggml_type))
        if len(found.asked) in found.stops:
            raise KeyboardInterrupt
        return measure(self, name, ggml_type)

    monkeypatch.setattr(Mixer, "measured", measured)
    return found


def test_killed_run_loses_one_probe_at_most_and_ends_alike(probes: Probes, toolchain: Toolchain, tmp_path) -> None:
    recipe = RECIPE + '[[targets]]\nbudget = "Q3_K_M"\ntypes = ["k"]\n'
    write_inputs(tmp_path)
    whole, _ = carry_out(tmp_path, tmp_path / "whole", toolchain, recipe, SHORT)
    order = list(probes.asked)
    assert len(set(order)) == len(order) > 16  # 15 tensors, and more in the search
    probes.asked.clear()
    probes.stops |= {1, 6, len(order) + 1}  # the first, another, and one in the search
    for _ in probes.stops:
        with pytest.raises(KeyboardInterrupt):
            carry_out(tmp_path, tmp_path / "killed", toolchain, recipe, SHORT)
    killed, log = carry_out(tmp_path, tmp_path / "killed", toolchain, recipe, SHORT)
    assert len(probes.asked) == len(order) + len(probes.stops)
    assert set(probes.asked) == set(order)
    assert log.fresh[-1] == "allocate:Q3_K_M_LWQ"
    assert outcome(killed) == outcome(whole)


# other models


@pytest.mark.parametrize("write", [write_tiny_moe, write_tiny_phi3])
def test_other_architectures_are_allocated_and_written(write, toolchain: Toolchain, tmp_path: Path) -> None:
    write_inputs(tmp_path, write)
    recipe = RECIPE + '[[targets]]\nname = "small"\nbpw = 4\ntypes = ["q3_K", "q4_0", "q5_K"]\n'
    run, _ = carry_out(
        tmp_path, tmp_path / "home", toolchain, recipe, (*SHORT, "quantize", "baseline", "evaluate:small")
    )
    header, result = read_header(file_of(run, "small")), run.result("allocate:small")
    assert 8 * sum(t.n_bytes for t in header.tensors) / header.n_params <= 4
    assert run.result("sensitivity").output_tensor == "output.weight"
    chosen = next(c for c in result.search.candidates if c.name == result.search.chosen)
    printed = run.result("evaluate:small:selection").damage.kld.value
    assert abs(chosen.kld.value - printed) < 1.5 * HALF_STEP


# odd inputs, step by step


def test_tensor_without_importance_is_never_given_a_type_that_needs_it(bench: Bench) -> None:
    """Nor is the stock mix one that llama-quantize would refuse to write; it says so only in a real run."""
    types = ("iq3_xxs", "q3_K", "q4_K")
    bare = matrix(bench, **{LAST: None})
    measured = bench.sensitivity(bare, types=types)
    by_name = {t.tensor: dict(t.errors) for t in measured.tensors}
    assert "iq3_xxs" in by_name["blk.0.ffn_down.weight"]
    assert "iq3_xxs" not in by_name[LAST]
    assert any(LAST in note for note in measured.notes)
    found = bench.search(bare, measured, parse_budget("3.4 bpw"), types=types)
    assert dict(found.allocation.types)[LAST] not in NEED_IMPORTANCE
    assert not found.search.candidates[0].name.startswith(("stock IQ2", "stock IQ3_XXS", "stock IQ3_XS"))


def test_stock_mix_that_cannot_be_written_without_importance_is_named(bench: Bench) -> None:
    bare = matrix(bench, **{"blk.0.attn_q.weight": None})
    measured = bench.sensitivity(bare, types=("q2_K",))
    with pytest.raises(ModelError, match=r"blk\.0\.attn_q\.weight: iq\S+ cannot be made without importance data"):
        bench.search(bare, measured, parse_budget("IQ3_XXS"), types=("q2_K",))


def test_windows_of_64_tokens_are_enough(bench: Bench) -> None:
    types = ("q3_K", "q4_K")
    measured = bench.sensitivity(matrix(bench), types=types, n_ctx=64)
    assert measured.n_scored == 2 * 16
    assert bench.search(matrix(bench), measured, parse_budget("Q3_K_M"), types=types, n_ctx=64).search.candidates


def test_what_leads_is_compared_with_stock_on_the_second_half_alone(bench: Bench, toolchain: Toolchain) -> None:
    """Of 16 windows, 4 of the first 8 are raced on; the KLD that the comparison saw is that of the last 8."""
    imatrix = matrix(bench)
    measured = bench.sensitivity(imatrix, types=TYPE_SETS["k"], n_ctx=64)
    found = bench.search(imatrix, measured, parse_budget("Q3_K_M"), types=TYPE_SETS["k"], n_ctx=64)
    stock, *_ = found.search.candidates
    told = found.search.confirmation
    assert stock.n_windows == 4
    assert told
    assert told.n_windows == 8
    assert told.is_lower
    assert not found.search.ships_stock
    assert found.search.reason.startswith("On 8 windows of the selection text that nothing was chosen by, its KLD is")
    assert found.search.stock_difference == told.difference
    with Engine(toolchain, bench.folder / "tiny.gguf", n_ctx=64, n_threads=1) as engine:
        windows = engine.cut((bench.folder / "selection.txt").read_text(encoding="utf-8"))
        assert len(windows) == 16
        engine.set_windows(windows[8:])
        entries = read_imatrix(bench.folder / "sensitivity" / "imatrix-output.gguf").entries
        mixer = Mixer(engine, importance_rows(entries, engine.header.tensors))
        mixer.put({n: q for n, q in found.allocation.types if n in {t.tensor for t in measured.tensors}})
        kld = engine.score().mean_kld
    seen = told.difference.value * told.quotient / (told.quotient - 1)  # difference = chosen − stock, quotient = ÷
    assert seen == pytest.approx(kld, rel=1e-4)


def test_budget_below_the_smallest_types_is_told(bench: Bench) -> None:
    types = ("q4_K", "q8_0")
    measured = bench.sensitivity(matrix(bench), types=types)
    with pytest.raises(LwqError, match="the smallest allowed types take"):
        bench.search(matrix(bench), measured, parse_budget("3 bpw"), types=types)


def upside_down(measured: sensitivity.Result) -> sensitivity.Result:
    """With the damages of a model in which what matters most matters least: its allocations are poor."""
    most = max(t.kld.value for t in measured.tensors)
    tensors = tuple(replace(t, kld=replace(t.kld, value=1e-3 * most**2 / t.kld.value)) for t in measured.tensors)
    return replace(measured, tensors=tensors)


def test_stock_mix_ships_where_it_beats_every_allocation(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """All allocations lose so surely that they drop out of the race, and none is left to polish."""
    monkeypatch.setattr(search, "N_PROBES", 0)
    measured = upside_down(bench.sensitivity(matrix(bench), types=TYPE_SETS["k"]))
    found = bench.search(matrix(bench), measured, parse_budget("Q4_K_M"), types=TYPE_SETS["k"])
    stock, *others = found.search.candidates
    assert (found.search.chosen, stock.verdict) == ("stock Q4_K_M", "chosen")
    assert all(c.verdict.startswith("behind stock Q4_K_M after ") for c in others)
    assert found.plain_imatrix
    assert "ties go to the stock mix" in found.search.reason
    assert found.search.n_swaps == 0


def test_stock_mix_larger_than_the_budget_is_shown_and_drops_nobody(bench: Bench) -> None:
    """Without importance for one tensor the smallest stock mix is Q2_K, of more than 3 bpw in this model."""
    types = ("q2_K", "q3_K")
    bare = matrix(bench, **{LAST: None})
    found = bench.search(bare, bench.sensitivity(bare, types=types), parse_budget("2.9 bpw"), types=types)
    stock, *others = found.search.candidates
    assert stock.name == "stock Q2_K"
    assert stock.n_bytes > found.search.budget_bytes
    assert stock.verdict == "larger than the budget; shown for comparison"
    assert found.tensor_bytes <= found.search.budget_bytes
    assert not any("behind stock" in c.verdict for c in others)
    assert not found.plain_imatrix


def test_swaps_keep_the_size_and_what_stays_is_measured(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Polish] = []
    run = Polish.run
    monkeypatch.setattr(Polish, "run", lambda self, swaps, spare: (kept.append(self), run(self, swaps, spare))[1])
    types = TYPE_SETS["k"]
    measured = upside_down(bench.sensitivity(matrix(bench), types=types, probes="all"))
    monkeypatch.setattr(search, "N_PROBES", 0)
    monkeypatch.setattr(search, "N_SWAPS", 12)  # of an allocation turned upside down, some better its damage
    monkeypatch.setattr("lwq.bits.race.LOST", np.inf)  # and it stays in the race
    found = bench.search(matrix(bench), measured, parse_budget("Q3_K_M"), types=types)
    (polish,) = kept
    assert polish.n_tried == found.search.n_swaps > 0
    assert polish.n_kept > 0
    last = found.search.candidates[-1]
    assert last.name.endswith(("swap", "swaps"))
    assert last.n_bytes <= found.search.budget_bytes
    assert found.tensor_bytes <= found.search.budget_bytes
    before = next(c for c in found.search.candidates if c.name == last.name.rsplit(", ", 1)[0])
    assert last.kld.value < before.kld.value
