"""Compensated values from the recipe to the written file: the bytes, their size, their damage, and any way to them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from lwq.bits.mixes import Mixer
from lwq.engine.bindings import load_bindings
from lwq.engine.engine import Engine
from lwq.engine.ggml import Ggml
from lwq.engine.session import spread_over
from lwq.gguf.data import raw_tensor
from lwq.gguf.header import read_header
from lwq.gguf.imatrix import read_imatrix
from lwq.gguf.importance import importance_rows
from lwq.gguf.types import UNQUANTIZED
from lwq.llama.toolchain import Toolchain
from lwq.values import collecting
from lwq.values.compensated import Compensated
from lwq.values.grams import Grams
from tests.run_tiny import LabelledRun
from tests.steps.test_search import HALF_STEP, N_WINDOWS, RECIPE, carry_out, file_of
from tests.steps.test_sensitivity import write_inputs
from tests.tiny_models import write_tiny_moe

pytestmark = pytest.mark.tools
TARGETS = """
[[targets]]
ftype = "Q4_K_M"
[[targets]]
name = "by-type"
ftype = "Q4_K_M"
values = "compensated"
[[targets]]
name = "budget"
budget = "Q3_K_M"
types = ["k"]
[[targets]]
name = "as-it-was"
budget = "Q3_K_M"
types = ["k"]
values = "stock"
"""
RECIPE_OF_GRAMS = RECIPE.replace("[sensitivity]", "[sensitivity]\nn_gram_windows = 4")
COMPENSATED = ("by-type", "budget")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, toolchain: Toolchain) -> tuple[LabelledRun, Path]:
    folder = tmp_path_factory.mktemp("grams")
    write_inputs(folder)
    return carry_out(folder, folder / "home", toolchain, RECIPE_OF_GRAMS + TARGETS)[0], folder


def base_of(run: LabelledRun) -> Path:
    return run.entries[run.step("convert").key].path("tiny-F16.gguf")


def compensated(run: LabelledRun, toolchain: Toolchain, folder: Path) -> Compensated:
    """The tensors once more, from what was collected alone."""
    header, entry = read_header(base_of(run)), run.entries[run.step("grams").key]
    result = run.result("grams")
    imatrix = run.entries[run.step("sensitivity").key].path(run.step("grams").inputs.imatrix.name)
    importance = importance_rows(read_imatrix(imatrix).entries, header.tensors)
    grams = Grams([entry.path(f) for f in result.files], result.readers)
    return Compensated(Ggml(load_bindings(toolchain).llama_cpp._lib), header, grams, importance, folder, 1)


def test_file_has_the_size_of_the_one_with_stock_values(finished) -> None:
    run, _ = finished
    ours, theirs = (read_header(file_of(run, name)) for name in ("by-type", "Q4_K_M"))
    assert [(t.name, t.ggml_type, t.ne, t.offset) for t in ours.tensors] == [
        (t.name, t.ggml_type, t.ne, t.offset) for t in theirs.tensors
    ]
    assert ours.path.stat().st_size == theirs.path.stat().st_size
    for name in COMPENSATED:
        result = run.result(f"quantize:{name}")
        assert file_of(run, name).stat().st_size == result.predicted_file_bytes


def test_tensors_of_the_file_are_the_compensated_ones(finished, toolchain: Toolchain, tmp_path: Path) -> None:
    run, _ = finished
    values = compensated(run, toolchain, tmp_path / "values")
    assert run.result("allocate:budget").compensated
    for name in COMPENSATED:
        file, told = read_header(file_of(run, name)), run.result(f"quantize:{name}").compensated
        kept, changed = {k.tensor: k.why for k in told.kept}, 0
        for tensor in file.tensors:
            if len(tensor.ne) < 2 or tensor.ggml_type in UNQUANTIZED:
                continue
            data = values.stored(tensor.name, tensor.ggml_type)
            if data is None:
                assert kept[tensor.name] == values.verdict(tensor.name, tensor.ggml_type).kept
                continue
            assert np.array_equal(data, raw_tensor(file, tensor.name).data), tensor.name
            changed += 1
        assert changed == told.n_tensors > len(kept)


def test_tensors_that_keep_their_stock_values_are_llama_quantizes_own(finished) -> None:
    run, _ = finished
    ours, theirs = (read_header(file_of(run, name)) for name in ("by-type", "Q4_K_M"))
    kept = {k.tensor for k in run.result("quantize:by-type").compensated.kept}
    for tensor in theirs.tensors:
        same = np.array_equal(raw_tensor(ours, tensor.name).data, raw_tensor(theirs, tensor.name).data)
        assert same == (tensor.name in kept or len(tensor.ne) < 2), tensor.name
    assert {e.key for e in ours.entries} == {e.key for e in theirs.entries}


def test_files_with_stock_values_say_nothing_of_compensation(finished) -> None:
    run, _ = finished
    assert run.result("quantize:Q4_K_M").compensated is None
    assert run.result("quantize:as-it-was").compensated is None
    assert not run.result("allocate:as-it-was").compensated


def test_divergence_of_the_written_file_is_what_the_search_measured(finished) -> None:
    """As of files with stock values: ``test_search`` says why within a step and a half."""
    run, _ = finished
    found = run.result("allocate:budget").search
    chosen = next(c for c in found.candidates if c.name == found.chosen)
    assert chosen.n_windows == N_WINDOWS
    printed = run.result("evaluate:budget:selection").damage.kld.value
    assert abs(chosen.kld.value - printed) < 1.5 * HALF_STEP
    assert chosen.kld.value > 50 * HALF_STEP
    stock = run.result("evaluate:as-it-was:selection").damage.kld.value
    assert abs(chosen.kld.value - stock) > 10 * HALF_STEP  # other values, another damage


def test_divergence_of_the_written_file_is_the_engines(finished, toolchain: Toolchain, tmp_path: Path) -> None:
    run, folder = finished
    types = {t.name: t.ggml_type for t in read_header(file_of(run, "by-type")).tensors if len(t.ne) > 1}
    types = {name: q for name, q in types.items() if q not in UNQUANTIZED}
    with Engine(toolchain, base_of(run), n_ctx=128, n_threads=1) as engine:
        text = (folder / "selection.txt").read_bytes().decode()
        engine.set_windows(spread_over(engine.cut(text), N_WINDOWS))
        values = compensated(run, toolchain, tmp_path / "values")
        mixer = Mixer(engine, values.importance, compensated=values)
        mixer.put(types)
        mine = engine.score().mean_kld
        mixer.put(types, rounding="weighted")
        assert abs(engine.score().mean_kld - mine) > 10 * HALF_STEP
    printed = run.result("evaluate:by-type:selection").damage.kld.value
    assert abs(mine - printed) < 1.5 * HALF_STEP


def test_gains_are_of_every_tensor_that_multiplies_and_lower_its_errors(finished) -> None:
    run, _ = finished
    gains = {g.tensor: dict(g.ratios) for g in run.result("grams").gains}
    header = read_header(base_of(run))
    assert set(gains) == {t.name for t in header.tensors if len(t.ne) > 1}
    for tensor, ratios in gains.items():
        assert set(ratios) == {"q2_K", "q3_K", "q4_K", "q5_K", "q6_K", "q8_0"}, tensor
        assert all(0 < r <= 1 for r in ratios.values())
        assert ratios["q8_0"] == 1
    assert np.median([ratios["q3_K"] for ratios in gains.values()]) < 0.9


SHORT = (
    "convert",
    "imatrix",
    "sensitivity",
    "grams",
    "allocate:budget",
    "allocate:by-type",
    "quantize:budget",
    "quantize:by-type",
)


def test_another_cache_more_threads_and_more_passes_make_the_same_files(
    finished, in_this_process: None, toolchain: Toolchain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, folder = finished
    monkeypatch.setattr(collecting, "MATRIX_BYTES", 1)
    again, log = carry_out(folder, tmp_path / "home", toolchain, RECIPE_OF_GRAMS + TARGETS, SHORT, n_threads=2)
    assert "grams" in log.fresh
    assert len(again.result("grams").files) > len(run.result("grams").files)
    assert again.result("grams").gains == run.result("grams").gains
    for name in COMPENSATED:
        assert file_of(again, name).read_bytes() == file_of(run, name).read_bytes()


def test_matrices_that_a_killed_run_left_damaged_are_collected_again(
    finished, toolchain: Toolchain, tmp_path: Path
) -> None:
    run, folder = finished
    home = tmp_path / "home"
    shutil.copytree(folder / "home", home, symlinks=True)
    (entry,) = home.glob("steps/grams-*")
    shutil.rmtree(entry)
    (file,) = home.glob("pieces/*.values/grams-0000.npz")
    good = file.read_bytes()
    file.chmod(0o644)
    file.write_bytes(good[: len(good) // 2] + bytes([good[len(good) // 2] ^ 4]) + good[len(good) // 2 + 1 :])
    again, log = carry_out(folder, home, toolchain, RECIPE_OF_GRAMS + TARGETS)
    assert log.fresh == ["grams"]
    assert again.result("grams") == run.result("grams")
    assert file.read_bytes() == good


def test_experts_are_written_too(toolchain: Toolchain, tmp_path: Path) -> None:
    write_inputs(tmp_path, write_tiny_moe)
    steps = ("convert", "imatrix", "grams", "allocate", "quantize")
    targets = '[[targets]]\nname = "by-type"\nftype = "Q3_K_M"\nvalues = "compensated"\n'
    run, _ = carry_out(tmp_path, tmp_path / "home", toolchain, RECIPE_OF_GRAMS + targets, steps)
    told = run.result("quantize:by-type").compensated
    assert told.n_tensors > 10
    assert {k.tensor: k.why for k in told.kept}["token_embd.weight"] == "no multiplication by it was seen"
