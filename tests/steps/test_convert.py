"""Models as their publishers ship them: a Hugging Face folder is read, converted without loss, and run to its card."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lwq.gguf.data import read_tensor
from lwq.gguf.header import read_header
from lwq.llama.converter_env import current
from lwq.llama.toolchain import source_folder
from lwq.store.files import sha256_file
from tests.cli.test_main import lwq
from tests.conftest import REAL_HOME
from tests.tiny_models import write_tiny_text

pytestmark = pytest.mark.slow
RECIPE = """
name = "folder"
model = "tiny"
base_type = "bf16"
[calibration]
text = "calibration.txt"
n_ctx = 64
n_chunks = 6
[evaluation]
text = "evaluation.txt"
n_ctx = 64
n_chunks = 5
[bench]
tests = []
[[targets]]
ftype = "Q8_0"
"""


@pytest.fixture(scope="module")
def python() -> Path:
    """The converter's Python (`make test` makes it first)."""
    return REAL_HOME / "converter" / current().name / "bin" / "python"


@pytest.fixture
def write(python: Path, tmp_path: Path, tools_home: Path) -> Callable[[str], Path]:
    (tools_home / "converter").symlink_to(REAL_HOME / "converter")
    for seed, role in enumerate(("calibration", "evaluation")):
        write_tiny_text(tmp_path / f"{role}.txt", n_words=900, seed=seed)
    (tmp_path / "folder.toml").write_text(RECIPE, encoding="utf-8")

    def written(dtype: str) -> Path:
        program = Path(__file__).parents[1] / "hf_folders.py"
        subprocess.run([str(python), str(program), dtype, str(tmp_path / "tiny")], check=True)
        return tmp_path / "tiny"

    return written


@pytest.mark.parametrize("dtype", ["f32", "bf16", "f16"])
def test_a_folder_is_converted_without_rounding_and_stored_as_it_is_told(
    write: Callable[[str], Path], tmp_path: Path, python: Path, dtype: str
) -> None:
    folder = write(dtype)
    base_type = "bf16" if dtype == "bf16" else "f16"
    (tmp_path / "folder.toml").write_text(RECIPE.replace('"bf16"', f'"{base_type}"'), encoding="utf-8")
    planned = json.loads(lwq("plan", "folder.toml", "--json", cwd=tmp_path).out)
    said = lwq("run", "folder.toml", cwd=tmp_path)
    assert said.code == 0, said.err
    made = next((tmp_path / "reports" / "folder").glob("*-Q8_0.gguf")).stat().st_size
    assert planned["files"][0]["file_bytes"] == pytest.approx(made, rel=0.005)
    assert planned["steps"][0]["label"] == "convert"
    n_base = next((tmp_path / "reports" / "folder").glob(f"*-{base_type.upper()}.gguf")).stat().st_size
    assert planned["steps"][0]["disk_bytes"] == pytest.approx(n_base, rel=0.1)
    card = (tmp_path / "reports" / "folder" / "README.md").read_text(encoding="utf-8")
    assert f"Stored as: {dtype}" in card
    base = read_header(next((tmp_path / "reports" / "folder").glob(f"*-{base_type.upper()}.gguf")))
    code = (
        "import sys, torch, numpy as np; from safetensors.torch import load_file;"
        "np.save(sys.argv[2], load_file(sys.argv[1])['model.layers.1.mlp.up_proj.weight'].float().numpy())"
    )
    subprocess.run([str(python), "-c", code, str(folder / "model.safetensors"), str(tmp_path / "up.npy")], check=True)
    original, stored = np.load(tmp_path / "up.npy"), read_tensor(base, "blk.1.ffn_up.weight")
    wanted = original.astype(np.float16).astype(np.float32) if base_type == "f16" else original
    assert np.array_equal(stored, wanted)


@pytest.mark.parametrize("method", ["fp8", "compressed-tensors", "gptq"])
def test_what_a_publisher_quantized_is_turned_back_and_named(
    write: Callable[[str], Path], tmp_path: Path, method: str
) -> None:
    write(method)
    planned = json.loads(lwq("plan", "folder.toml", "--json", cwd=tmp_path).out)
    said = lwq("run", "folder.toml", cwd=tmp_path)
    assert said.code == 0, said.err
    report = tmp_path / "reports" / "folder"
    assert f"is quantized itself ({method})" in (report / "README.md").read_text(encoding="utf-8")
    assert planned["files"][0]["file_bytes"] == pytest.approx((report / "tiny-Q8_0.gguf").stat().st_size, rel=0.005)
    stored = read_tensor(read_header(report / "tiny-BF16.gguf"), "blk.1.ffn_up.weight")
    np.testing.assert_allclose(stored, np.load(tmp_path / "wanted.npy"), rtol=2**-8, atol=0)


def test_a_method_that_the_converter_does_not_turn_back_is_refused_by_name(
    write: Callable[[str], Path], tmp_path: Path
) -> None:
    write("awq")
    for command in ("plan", "run"):
        said = lwq(command, "folder.toml", cwd=tmp_path)
        assert said.code == 1
        assert "its weights are quantized by awq" in said.err


def test_a_value_of_f32_beyond_f16_is_named_and_bf16_is_offered(
    write: Callable[[str], Path], tmp_path: Path, python: Path
) -> None:
    folder = write("f32")
    code = (
        "import sys; from safetensors.torch import load_file, save_file; t = load_file(sys.argv[1]);"
        "t['model.layers.2.mlp.up_proj.weight'][0, 0] = 1e5; save_file(t, sys.argv[1], metadata={'format': 'pt'})"
    )
    subprocess.run([str(python), "-c", code, str(folder / "model.safetensors")], check=True)
    (tmp_path / "folder.toml").write_text(RECIPE.replace('"bf16"', '"f16"'), encoding="utf-8")
    said = lwq("run", "folder.toml", cwd=tmp_path)
    assert said.code == 1
    assert "1 values are beyond F16's range, first in blk.2.ffn_up.weight" in said.err
    assert 'base_type = "bf16"' in said.err


def test_what_a_recipe_asks_in_vain_is_told_before_the_conversion(write: Callable[[str], Path], tmp_path: Path) -> None:
    write("bf16")
    (tmp_path / "folder.toml").write_text(f"{RECIPE}tensor_types = ['attn_vv=q6_k']\n", encoding="utf-8")
    said = lwq("run", "folder.toml", cwd=tmp_path)
    assert said.code == 2
    assert "'attn_vv' is found in no tensor" in said.err
    assert "convert" not in said.err.replace("may convert", "")
    assert source_folder().is_dir()
    assert json.loads((tmp_path / "tiny" / "config.json").read_text())["num_hidden_layers"] == 4


def test_a_python_of_the_users_own_is_taken_and_checked(
    write: Callable[[str], Path], tmp_path: Path, python: Path
) -> None:
    write("bf16")
    said = lwq("run", "folder.toml", cwd=tmp_path, LWQ_CONVERT_PYTHON=sys.executable)
    assert said.code == 1
    assert "lacks torch, transformers" in said.err
    here = os.path.relpath(python, tmp_path)
    assert lwq("run", "folder.toml", cwd=tmp_path, LWQ_CONVERT_PYTHON=here).code == 0


def test_the_layout_of_mistral_small_goes_to_its_card_with_its_projector(
    write: Callable[[str], Path], tmp_path: Path
) -> None:
    """A tower for images, a tekken file and no other tokenizer: one stock target, one budget, two layers removed.

    Values are stock ones, since the head of that vocabulary alone has 33 million weights.
    """
    write("mistral3")
    more = (
        "[selection]\ntext = 'selection.txt'\nn_ctx = 64\nn_chunks = 4\n[pruning]\nn_windows = 2\nn_fit_windows = 4\n"
    )
    more += "[sensitivity]\nn_windows = 2\nn_selection_windows = 3\n[[targets]]\nbudget = 'Q4_K_M'\ntypes = ['k']\n"
    more += "values = 'stock'\n[[targets]]\nname = 'pruned'\nftype = 'Q4_K_M'\nprune = 2\n"
    write_tiny_text(tmp_path / "selection.txt", n_words=900, seed=2)
    (tmp_path / "folder.toml").write_text(RECIPE + more, encoding="utf-8")
    assert lwq("init", "tiny", cwd=tmp_path).code == 0
    assert lwq("plan", "folder.toml", cwd=tmp_path).code == 0
    said = lwq("run", "folder.toml", cwd=tmp_path)
    assert said.code == 0, said.err
    report = tmp_path / "reports" / "folder"
    card = (report / "README.md").read_text(encoding="utf-8")
    assert "Stored as: bf16" in card
    assert "mmproj-tiny-F16.gguf" in card
    assert read_header(report / "mmproj-tiny-F16.gguf").architecture == "clip"
    assert read_header(report / "tiny-pruned.gguf").n_layer == 3
    file = report / "mmproj-tiny-F16.gguf"
    tower = json.loads((report / "record.json").read_text(encoding="utf-8"))["projector"]
    n_bytes, digest = file.stat().st_size, sha256_file(file)
    assert (tower["file"], tower["file_bytes"], tower["sha256"]) == (file.name, n_bytes, digest)
    assert f"| `{file.name}` | F16 | {n_bytes:,} |" in card
    assert f"| `{file.name}` | `{digest}` |" in (report / "DETAILS.md").read_text(encoding="utf-8")
