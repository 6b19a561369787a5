"""A file without some layers predicts what the loaded model predicts when these layers do nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFValueType, GGUFWriter
from gguf.quants import quantize

from lwq.engine.engine import Engine
from lwq.engine.generation import check_generates
from lwq.engine.session import spread_over
from lwq.errors import LwqError, ModelError
from lwq.gguf import rewrite
from lwq.gguf.data import raw_tensor, read_tensor, tensor_section_sha256
from lwq.gguf.header import GgufHeader, read_array, read_header
from lwq.gguf.rewrite import overwrite, rewrite_gguf
from lwq.layers.pruning import Changes, prune_obstacle, without_layers
from lwq.llama import tools
from lwq.llama.requests import QuantizeRequest
from lwq.llama.toolchain import Toolchain
from lwq.metrics.arrays import Floats
from tests import tiny_models
from tests.tiny_models import write_tiny_llama, write_tiny_text

N_CTX = 128
WRITERS: dict[str, Callable[[Path], Path]] = {
    "llama": write_tiny_llama,
    "moe": tiny_models.write_tiny_moe,
    "phi3": tiny_models.write_tiny_phi3,
    "deci": tiny_models.write_tiny_deci,
    "gemma2": tiny_models.write_tiny_gemma2,
    "gemma3": tiny_models.write_tiny_gemma3,
    "spark": tiny_models.write_tiny_spark,
    "smollm3": tiny_models.write_tiny_smollm3,
    "dots1": tiny_models.write_tiny_dots1,
    "glm4": tiny_models.write_tiny_glm4,
    "lfm2": tiny_models.write_tiny_lfm2,
}


class Case(NamedTuple):
    model: str
    layers: tuple[int, ...]


PLAIN = [
    Case("llama", (1,)), Case("llama", (0, 2)), Case("llama", (1, 3)), Case("moe", (1,)), Case("phi3", (1,)),
    Case("gemma2", (2, 3)), Case("gemma2", (1, 2)), Case("gemma2", (4, 5)), Case("gemma3", (6,)),
    Case("smollm3", (1, 2, 3, 4)), Case("smollm3", (8,)), Case("dots1", (3,)), Case("dots1", (2, 4)),
]  # fmt: skip
"""What llama-quantize alone gets right."""
REWRITTEN = [
    Case("deci", (1,)), Case("deci", (1, 2)), Case("deci", (0, 1)), Case("gemma2", (2,)), Case("gemma2", (0,)),
    Case("gemma2", (1, 3)), Case("gemma3", (1,)), Case("gemma3", (5,)),
    Case("gemma3", (2, 4)), Case("spark", (1,)), Case("spark", (2, 3)), Case("spark", (0,)), Case("dots1", (1,)),
    Case("dots1", (0, 3)), Case("dots1", (0, 1)), Case("glm4", (1,)), Case("glm4", (1, 3)), Case("lfm2", (1,)),
    Case("lfm2", (2, 3)), Case("lfm2", (2,)),
]  # fmt: skip
"""What needs other metadata as well."""
REFUSED = [
    Case("deci", (0,)), Case("gemma2", (0, 2, 4)), Case("smollm3", (1,)), Case("smollm3", (1, 2, 3)),
    Case("smollm3", (0,)), Case("glm4", (4,)), Case("lfm2", (1, 3)), Case("lfm2", (0,)),
]  # fmt: skip


def named(case: object) -> str:
    return f"{case.model}-{'-'.join(map(str, case.layers))}" if isinstance(case, Case) else str(case)


def changes(header: GgufHeader, layers: tuple[int, ...]) -> Changes:
    return without_layers(header.architecture, header.n_layer_all, header.metadata, layers)


def logits(toolchain: Toolchain, model: Path, text: Path, skipped: tuple[int, ...] = ()) -> list[Floats]:
    """Of two windows, computed by llama.cpp as a whole."""
    with Engine(toolchain, model, n_ctx=N_CTX, n_threads=1) as engine:
        engine.set_windows(spread_over(engine.cut(text.read_bytes().decode()), 2))
        for layer in skipped:
            engine.skip_layer(layer)
        return [engine.logits(w, -1).copy() for w in range(2)]


def same(a: list[Floats], b: list[Floats]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.tools
@pytest.mark.parametrize("case", [*PLAIN, *REWRITTEN], ids=named)
def test_written_file_is_the_model_with_layers_that_do_nothing(case: Case, toolchain, tmp_path: Path) -> None:
    header = read_header(WRITERS[case.model](tmp_path / "tiny.gguf"))
    out, text = tmp_path / "out.gguf", write_tiny_text(tmp_path / "text.txt", n_words=600)
    written = rewrite_gguf(header, out, layers=case.layers, metadata=changes(header, case.layers), tensors={})
    assert written.n_layer == header.n_layer - len(case.layers)
    whole = logits(toolchain, header.path, text)
    skipped = logits(toolchain, header.path, text, case.layers)
    assert not same(skipped, whole)
    assert same(logits(toolchain, out, text), skipped)
    check_generates(toolchain, out)


@pytest.mark.tools
@pytest.mark.parametrize("case", PLAIN, ids=named)
def test_where_llama_quantize_is_right_its_tensors_are_the_same(case: Case, toolchain, tmp_path: Path) -> None:
    header = read_header(WRITERS[case.model](tmp_path / "tiny.gguf"))
    assert prune_obstacle(header.architecture, header.n_layer_all, header.metadata, case.layers) is None
    request = QuantizeRequest(model="tiny.gguf", ftype="F16", prune_layers=case.layers, output="theirs.gguf")
    tools.quantize(toolchain, request, cwd=tmp_path, threads=1)
    out = tmp_path / "out.gguf"
    rewrite_gguf(header, out, layers=case.layers, metadata=changes(header, case.layers), tensors={})
    assert tensor_section_sha256(out) == tensor_section_sha256(tmp_path / "theirs.gguf")


@pytest.mark.parametrize("case", [*REWRITTEN, *REFUSED], ids=named)
def test_obstacle_is_said_where_llama_quantize_would_be_wrong(case: Case, tmp_path: Path) -> None:
    header = read_header(WRITERS[case.model](tmp_path / "tiny.gguf"))
    assert prune_obstacle(header.architecture, header.n_layer_all, header.metadata, case.layers)


@pytest.mark.tools
@pytest.mark.parametrize("case", [c for c in [*REWRITTEN, *REFUSED] if c.model != "glm4"], ids=named)
def test_obstacle_is_real(case: Case, toolchain: Toolchain, tmp_path: Path) -> None:
    """Only ``block_count`` changed: the file does not load, or it predicts something else."""
    header = read_header(WRITERS[case.model](tmp_path / "tiny.gguf"))
    out, text = tmp_path / "out.gguf", write_tiny_text(tmp_path / "text.txt", n_words=600)
    count = {f"{header.architecture}.block_count": header.n_layer - len(case.layers)}
    rewrite_gguf(header, out, layers=case.layers, metadata=count, tensors={})
    try:
        check_generates(toolchain, out)
        found = logits(toolchain, out, text)
    except LwqError:
        return
    assert not same(found, logits(toolchain, header.path, text, case.layers))


@pytest.mark.parametrize("case", REFUSED, ids=named)
def test_refusal_says_why_and_what_may_go(case: Case, tmp_path: Path) -> None:
    header = read_header(WRITERS[case.model](tmp_path / "tiny.gguf"))
    with pytest.raises(ModelError, match="cannot go") as caught:
        changes(header, case.layers)
    assert caught.value.hint


# bytes


def kv_bytes(header: GgufHeader) -> dict[str, bytes]:
    raw = header.path.read_bytes()
    return {e.key: raw[e.offset : e.offset + e.n_bytes] for e in header.entries}


def test_all_else_is_copied_byte_for_byte(tmp_path: Path) -> None:
    source = read_header(write_tiny_llama(tmp_path / "tiny.gguf", ggml_type="q8_0"))
    written = rewrite_gguf(source, tmp_path / "out.gguf", layers=(1, 2), metadata=changes(source, (1, 2)), tensors={})
    before, after = kv_bytes(source), kv_bytes(written)
    assert list(before) == list(after)
    assert {k for k in before if before[k] != after[k]} == {"llama.block_count"}
    for tensor in written.tensors:
        old = tensor.name.replace("blk.1.", "blk.3.")
        assert raw_tensor(written, tensor.name).data.tobytes() == raw_tensor(source, old).data.tobytes()
    assert len(written.tensors) == len(source.tensors) - 2 * 9


def typed_model(path: Path) -> GgufHeader:
    """A file with value types that a model seldom has."""
    writer = GGUFWriter(path, arch="llama")
    writer.add_key_value("llama.block_count", 3, GGUFValueType.UINT64)
    writer.add_key_value("x.small", 3, GGUFValueType.UINT8)
    writer.add_key_value("x.text", "a", GGUFValueType.STRING)
    writer.add_key_value("x.double", 0.5, GGUFValueType.FLOAT64)
    writer.add_array("x.flags", [True, False])
    writer.add_array("x.vocabulary", [f"token {i}" for i in range(5000)])
    writer.add_tensor("blk.0.a.weight", np.ones((2, 32), np.float16))
    writer.add_tensor("blk.1.a.weight", np.ones((2, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return read_header(path)


def test_value_types_stay_and_new_keys_have_the_usual_ones(tmp_path: Path) -> None:
    source = typed_model(tmp_path / "typed.gguf")
    new = {"x.small": 4, "x.text": "longer", "x.double": 0.1, "x.flags": (False, True, True), "llama.block_count": 2}
    added = {"y.s": "é", "y.n": 5, "y.less": -5, "y.x": 1.5, "y.b": True, "y.ns": (1, -2), "y.bs": (True,)}
    header = rewrite_gguf(source, tmp_path / "out.gguf", metadata={**new, **added}, tensors={})
    assert {k: header.metadata[k] for k in (*new, *added)} == {**new, **added}
    assert {e.key: e.value_type for e in header.entries} == {
        **{e.key: e.value_type for e in source.entries},
        "y.s": "string", "y.n": "uint32", "y.less": "int32", "y.x": "float32", "y.b": "bool",
        "y.ns": "array[int32]", "y.bs": "array[bool]",
    }  # fmt: skip
    assert read_array(header, "x.vocabulary") == read_array(source, "x.vocabulary")


def test_an_array_may_take_the_place_of_a_number(tmp_path: Path) -> None:
    header = rewrite_gguf(
        typed_model(tmp_path / "a.gguf"), tmp_path / "b.gguf", metadata={"x.small": (True, False)}, tensors={}
    )
    assert header.metadata["x.small"] == (True, False)


def test_a_value_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"x\.small: 300 does not fit in uint8"):
        rewrite_gguf(typed_model(tmp_path / "a.gguf"), tmp_path / "b.gguf", metadata={"x.small": 300}, tensors={})


def test_shards_become_one_file(tmp_path: Path) -> None:
    first = read_header(tiny_models.write_split_llama(tmp_path, n_shards=3))
    whole = read_header(write_tiny_llama(tmp_path / "whole.gguf", n_layer=2))
    written = rewrite_gguf(first, tmp_path / "out.gguf", metadata={}, tensors={})
    assert len(written.shards) == 1
    assert not [key for key in written.metadata if key.startswith("split.")]
    assert {t.name for t in written.tensors} == {t.name for t in whole.tensors}
    for t in whole.tensors:
        assert np.array_equal(read_tensor(written, t.name), read_tensor(whole, t.name))


@pytest.mark.parametrize("ggml_type", ["f32", "f16", "bf16"])
def test_replaced_tensors_are_stored_in_the_type_of_the_source(ggml_type: str, tmp_path: Path) -> None:
    source = read_header(write_tiny_llama(tmp_path / "tiny.gguf", n_layer=3, ggml_type=ggml_type))
    name = "blk.2.ffn_down.weight"
    values = np.random.default_rng(1).standard_normal((256, 256), dtype=np.float32)
    values[0, :4] = (np.nan, np.inf, -0.0, 1e-40)
    written = rewrite_gguf(
        source, tmp_path / "out.gguf", layers=(1,), metadata=changes(source, (1,)), tensors={name: values}
    )  # fmt: skip
    raw = raw_tensor(written, "blk.1.ffn_down.weight")
    kind = GGMLQuantizationType[ggml_type.upper()]
    theirs = quantize(values, kind)
    assert raw.ggml_type == ggml_type
    finite = ~np.isnan(values)  # which NaN it is is not told
    ours = raw.data.view(theirs.dtype if ggml_type != "bf16" else np.uint16).reshape(values.shape)
    expected = theirs if ggml_type != "bf16" else theirs.view(np.uint16).reshape(values.shape)
    assert np.array_equal(ours[finite], expected[finite])
    assert np.isnan(read_tensor(written, "blk.1.ffn_down.weight")[0, 0])


@pytest.mark.tools
def test_an_added_tensor_lies_behind_its_module_and_is_used(toolchain: Toolchain, tmp_path: Path) -> None:
    source = read_header(write_tiny_llama(tmp_path / "tiny.gguf"))
    bias = np.linspace(-1, 1, 256, dtype=np.float32)
    out, text = tmp_path / "out.gguf", write_tiny_text(tmp_path / "text.txt", n_words=600)
    change = changes(source, (1,))
    written = rewrite_gguf(source, out, layers=(1,), metadata=change, tensors={"blk.3.ffn_down.bias": bias})
    names = [t.name for t in written.tensors]
    assert names[names.index("blk.2.ffn_down.bias") - 1] == "blk.2.ffn_down.weight"
    assert np.array_equal(read_tensor(written, "blk.2.ffn_down.bias"), bias)
    assert not same(logits(toolchain, out, text), logits(toolchain, source.path, text, (1,)))


def test_what_cannot_be_stored_is_refused(tmp_path: Path) -> None:
    source = read_header(write_tiny_llama(tmp_path / "tiny.gguf", ggml_type="q8_0"))
    square, out = np.zeros((256, 256), np.float32), tmp_path / "out.gguf"
    with pytest.raises(ModelError, match="is q8_0; new values can be stored as f32, f16 or bf16"):
        rewrite_gguf(source, out, metadata={}, tensors={"blk.1.ffn_up.weight": square})
    with pytest.raises(ModelError, match=r"has shape \(256,\), its new values \(256, 256\)"):
        rewrite_gguf(source, out, metadata={}, tensors={"blk.1.ffn_norm.weight": square})
    with pytest.raises(ModelError, match="its layer is removed"):
        rewrite_gguf(source, out, layers=(1,), metadata={}, tensors={"blk.1.ffn_norm.weight": square[0]})
    with pytest.raises(ModelError, match="a file of the model itself"):
        rewrite_gguf(source, source.path, metadata={}, tensors={})
    assert [p.name for p in tmp_path.iterdir()] == ["tiny.gguf"]


def test_a_source_cut_short_meanwhile_leaves_nothing(tmp_path: Path) -> None:
    source = read_header(write_tiny_llama(tmp_path / "tiny.gguf"))
    with source.path.open("r+b") as file:
        file.truncate(source.file_bytes // 2)
    with pytest.raises(ModelError, match="ends within tensor"):
        rewrite_gguf(source, tmp_path / "out.gguf", metadata={}, tensors={})
    assert [p.name for p in tmp_path.iterdir()] == ["tiny.gguf"]


@pytest.mark.parametrize(
    ("model", "label", "expected"), [("llama", "9B", "1.2M"), ("moe", "4x9B", "4x888K"), ("moe", "9B", "2.1M")]
)
def test_the_size_label_is_of_what_is_left(model: str, label: str, expected: str, tmp_path: Path) -> None:
    """llama: 82,176 + 3 layers of 360,960; moe: 164,096 + 2 layers of 165,376 and 4 experts of 196,608 each."""
    plain = read_header(WRITERS[model](tmp_path / "tiny.gguf"))
    source = rewrite_gguf(plain, tmp_path / "a.gguf", metadata={"general.size_label": label}, tensors={})
    untouched = rewrite_gguf(source, tmp_path / "b.gguf", metadata={}, tensors={})
    assert untouched.text("general.size_label") == label
    written = rewrite_gguf(source, tmp_path / "c.gguf", layers=(1,), metadata=changes(source, (1,)), tensors={})
    assert written.text("general.size_label") == expected


def test_without_data_a_copy_is_as_large_and_takes_no_room(tmp_path: Path) -> None:
    source = read_header(write_tiny_llama(tmp_path / "tiny.gguf"))
    whole = rewrite_gguf(source, tmp_path / "whole.gguf", layers=(1,), metadata=changes(source, (1,)), tensors={})
    bare = rewrite_gguf(
        source, tmp_path / "bare.gguf", layers=(1,), metadata=changes(source, (1,)), tensors={}, with_data=False
    )
    assert (bare.tensors, bare.metadata, bare.file_bytes) == (whole.tensors, whole.metadata, whole.file_bytes)
    head = bare.data_offset
    assert bare.path.read_bytes() == whole.path.read_bytes()[:head] + bytes(whole.file_bytes - head)
    assert bare.path.stat().st_blocks * 512 < whole.file_bytes // 2


def test_added_tensors_lie_behind_their_module_else_their_layer_else_at_the_end(tmp_path: Path) -> None:
    source = read_header(write_tiny_llama(tmp_path / "tiny.gguf"))
    names = ("blk.1.ffn_down.bias", "blk.1.x.weight", "output_norm.bias", "extra.weight", "blk.9.y.weight")
    added = {name: np.arange(32, dtype=np.float32).reshape(2, 16) for name in names}
    written = rewrite_gguf(source, tmp_path / "out.gguf", metadata={}, tensors=added)
    found = [t.name for t in written.tensors]
    before = {name: found[found.index(name) - 1] for name in names}
    last = [t.name for t in written.tensors if t.layer == 1 and t.name not in names][-1]
    assert before == {
        "blk.1.ffn_down.bias": "blk.1.ffn_down.weight",
        "blk.1.x.weight": last,
        "output_norm.bias": "output_norm.weight",
        "extra.weight": "token_embd.weight",
        "blk.9.y.weight": found[-2],
    }
    assert found[-1] == "blk.9.y.weight"
    for name in names:
        info = written.find(name)[1]
        assert (info.ne, info.ggml_type) == ((16, 2), "f32")
        assert np.array_equal(read_tensor(written, name), added[name])


def test_a_size_label_of_the_callers_own_stays(tmp_path: Path) -> None:
    plain = read_header(write_tiny_llama(tmp_path / "tiny.gguf"))
    source = rewrite_gguf(plain, tmp_path / "a.gguf", metadata={"general.size_label": "9B"}, tensors={})
    own = {**changes(source, (1,)), "general.size_label": "own"}
    written = rewrite_gguf(source, tmp_path / "b.gguf", layers=(1,), metadata=own, tensors={})
    assert written.text("general.size_label") == "own"
    bare = rewrite_gguf(plain, tmp_path / "c.gguf", layers=(1,), metadata=changes(plain, (1,)), tensors={})
    assert "general.size_label" not in bare.metadata


def test_large_tensors_are_copied_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewrite, "_PIECE_BYTES", 1000)
    source = read_header(write_tiny_llama(tmp_path / "tiny.gguf", n_layer=1))
    written = rewrite_gguf(source, tmp_path / "out.gguf", metadata={}, tensors={})
    for t in source.tensors:
        assert np.array_equal(raw_tensor(written, t.name).data, raw_tensor(source, t.name).data)


# other bytes in place


@pytest.mark.parametrize("write", [write_tiny_llama, tiny_models.write_split_llama], ids=["one file", "shards"])
def test_overwritten_tensor_holds_the_new_bytes_and_all_else_the_old(write: Callable[..., Path], tmp_path) -> None:
    path = write(tmp_path if write is tiny_models.write_split_llama else tmp_path / "tiny.gguf")
    header, name = read_header(path), "blk.1.attn_k.weight"
    shard, tensor = header.find(name)
    at = slice(shard.data_offset + tensor.offset, shard.data_offset + tensor.offset + tensor.n_bytes)
    before = {s.path: s.path.read_bytes() for s in header.shards}
    new = np.random.default_rng(1).integers(0, 256, (tensor.ne[1], tensor.n_bytes // tensor.ne[1]), np.uint8)
    overwrite(header, name, np.asfortranarray(new))  # whatever the strides
    expected = bytearray(before[shard.path])
    expected[at] = new.tobytes()
    assert {s.path: s.path.read_bytes() for s in header.shards} == {**before, shard.path: bytes(expected)}
    assert read_header(path).tensors == header.tensors
    assert np.array_equal(raw_tensor(header, name).data, new)


def test_bytes_of_another_size_are_refused_and_the_file_stays(tmp_path: Path) -> None:
    header = read_header(write_tiny_llama(tmp_path / "tiny.gguf", n_layer=1))
    before = header.path.read_bytes()
    n = header.find("blk.0.attn_k.weight")[1].n_bytes
    for wrong in (n - 1, n + 1, 0):
        with pytest.raises(ModelError, match=rf"blk\.0\.attn_k\.weight: {wrong} bytes do not replace {n}"):
            overwrite(header, "blk.0.attn_k.weight", np.zeros(wrong, np.uint8))
    with pytest.raises(ModelError, match=r"blk\.9\.attn_k\.weight"):
        overwrite(header, "blk.9.attn_k.weight", np.zeros(n, np.uint8))
    assert header.path.read_bytes() == before


def test_file_that_is_gone_is_named(tmp_path: Path) -> None:
    header = read_header(write_tiny_llama(tmp_path / "tiny.gguf", n_layer=1))
    data = np.array(raw_tensor(header, "blk.0.attn_k.weight").data)
    header.path.unlink()
    with pytest.raises(LwqError, match=r"tiny\.gguf"):
        overwrite(header, "blk.0.attn_k.weight", data)
    assert not header.path.exists()
