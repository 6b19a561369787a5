"""Without its blocks of further tokens a model predicts what it predicted, in less room, and llama.cpp runs it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lwq.errors import ModelError
from lwq.gguf.header import read_header
from lwq.gguf.rewrite import rewrite_gguf
from lwq.layers.further import drop_further, header_without_further, without_further
from lwq.llama import converter
from lwq.llama.requests import Ran
from lwq.llama.toolchain import Toolchain
from lwq.plan.assemble import assemble
from lwq.steps import convert
from lwq.steps.step import Context, Given
from tests.cli.test_main import lwq
from tests.gguf.test_hf_folder import stored
from tests.run_tiny import run_tiny, write_inputs
from tests.tiny_models import write_tiny_deepseek2, write_tiny_glm4, write_tiny_llama

RECIPE = """
name = "tiny"
model = "tiny.gguf"
mtp = "MTP"
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


def test_counts_and_arrays_of_one_value_a_block_are_cut(tmp_path: Path) -> None:
    plain = read_header(write_tiny_glm4(tmp_path / "plain.gguf"))
    arrays = {"glm4.attention.head_count_kv_of_each": (1, 2, 3, 4, 5), "glm4.rope.dimension_sections": (8, 8, 8, 8, 0)}
    model = rewrite_gguf(plain, tmp_path / "model.gguf", metadata=arrays, tensors={})
    assert without_further(model) == {
        "glm4.block_count": 4,
        "glm4.nextn_predict_layers": 0,
        "glm4.attention.head_count_kv_of_each": (1, 2, 3, 4),
    }
    written = drop_further(model, tmp_path / "without.gguf")
    assert (written.n_layer, written.n_layer_all, written.n_layer_nextn) == (4, 4, 0)
    beyond = {t.name for t in model.tensors_nextn}
    assert len(beyond) == 13
    assert {t.name for t in written.tensors} == {t.name for t in model.tensors} - beyond


def test_what_has_none_or_reads_them_is_refused(tmp_path: Path) -> None:
    llama = read_header(write_tiny_llama(tmp_path / "llama.gguf", n_layer=3))
    with pytest.raises(ModelError, match="no block of it predicts further tokens"):
        drop_further(llama, tmp_path / "out.gguf")
    assert header_without_further(llama) is llama
    switch = rewrite_gguf(
        llama,
        tmp_path / "switch.gguf",
        metadata={
            "general.architecture": "granite-switch",
            "granite-switch.block_count": 3,
            "granite-switch.nextn_predict_layers": 1,
        },
        tensors={},
    )
    with pytest.raises(ModelError, match="is a router"):
        drop_further(switch, tmp_path / "out.gguf")


def test_the_twin_has_the_header_of_what_is_written_and_no_data(tmp_path: Path, guarded: Path) -> None:
    model = read_header(write_tiny_glm4(tmp_path / "model.gguf"))
    written, twin = drop_further(model, tmp_path / "without.gguf"), header_without_further(model)
    assert twin.path.parent == guarded / "twins"
    assert (twin.metadata, twin.tensors) == (written.metadata, written.tensors)
    assert twin.file_bytes == written.file_bytes
    assert twin.path.stat().st_blocks * 512 < written.path.stat().st_blocks * 512
    assert header_without_further(model).path == twin.path


@pytest.mark.tools
@pytest.mark.parametrize("write", [write_tiny_glm4, write_tiny_deepseek2])
def test_files_without_the_blocks_predict_the_same_in_less_room(
    write: Callable[[Path], Path], tmp_path: Path, toolchain: Toolchain
) -> None:
    write_inputs(tmp_path)
    write(tmp_path / "tiny.gguf")
    records = {}
    for mtp in ("keep", "drop"):
        run, _, _ = run_tiny(tmp_path, tmp_path / "home", toolchain, RECIPE.replace("MTP", mtp))
        records[mtp] = assemble(run)
    kept, dropped = records["keep"], records["drop"]
    assert dropped.baseline == kept.baseline
    for with_it, without in zip(kept.rows, dropped.rows, strict=True):
        assert without.evaluation == with_it.evaluation
        assert without.file_bytes < with_it.file_bytes
    assert dropped.rows[1].predicted_file_bytes == dropped.rows[1].file_bytes
    header = read_header(tmp_path / "report" / "tiny-Q8_0.gguf")
    assert (header.n_layer_all, header.n_layer_nextn) == (4, 0)
    n = len(read_header(tmp_path / "tiny.gguf").tensors_nextn)
    assert any(note.startswith(f"{n} tensors of each file predict further tokens: ") for note in kept.model.notes)
    assert any(
        note.startswith("Left out: 1 block that predicts further tokens (MTP), ") for note in dropped.model.notes
    )
    assert not any("further" in note for note in dropped.model.notes if not note.startswith("Left out"))
    assert dropped.commands[0].argv == ("lwq", "drop-mtp", "tiny.gguf", "--out", "tiny-F16.gguf")


@pytest.mark.tools
def test_plan_tells_the_room_of_the_blocks_and_sizes_without_them(tmp_path: Path, tools_home: Path) -> None:
    write_inputs(tmp_path)
    model = read_header(write_tiny_glm4(tmp_path / "tiny.gguf"))
    (tmp_path / "keep.toml").write_text(RECIPE.replace("MTP", "keep"), encoding="utf-8")
    (tmp_path / "drop.toml").write_text(RECIPE.replace("MTP", "drop"), encoding="utf-8")
    kept, dropped = lwq("plan", "keep.toml", cwd=tmp_path), lwq("plan", "drop.toml", cwd=tmp_path)
    assert f"note: {len(model.tensors_nextn)} tensors of each file predict further tokens" in kept.out
    assert 'of Q8_0); mtp = "drop" leaves them out' in kept.out
    assert "further tokens" not in dropped.out
    values = json.loads(lwq("plan", "drop.toml", "--json", cwd=tmp_path).out)
    made = lwq("run", "drop.toml", cwd=tmp_path)
    assert made.code == 0, made.err
    written = read_header(tmp_path / "reports" / "tiny" / "tiny-Q8_0.gguf")
    assert values["files"][0]["tensor_bytes"] == sum(t.n_bytes for t in written.tensors)
    said = lwq("drop-mtp", "tiny.gguf", "--out", "without.gguf", cwd=tmp_path)
    assert said.code == 0, said.err
    assert (tmp_path / "without.gguf").read_bytes() == (tmp_path / "reports" / "tiny" / "tiny-F16.gguf").read_bytes()
    assert lwq("drop-mtp", "without.gguf", "--out", "again.gguf", cwd=tmp_path).code == 1


def converted(
    tmp_path: Path, toolchain: Toolchain, kind: str, source: Path, base_type: str
) -> tuple[Context, convert.Result]:
    folder = tmp_path / "work"
    folder.mkdir()
    ctx = Context(
        folder=folder,
        toolchain=toolchain,
        n_threads=1,
        progress=lambda done, total: None,
        entries={},
        given={"a": (source,)},
    )
    inputs = convert.Inputs(
        source=Given(sha256="a", name=source.name), kind=kind, base_type=base_type, file="base.gguf", mtp="drop"
    )  # type: ignore[arg-type]
    return ctx, convert.run(inputs, ctx)


@pytest.mark.tools
@pytest.mark.parametrize("base_type", ["f16", "bf16"])
@pytest.mark.parametrize("name", ["tiny.gguf", "base.gguf"])
def test_of_a_gguf_only_the_base_is_left(tmp_path: Path, toolchain: Toolchain, base_type: str, name: str) -> None:
    ctx, result = converted(tmp_path, toolchain, "gguf", write_tiny_glm4(tmp_path / name), base_type)
    assert {p.name for p in ctx.folder.iterdir() if not p.is_symlink()} == {"base.gguf"}
    base = read_header(ctx.folder / "base.gguf")
    assert (base.n_layer_all, base.n_layer_nextn) == (4, 0)
    assert {t.ggml_type for t in base.tensors} == {base_type, "f32"}
    assert not result.keep_links


@pytest.mark.tools
@pytest.mark.parametrize("base_type", ["f16", "bf16"])
def test_a_folder_is_converted_whole_and_then_lacks_them(
    tmp_path: Path, toolchain: Toolchain, monkeypatch: pytest.MonkeyPatch, base_type: str
) -> None:
    source, model = tmp_path / "folder", write_tiny_glm4(tmp_path / "model.gguf")
    source.mkdir()
    (source / "config.json").write_text('{"architectures": ["Glm4ForCausalLM"]}', encoding="utf-8")
    (source / "tokenizer.json").write_text("{}", encoding="utf-8")
    (source / "model.safetensors").write_bytes(stored({"one": ("F16", (2,))}))

    def written(folder: str, output: str, *, cwd: Path, **_: object) -> Ran:
        shutil.copy(model, cwd / output)
        return Ran(argv=("python", "convert_hf_to_gguf.py", folder, output), seconds=0.0)

    monkeypatch.setattr(converter, "hf_to_gguf", written)
    ctx, _ = converted(tmp_path, toolchain, "hf-folder", source, base_type)
    assert {p.name for p in ctx.folder.iterdir() if not p.is_symlink()} == {"base.gguf"}
    assert read_header(ctx.folder / "base.gguf").n_layer_nextn == 0
    out = "base.gguf" if base_type == "f16" else "without-mtp.gguf"
    assert ("lwq", "drop-mtp", "original.gguf", "--out", out) in ctx.commands
