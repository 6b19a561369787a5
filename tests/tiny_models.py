"""Tiny random models that the real tools load: one writer for each architecture the tests need.

Rows are a multiple of 256 by default, so every ggml type fits; ``n_embd=96`` or ``160`` forces fallbacks.
Written with the ``gguf`` package itself, not with ``lwq``, so that the tests of ``lwq.gguf`` read
what somebody else wrote. A model of four layers holds about 3 MB.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, TokenType
from gguf.quants import quantize
from numpy.typing import NDArray

N_VOCAB = 320
HEAD_DIM = 32
N_EXPERT = 4
N_CTX_TRAIN = 512
SMALL = 64
N_DENSE = 2
N_CONV = 3
RANK = 64

Value = bool | int | float | str | Sequence[int] | Sequence[str]
Tensors = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What all tiny models have in common; heads are ``HEAD_DIM`` wide."""

    arch: str
    n_layer: int
    n_embd: int = 256
    n_ff: int = 256
    ggml_type: str = "f16"
    tied: bool = True
    seed: int = 0

    @property
    def n_head(self) -> int:
        return self.n_embd // HEAD_DIM

    @property
    def n_head_kv(self) -> int:
        return max(1, self.n_head // 4)


def write_tiny_llama(
    path: Path,
    *,
    n_layer: int = 4,
    n_embd: int = 256,
    n_ff: int | None = None,
    ggml_type: str = "f16",
    tied: bool = True,
    seed: int = 0,
) -> Path:
    """A llama: separate q, k, v; ``tied`` leaves out ``output.weight``."""
    ff = n_embd if n_ff is None else n_ff
    shape = Shape(arch="llama", n_layer=n_layer, n_embd=n_embd, n_ff=ff, ggml_type=ggml_type, tied=tied, seed=seed)
    return _write(path, shape, _dense_layer)


def write_tiny_moe(path: Path, *, n_layer: int = 3, seed: int = 0) -> Path:
    """A llama with four experts of which two are used (the shape of Mixtral)."""
    shape = Shape(arch="llama", n_layer=n_layer, tied=False, seed=seed)
    extra = {"expert_count": N_EXPERT, "expert_used_count": 2}
    return _write(path, shape, _moe_layer, extra)


def write_tiny_phi3(path: Path, *, n_layer: int = 3, seed: int = 0) -> Path:
    """A phi3: q, k, v in one tensor, gate and up in one tensor, untied output."""
    shape = Shape(arch="phi3", n_layer=n_layer, tied=False, seed=seed)
    return _write(path, shape, _phi3_layer, {"rope.scaling.original_context_length": N_CTX_TRAIN})


def write_tiny_gemma3(path: Path, *, n_layer: int = 7, seed: int = 0) -> Path:
    """A gemma3: sliding window attention except in every sixth layer (5, 11, …)."""
    shape = Shape(arch="gemma3", n_layer=n_layer, seed=seed)
    extra = {"attention.sliding_window": 64, "rope.freq_base_swa": 10000.0}
    return _write(path, shape, _gemma3_layer, extra)


def write_tiny_deci(path: Path, *, n_layer: int = 4, seed: int = 0) -> Path:
    """A deci: head counts and ffn widths as arrays, one number a layer (odd layers are narrower)."""
    shape = Shape(arch="deci", n_layer=n_layer, seed=seed)
    heads_kv = tuple(_deci_kv(shape, i) for i in range(n_layer))
    widths = tuple(_deci_ff(shape, i) for i in range(n_layer))
    extra = {
        "attention.head_count": (shape.n_head,) * n_layer,
        "attention.head_count_kv": heads_kv,
        "feed_forward_length": widths,
    }
    return _write(path, shape, _deci_layer, extra)


def write_tiny_gemma2(path: Path, *, n_layer: int = 6, seed: int = 0) -> Path:
    """A gemma2: sliding window attention in every even layer."""
    shape = Shape(arch="gemma2", n_layer=n_layer, n_embd=SMALL, n_ff=SMALL, seed=seed)
    return _write(path, shape, _gemma2_layer, {"attention.sliding_window": 16})


def write_tiny_spark(path: Path, *, n_layer: int = 5, seed: int = 0) -> Path:
    """A spark2_5: sliding window attention as an array says, one flag a layer (all but 1, 4, …)."""
    shape = Shape(arch="spark2_5", n_layer=n_layer, n_embd=SMALL, n_ff=SMALL, seed=seed)
    extra = {
        "attention.sliding_window": 16,
        "attention.sliding_window_pattern": [i % 3 != 1 for i in range(n_layer)],
        "rope.freq_base_swa": 1000.0,
    }
    return _write(path, shape, _spark_layer, extra)


def write_tiny_smollm3(path: Path, *, n_layer: int = 9, seed: int = 0) -> Path:
    """A smollm3: no rope in every fourth layer (3, 7, …), which only code says."""
    return _write(path, Shape(arch="smollm3", n_layer=n_layer, n_embd=SMALL, n_ff=SMALL, seed=seed), _dense_layer)


def write_tiny_dots1(path: Path, *, n_layer: int = 5, seed: int = 0) -> Path:
    """A dots1: two leading dense layers, then experts and a shared one."""
    shape = Shape(arch="dots1", n_layer=n_layer, n_embd=SMALL, n_ff=SMALL, tied=False, seed=seed)
    extra = {
        "attention.head_count_kv": shape.n_head,
        "expert_count": N_EXPERT,
        "expert_used_count": 2,
        "expert_shared_count": 1,
        "expert_feed_forward_length": SMALL,
        "expert_weights_scale": 1.0,
        "expert_gating_func": 2,
        "leading_dense_block_count": N_DENSE,
    }
    return _write(path, shape, _dots1_layer, extra)


def write_tiny_glm4(path: Path, *, n_layer: int = 5, n_embd: int = SMALL, seed: int = 0) -> Path:
    """A glm4 whose last layer predicts the token after the next, so is not part of the graph."""
    shape = Shape(arch="glm4", n_layer=n_layer, n_embd=n_embd, n_ff=n_embd, seed=seed)
    return _write(path, shape, _glm4_layer, {"nextn_predict_layers": 1})


def write_tiny_lfm2(path: Path, *, n_layer: int = 5, seed: int = 0) -> Path:
    """An lfm2: attention in every odd layer, a short convolution in the others."""
    shape = Shape(arch="lfm2", n_layer=n_layer, n_embd=SMALL, n_ff=SMALL, seed=seed)
    extra = {"attention.head_count_kv": [i % 2 for i in range(n_layer)], "shortconv.l_cache": N_CONV}
    return _write(path, shape, _lfm2_layer, extra)


def write_tiny_deepseek2(path: Path, *, n_layer: int = 5, seed: int = 0) -> Path:
    """A deepseek2: attention by low-rank keys and values (MLA), experts behind one dense layer, and a last layer that
    predicts the token after the next."""
    shape = Shape(arch="deepseek2", n_layer=n_layer, tied=False, seed=seed)
    extra = {
        "attention.head_count_kv": 1,
        "attention.q_lora_rank": 2 * RANK,
        "attention.kv_lora_rank": RANK,
        "attention.key_length": RANK + HEAD_DIM,
        "attention.value_length": RANK,
        "attention.key_length_mla": RANK + HEAD_DIM,
        "attention.value_length_mla": HEAD_DIM,
        "expert_count": N_EXPERT,
        "expert_used_count": 2,
        "expert_shared_count": 1,
        "expert_feed_forward_length": shape.n_ff,
        "expert_weights_scale": 1.0,
        "expert_gating_func": 2,
        "leading_dense_block_count": 1,
        "nextn_predict_layers": 1,
    }
    return _write(path, shape, _deepseek2_layer, extra)


def write_split_llama(folder: Path, *, n_shards: int = 2, seed: int = 0) -> Path:
    """The llama in ``n_shards`` files; returns the first."""
    shape = Shape(arch="llama", n_layer=2, n_ff=256, seed=seed)
    n_tensors = 2 + 9 * shape.n_layer
    _write(folder / "tiny.gguf", shape, _dense_layer, max_tensors=-(-n_tensors // n_shards))
    return folder / f"tiny-00001-of-{n_shards:05}.gguf"


def write_tiny_imatrix(path: Path, sums: Mapping[str, NDArray[np.float32]], *, n_chunks: int = 2) -> Path:
    """An imatrix with these ``in_sum2`` (experts, channels); every expert counts 64 tokens a chunk."""
    writer = GGUFWriter(path, arch="")
    writer.kv_data[0].clear()
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", ["calibration.txt"])
    writer.add_uint32("imatrix.chunk_count", n_chunks)
    writer.add_uint32("imatrix.chunk_size", 64)
    for name, values in sums.items():
        rows = np.atleast_2d(values).astype(np.float32)
        writer.add_tensor(f"{name}.in_sum2", rows)
        writer.add_tensor(f"{name}.counts", np.full((rows.shape[0], 1), 64.0 * n_chunks, dtype=np.float32))
    _close(writer)
    return path


def write_tiny_text(path: Path, *, n_words: int = 2000, seed: int = 0) -> Path:
    """Words of a small invented language, in lines; the tiny models need about 4 tokens a word."""
    rng = random.Random(seed)
    words = ["".join(rng.choice(c) for c in ("bdfgklmnprst", "aeiou", "lmnrs", "aeiou")) for _ in range(200)]
    lines = (" ".join(rng.choice(words) for _ in range(12)) + "." for _ in range(-(-n_words // 12)))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


class _Weights:
    """Random tensors, each scaled so that activations neither die nor explode."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.tensors: Tensors = {}

    def matrix(self, name: str, n_in: int, *n_out: int) -> None:
        values = self.rng.standard_normal((*reversed(n_out), n_in), dtype=np.float32)
        self.tensors[name] = values / np.float32(np.sqrt(n_in))

    def norm(self, name: str, n: int) -> None:
        self.tensors[name] = (1 + 0.1 * self.rng.standard_normal(n)).astype(np.float32)


LayerWriter = Callable[[_Weights, Shape, int], None]


def _write(
    path: Path,
    shape: Shape,
    layer: LayerWriter,
    extra: Mapping[str, Value] | None = None,
    max_tensors: int = 0,
) -> Path:
    weights = _Weights(shape.seed)
    weights.matrix("token_embd.weight", shape.n_embd, N_VOCAB)
    weights.norm("token_embd_norm.weight" if shape.arch == "lfm2" else "output_norm.weight", shape.n_embd)
    if not shape.tied:
        weights.matrix("output.weight", shape.n_embd, N_VOCAB)
    for i in range(shape.n_layer):
        layer(weights, shape, i)
    writer = GGUFWriter(path, arch=shape.arch, split_max_tensors=max_tensors)
    for key, value in (_hparams(shape) | dict(extra or {})).items():
        _add(writer, f"{shape.arch}.{key}", value)
    _add_tokenizer(writer)
    for name, values in weights.tensors.items():
        _add_tensor(writer, name, values, shape.ggml_type)
    _close(writer)
    return path


def _close(writer: GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _hparams(shape: Shape) -> dict[str, Value]:
    return {
        "block_count": shape.n_layer,
        "context_length": N_CTX_TRAIN,
        "embedding_length": shape.n_embd,
        "feed_forward_length": shape.n_ff,
        "attention.head_count": shape.n_head,
        "attention.head_count_kv": shape.n_head_kv,
        "attention.key_length": HEAD_DIM,
        "attention.value_length": HEAD_DIM,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.dimension_count": HEAD_DIM,
        "rope.freq_base": 10000.0,
        "vocab_size": N_VOCAB,
    }


def _add(writer: GGUFWriter, key: str, value: Value) -> None:
    if isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, list(value))


def _add_tensor(writer: GGUFWriter, name: str, values: NDArray[np.float32], ggml_type: str) -> None:
    """Norms and routers stay F32, as the converter leaves them."""
    kind = GGMLQuantizationType[ggml_type.upper()]
    if values.ndim == 1 or "ffn_gate_inp" in name or "shortconv.conv" in name or kind is GGMLQuantizationType.F32:
        writer.add_tensor(name, values)
    elif kind is GGMLQuantizationType.F16:
        writer.add_tensor(name, values.astype(np.float16))
    else:
        writer.add_tensor(name, quantize(values, kind), raw_dtype=kind)


def _add_tokenizer(writer: GGUFWriter) -> None:
    """SentencePiece with byte fallback: 3 controls, 256 bytes, letters, and word starts."""
    pieces = ["\u2581", *"abcdefghijklmnopqrstuvwxyz.", *(f"\u2581{c}" for c in "bdfgklmnprst")]
    pieces += [a + b for a in "lmnrs" for b in "aeiou"]
    pieces = pieces[: N_VOCAB - 259]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), *pieces]
    tokens += [f"<extra{i}>" for i in range(N_VOCAB - len(tokens))]
    types = [TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL, *[TokenType.BYTE] * 256]
    types += [TokenType.NORMAL] * (N_VOCAB - len(types))
    writer.add_name("tiny")
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * 259 + [-float(i) for i in range(N_VOCAB - 259)])
    writer.add_token_types(types)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)


def _attention(weights: _Weights, shape: Shape, i: int, n_head_kv: int) -> None:
    n, width = shape.n_embd, shape.n_head * HEAD_DIM
    weights.norm(f"blk.{i}.attn_norm.weight", n)
    weights.matrix(f"blk.{i}.attn_q.weight", n, width)
    weights.matrix(f"blk.{i}.attn_k.weight", n, n_head_kv * HEAD_DIM)
    weights.matrix(f"blk.{i}.attn_v.weight", n, n_head_kv * HEAD_DIM)
    weights.matrix(f"blk.{i}.attn_output.weight", width, n)


def _ffn(weights: _Weights, shape: Shape, i: int, n_ff: int) -> None:
    weights.norm(f"blk.{i}.ffn_norm.weight", shape.n_embd)
    weights.matrix(f"blk.{i}.ffn_gate.weight", shape.n_embd, n_ff)
    weights.matrix(f"blk.{i}.ffn_up.weight", shape.n_embd, n_ff)
    weights.matrix(f"blk.{i}.ffn_down.weight", n_ff, shape.n_embd)


def _dense_layer(weights: _Weights, shape: Shape, i: int) -> None:
    _attention(weights, shape, i, shape.n_head_kv)
    _ffn(weights, shape, i, shape.n_ff)


def _moe_layer(weights: _Weights, shape: Shape, i: int) -> None:
    n, ff = shape.n_embd, shape.n_ff
    _attention(weights, shape, i, shape.n_head_kv)
    weights.norm(f"blk.{i}.ffn_norm.weight", n)
    weights.matrix(f"blk.{i}.ffn_gate_inp.weight", n, N_EXPERT)
    weights.matrix(f"blk.{i}.ffn_gate_exps.weight", n, ff, N_EXPERT)
    weights.matrix(f"blk.{i}.ffn_up_exps.weight", n, ff, N_EXPERT)
    weights.matrix(f"blk.{i}.ffn_down_exps.weight", ff, n, N_EXPERT)


def _phi3_layer(weights: _Weights, shape: Shape, i: int) -> None:
    n, width = shape.n_embd, (shape.n_head + 2 * shape.n_head_kv) * HEAD_DIM
    weights.norm(f"blk.{i}.attn_norm.weight", n)
    weights.matrix(f"blk.{i}.attn_qkv.weight", n, width)
    weights.matrix(f"blk.{i}.attn_output.weight", n, n)
    weights.norm(f"blk.{i}.ffn_norm.weight", n)
    weights.matrix(f"blk.{i}.ffn_up.weight", n, 2 * shape.n_ff)
    weights.matrix(f"blk.{i}.ffn_down.weight", shape.n_ff, n)


def _gemma3_layer(weights: _Weights, shape: Shape, i: int) -> None:
    _dense_layer(weights, shape, i)
    weights.norm(f"blk.{i}.attn_q_norm.weight", HEAD_DIM)
    weights.norm(f"blk.{i}.attn_k_norm.weight", HEAD_DIM)
    weights.norm(f"blk.{i}.post_attention_norm.weight", shape.n_embd)
    weights.norm(f"blk.{i}.post_ffw_norm.weight", shape.n_embd)


def _deci_kv(shape: Shape, i: int) -> int:
    return shape.n_head_kv if i % 2 == 0 else 1


def _deci_ff(shape: Shape, i: int) -> int:
    return 2 * shape.n_ff if i % 2 == 0 else shape.n_ff


def _deci_layer(weights: _Weights, shape: Shape, i: int) -> None:
    _attention(weights, shape, i, _deci_kv(shape, i))
    _ffn(weights, shape, i, _deci_ff(shape, i))


def _gemma2_layer(weights: _Weights, shape: Shape, i: int) -> None:
    _dense_layer(weights, shape, i)
    weights.norm(f"blk.{i}.post_attention_norm.weight", shape.n_embd)
    weights.norm(f"blk.{i}.post_ffw_norm.weight", shape.n_embd)


def _spark_layer(weights: _Weights, shape: Shape, i: int) -> None:
    _dense_layer(weights, shape, i)
    weights.matrix(f"blk.{i}.attn_gate.weight", shape.n_embd, shape.n_head)


def _dots1_layer(weights: _Weights, shape: Shape, i: int) -> None:
    _attention(weights, shape, i, shape.n_head)
    weights.norm(f"blk.{i}.attn_q_norm.weight", HEAD_DIM)
    weights.norm(f"blk.{i}.attn_k_norm.weight", HEAD_DIM)
    if i < N_DENSE:
        _ffn(weights, shape, i, shape.n_ff)
    else:
        _experts(weights, shape, i)


def _experts(weights: _Weights, shape: Shape, i: int) -> None:
    n, ff = shape.n_embd, shape.n_ff
    weights.norm(f"blk.{i}.ffn_norm.weight", n)
    weights.matrix(f"blk.{i}.ffn_gate_inp.weight", n, N_EXPERT)
    for suffix, experts in (("exps", (N_EXPERT,)), ("shexp", ())):
        weights.matrix(f"blk.{i}.ffn_gate_{suffix}.weight", n, ff, *experts)
        weights.matrix(f"blk.{i}.ffn_up_{suffix}.weight", n, ff, *experts)
        weights.matrix(f"blk.{i}.ffn_down_{suffix}.weight", ff, n, *experts)


def _deepseek2_layer(weights: _Weights, shape: Shape, i: int) -> None:
    n, n_head = shape.n_embd, shape.n_head
    weights.norm(f"blk.{i}.attn_norm.weight", n)
    weights.matrix(f"blk.{i}.attn_q_a.weight", n, 2 * RANK)
    weights.norm(f"blk.{i}.attn_q_a_norm.weight", 2 * RANK)
    weights.matrix(f"blk.{i}.attn_q_b.weight", 2 * RANK, n_head * (RANK + HEAD_DIM))
    weights.matrix(f"blk.{i}.attn_kv_a_mqa.weight", n, RANK + HEAD_DIM)
    weights.norm(f"blk.{i}.attn_kv_a_norm.weight", RANK)
    weights.matrix(f"blk.{i}.attn_k_b.weight", RANK, RANK, n_head)
    weights.matrix(f"blk.{i}.attn_v_b.weight", RANK, HEAD_DIM, n_head)
    weights.matrix(f"blk.{i}.attn_output.weight", n_head * HEAD_DIM, n)
    if i:
        _experts(weights, shape, i)
    else:
        _ffn(weights, shape, i, shape.n_ff)
    if i == shape.n_layer - 1:
        _further_token(weights, n, i)


def _further_token(weights: _Weights, n: int, i: int) -> None:
    """What predicts the token after the next beside a layer."""
    weights.matrix(f"blk.{i}.nextn.eh_proj.weight", 2 * n, n)
    weights.norm(f"blk.{i}.nextn.enorm.weight", n)
    weights.norm(f"blk.{i}.nextn.hnorm.weight", n)


def _glm4_layer(weights: _Weights, shape: Shape, i: int) -> None:
    n = shape.n_embd
    _attention(weights, shape, i, shape.n_head_kv)
    weights.norm(f"blk.{i}.ffn_norm.weight", n)
    weights.matrix(f"blk.{i}.ffn_up.weight", n, 2 * shape.n_ff)
    weights.matrix(f"blk.{i}.ffn_down.weight", shape.n_ff, n)
    weights.norm(f"blk.{i}.post_attention_norm.weight", n)
    weights.norm(f"blk.{i}.post_ffw_norm.weight", n)
    if i == shape.n_layer - 1:
        _further_token(weights, n, i)


def _lfm2_layer(weights: _Weights, shape: Shape, i: int) -> None:
    n = shape.n_embd
    if i % 2:
        _attention(weights, shape, i, 1)
        weights.norm(f"blk.{i}.attn_q_norm.weight", HEAD_DIM)
        weights.norm(f"blk.{i}.attn_k_norm.weight", HEAD_DIM)
    else:
        weights.norm(f"blk.{i}.attn_norm.weight", n)
        weights.matrix(f"blk.{i}.shortconv.conv.weight", N_CONV, n)
        weights.matrix(f"blk.{i}.shortconv.in_proj.weight", n, 3 * n)
        weights.matrix(f"blk.{i}.shortconv.out_proj.weight", n, n)
    _ffn(weights, shape, i, shape.n_ff)
