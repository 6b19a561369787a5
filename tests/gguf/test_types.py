"""The table of ggml types is the built library's, and names, sizes and fallbacks are those of llama-quantize."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lwq.gguf.header import read_header
from lwq.gguf.size import predicted_file_bytes
from lwq.gguf.types import (
    FTYPES,
    GGML_TYPES,
    UNQUANTIZED,
    TensorInfo,
    anchored,
    bits_per_weight,
    fallback_type,
    fits_rows,
    known_type,
    padded,
    renumber,
    split_name,
    tensor_bytes,
    type_bpw,
    type_name,
)
from lwq.llama import tools
from lwq.llama.process import run_tool
from lwq.llama.requests import DryRunRequest
from lwq.llama.toolchain import Toolchain
from tests.tiny_models import write_tiny_llama

CLASSES = ("attn_q", "attn_output", "ffn_down", "ffn_gate_exps", "attn_q_norm")
LAYER_NAMES = st.builds("blk.{}.{}.weight".format, st.integers(0, 120), st.sampled_from(CLASSES))
NAMES = st.one_of(LAYER_NAMES, st.sampled_from(("token_embd.weight", "output.weight", "rope_freqs.weight")))


@pytest.mark.tools
def test_the_table_is_libggmls(toolchain: Toolchain) -> None:
    ggml = ctypes.CDLL(str(next(toolchain.lib_dir.glob("libggml-base.*"))))
    ggml.ggml_type_name.restype = ctypes.c_char_p
    ggml.ggml_blck_size.restype = ctypes.c_int64
    ggml.ggml_type_size.restype = ctypes.c_size_t
    ggml.ggml_row_size.restype = ctypes.c_size_t
    ggml.ggml_row_size.argtypes = (ctypes.c_int, ctypes.c_int64)
    for name, (number, n_weights, n_bytes) in GGML_TYPES.items():
        assert ggml.ggml_type_name(number).decode().lower() == name.lower()
        assert (ggml.ggml_blck_size(number), ggml.ggml_type_size(number)) == (n_weights, n_bytes)
        assert tensor_bytes((768,), name) == ggml.ggml_row_size(number, 768)
        assert type_name(number) == name
        assert type_bpw(name) == 8 * n_bytes / n_weights


@pytest.mark.tools
def test_the_table_leaves_no_type_of_libggml_out(toolchain: Toolchain) -> None:
    ggml = ctypes.CDLL(str(next(toolchain.lib_dir.glob("libggml-base.*"))))
    ggml.ggml_type_size.restype = ctypes.c_size_t
    last = max(number for number, _, _ in GGML_TYPES.values())
    assert {n for n in range(last + 1) if ggml.ggml_type_size(n)} == {n for n, _, _ in GGML_TYPES.values()}


# What llama-quantize can be asked for; q1_0, nvfp4 and mxfp4 have no fallback or need whole-file care.
TARGETS = [t for t in GGML_TYPES if t not in (*UNQUANTIZED, "q8_1", "q8_K", "q1_0", "nvfp4", "mxfp4")]


@pytest.mark.tools
@pytest.mark.parametrize("target", TARGETS)
def test_fallbacks_are_those_of_llama_quantize(target: str, toolchain: Toolchain, tmp_path: Path) -> None:
    write_tiny_llama(tmp_path / "rows.gguf", n_layer=1, n_embd=96, n_ff=80)  # no 256 in 96, no 32 in 80
    wanted = (f"ffn_down={target.lower()}", f"ffn_up={target.lower()}")
    request = DryRunRequest(model="rows.gguf", ftype="Q8_0", tensor_types=wanted)
    planned = {t.name: t.target_type for t in tools.dry_run(toolchain, request, cwd=tmp_path).plan.tensors}
    assert known_type(planned["blk.0.ffn_up.weight"]) == fallback_type(target, 96)
    assert known_type(planned["blk.0.ffn_down.weight"]) == fallback_type(target, 80) == "f16"


@pytest.mark.tools
@pytest.mark.parametrize("ftype", ["Q4_K_M", "Q3_K_L", "Q6_K", "IQ4_XS", "Q8_0"])
def test_predicted_bytes_of_rows_that_fall_back_are_the_bytes(ftype: str, toolchain: Toolchain, tmp_path: Path) -> None:
    source = write_tiny_llama(tmp_path / "rows.gguf", n_layer=2, n_embd=96, n_ff=80, tied=False)
    request = DryRunRequest(model="rows.gguf", ftype=ftype, tensor_types=("attn_v=q5_k",), prune_layers=(1,))
    planned = tools.dry_run(toolchain, request, cwd=tmp_path).plan.tensors
    types = {t.name: known_type(t.target_type) for t in planned}
    assert types["blk.0.attn_v.weight"] == "q5_1"
    argv = ("llama-quantize", *request.options(), "rows.gguf", "out.gguf", ftype, "2")
    run_tool((str(toolchain.program(argv[0])), *argv[1:]), cwd=tmp_path)
    written = read_header(tmp_path / "out.gguf")
    assert {t.name: t.ggml_type for t in written.tensors} == types
    assert predicted_file_bytes(read_header(source), types=types, pruned=(1,)) == written.file_bytes


@pytest.mark.tools
def test_every_ftype_is_one_that_llama_quantize_knows(toolchain: Toolchain, tmp_path: Path) -> None:
    help_text = run_tool(
        (str(toolchain.program("llama-quantize")), "--help"), cwd=tmp_path, check=False
    ).stdout  # fmt: skip
    listed = {label: int(number) for number, label in re.findall(r"^\s*(\d+)\s+or\s+(\w+)\s", help_text, re.MULTILINE)}
    ours = {label: number for label, (number, _) in FTYPES.items()}
    aliases = {"Q3_K", "Q4_K", "Q5_K"}
    assert {k: v for k, v in listed.items() if k not in aliases} == ours


@given(name=NAMES, others=st.lists(NAMES, max_size=20))
def test_an_anchored_pattern_finds_its_tensor_alone(name: str, others: list[str]) -> None:
    pattern = anchored(name)
    assert pattern == pattern.lower()
    assert [n for n in [name, *others] if re.search(pattern, n)] == [n for n in [name, *others] if n == name]
    assert not re.search(pattern, name.replace(".", "x"))


@given(n_layer=st.integers(2, 60), data=st.data())
def test_kept_layers_are_numbered_without_gaps(n_layer: int, data: st.DataObject) -> None:
    pruned = data.draw(st.sets(st.integers(0, n_layer - 1), max_size=n_layer - 1))
    renumbered = [renumber(f"blk.{i}.ffn_up.weight", pruned) for i in range(n_layer)]
    assert [i for i, name in enumerate(renumbered) if name is None] == sorted(pruned)
    kept = [name for name in renumbered if name is not None]
    assert kept == [f"blk.{i}.ffn_up.weight" for i in range(n_layer - len(pruned))]
    assert renumber("output.weight", pruned) == "output.weight"


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("blk.7.ffn_down.weight", (7, "ffn_down")),
        ("blk.11.attn_q.bias", (11, "attn_q.bias")),
        ("blk.0.ssm_a", (0, "ssm_a")),
        ("token_embd.weight", (None, "token_embd")),
        ("output_norm.bias", (None, "output_norm.bias")),
    ],
)
def test_a_name_has_a_layer_and_a_class(name: str, parts: tuple[int | None, str]) -> None:
    assert split_name(name) == parts
    tensor = TensorInfo(name=name, ne=(256,), ggml_type="f32")
    assert (tensor.layer, tensor.tensor_class) == parts


def test_bits_per_weight_are_those_of_the_tensors_given() -> None:
    # 256·4 weights in q4_K: 4 blocks of 144 bytes; 256 in f32: 1024 bytes. 8·(576 + 1024) / 1280 = 10
    tensors = [
        TensorInfo(name="a", ne=(256, 4), ggml_type="q4_K"),
        TensorInfo(name="b", ne=(256,), ggml_type="f32"),
    ]  # fmt: skip
    assert bits_per_weight(tensors) == 10.0


def test_rows_that_are_no_whole_blocks_are_refused() -> None:
    with pytest.raises(ValueError, match=r"rows of 100 are not whole blocks of 256 \(q4_K\)"):
        tensor_bytes((100, 256), "q4_K")


def test_an_unknown_type_is_answered_with_the_known_ones() -> None:
    assert known_type("Q4_k") == "q4_K"
    with pytest.raises(ValueError, match=r"unknown ggml type 'q4_x'; known: f32, .*q4_K"):
        known_type("q4_x")


@given(n_bytes=st.integers(0, 10**12), alignment=st.sampled_from([1, 8, 32, 64, 4096]))
def test_padding_is_the_next_multiple(n_bytes: int, alignment: int) -> None:
    assert padded(n_bytes, alignment) % alignment == 0
    assert 0 <= padded(n_bytes, alignment) - n_bytes < alignment


@pytest.mark.parametrize("name", ["", "\n", "a\nb", "a\n---", "blk.1.\n", ".weight", "blk.2.x\ny.bias"])
def test_any_name_has_a_layer_and_a_class(name: str) -> None:
    layer, tensor_class = split_name(name)
    assert name.startswith(f"blk.{layer}." if layer is not None else tensor_class.removesuffix(".bias"))


@pytest.mark.parametrize(
    ("asked", "row_length", "written"),
    [
        ("q4_K", 256, "q4_K"), ("q4_K", 320, "q5_0"), ("q5_K", 288, "q5_1"), ("q6_K", 32, "q8_0"), ("q2_K", 96, "q4_0"),
        ("iq4_xs", 64, "iq4_nl"), ("q4_K", 100, "f16"), ("q8_0", 33, "f16"), ("f32", 7, "f32"),
    ],
)  # fmt: skip
def test_rows_that_are_no_whole_blocks_fall_back(asked: str, row_length: int, written: str) -> None:
    assert fallback_type(asked, row_length) == written


def test_rows_fit_a_type_of_whole_blocks() -> None:
    assert [fits_rows((n, 3), "q4_K") for n in (256, 512, 128)] == [True, True, False]


def test_types_have_numbers_and_bits() -> None:
    assert [type_name(n) for n in (0, 12, 30, 999)] == ["f32", "q4_K", "bf16", None]
    assert (type_bpw("q4_K"), type_bpw("f16"), type_bpw("iq2_xxs")) == (4.5, 16, 2.0625)
    assert tensor_bytes((512, 3), "q4_K") == 6 * 144


def test_layers_are_numbered_anew_once_in_a_name() -> None:
    assert renumber("blk.3.blk.3.x", iter((1,))) == "blk.2.blk.3.x"
    assert renumber("blk.3.x", [1, 1]) == "blk.2.x"
    assert renumber("blk.3.x", []) == "blk.3.x"
