"""Blocks that predict further tokens (MTP) are in the file, and neither measured, swapped, scored nor cut; attention by
low-rank keys and values (MLA) is measured like any other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lwq.bits.mixes import Mixer
from lwq.bits.stock import unread
from lwq.engine.engine import Engine
from lwq.gguf.data import raw_tensor
from lwq.gguf.header import read_header
from lwq.gguf.imatrix import read_imatrix
from lwq.gguf.importance import importance_rows
from lwq.gguf.rewrite import rewrite_gguf
from lwq.gguf.types import split_name
from lwq.llama.toolchain import Toolchain
from tests.cli.test_main import lwq
from tests.run_tiny import LabelledRun, run_tiny, write_inputs
from tests.tiny_models import write_tiny_deepseek2, write_tiny_glm4

pytestmark = pytest.mark.tools
RECIPE = """
name = "tiny"
model = "tiny.gguf"
[calibration]
text = "calibration.txt"
n_ctx = 64
n_chunks = 6
[selection]
text = "selection.txt"
n_ctx = 64
n_chunks = 4
[evaluation]
text = "evaluation.txt"
n_ctx = 64
n_chunks = 5
[sensitivity]
n_windows = 2
n_selection_windows = 3
[pruning]
n_windows = 2
n_fit_windows = 4
[bench]
tests = []
[[targets]]
budget = "Q4_K_S"
types = ["k"]
[[targets]]
name = "pruned"
ftype = "Q8_0"
prune = 1
"""
WRITERS: dict[str, Callable[[Path], Path]] = {
    "glm4": lambda path: write_tiny_glm4(path, n_embd=256),
    "deepseek2": write_tiny_deepseek2,
}


def run(name: str, folder: Path, home: Path, toolchain: Toolchain) -> LabelledRun:
    write_inputs(folder)
    WRITERS[name](folder / "tiny.gguf")
    return run_tiny(folder, home, toolchain, RECIPE)[0]


@pytest.mark.parametrize("name", WRITERS)
def test_a_budget_and_a_removal_are_measured_on_the_layers_before(
    name: str, tmp_path: Path, tools_home: Path, toolchain: Toolchain
) -> None:
    done = run(name, tmp_path, tools_home, toolchain)
    base = read_header(tmp_path / "tiny.gguf")
    assert (base.n_layer, base.n_layer_all) == (4, 5)
    measured = done.result("sensitivity").tensors
    beyond = {t.tensor for t in measured if split_name(t.tensor)[0] == 4}
    assert beyond == unread(measured) != set()
    allocated = done.result(next(s for s in done.steps if s.module.NAME == "search"))
    stock = next(c for c in allocated.search.candidates if c.name == "stock Q4_K_S")
    types = dict(allocated.allocation.types)
    written = {t.name: t.ggml_type for t in read_header(tmp_path / "report" / "tiny-Q4_K_S_LWQ.gguf").tensors}
    assert {n: types[n] for n in beyond} == {n: written[n] for n in beyond}
    assert {q for n, q in written.items() if n in beyond} <= {"q4_K", "q5_K", "q6_K", "q8_0", "q5_0"}
    assert "q8_0" not in {written[n] for n in beyond if ".nextn." not in n and "ffn_" in n}
    assert allocated.tensor_bytes <= stock.n_bytes
    assert [s.layer for s in done.result("prune").layers] == [0, 1, 2, 3]
    pruned = read_header(tmp_path / "report" / "tiny-pruned.gguf")
    assert (pruned.n_layer, pruned.n_layer_all) == (3, 4)
    assert any(t.name.startswith("blk.3.nextn.") for t in pruned.tensors)


def test_importance_of_low_rank_keys_and_values_is_read_as_llama_quantize_reads_it(
    tmp_path: Path, tools_home: Path, toolchain: Toolchain
) -> None:
    write_inputs(tmp_path)
    write_tiny_deepseek2(tmp_path / "tiny.gguf")
    recipe = RECIPE.split("[[targets]]")[0] + "[[targets]]\nftype = \"IQ3_XXS\"\ntensor_types = ['blk\\.4\\.=q3_K']\n"
    done, _, _ = run_tiny(tmp_path, tools_home, toolchain, recipe)
    step = next(s for s in done.steps if s.label == "imatrix")
    entries = read_imatrix(done.entry(step).path(done.result(step).file)).entries
    flat = next(e for e in entries if e.name == "blk.1.attn_k_b.weight")
    assert flat.in_sum2.shape == (1, 8 * 64)
    header = read_header(tmp_path / "tiny.gguf")
    rows = importance_rows(entries, header.tensors)
    assert rows["blk.1.attn_k_b.weight"].shape == (8, 64)
    file = read_header(tmp_path / "report" / "tiny-IQ3_XXS.gguf")
    with Engine(toolchain, tmp_path / "tiny.gguf", n_ctx=64, n_threads=1) as engine:
        mixer = Mixer(engine, rows)
        for name in ("blk.1.attn_k_b.weight", "blk.1.attn_v_b.weight", "blk.2.attn_q_b.weight"):
            written = raw_tensor(file, name)
            assert mixer.stored(name, written.ggml_type).tobytes() == written.data.tobytes(), name


def test_a_file_with_the_block_and_one_without_are_of_one_model(tmp_path: Path, tools_home: Path) -> None:
    write_inputs(tmp_path)
    with_block = write_tiny_glm4(tmp_path / "mtp.gguf")
    trunk = {"glm4.nextn_predict_layers": 0, "glm4.block_count": 4}
    rewrite_gguf(read_header(with_block), tmp_path / "trunk.gguf", layers=(4,), metadata=trunk, tensors={})
    for model, base in (("mtp", "trunk"), ("trunk", "mtp")):
        options = ("--ctx", "64", "--chunks", "5", "--text", "evaluation.txt", "--json")
        said = lwq("compare", f"{model}.gguf", "--base", f"{base}.gguf", *options, cwd=tmp_path)
        assert said.code == 0, said.err
