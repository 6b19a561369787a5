"""What each layer of a model is, by its number: read from metadata as the pinned llama.cpp reads it.

Most architectures compute every layer alike. In others a layer's number decides: sliding-window or full attention,
rope or none, recurrent or attention, dense or experts. And in a few the *number of layers* decides something else,
such as the scale of attention. ``KINDS`` says which, for every architecture that was read.

Source: src/models/*.cpp ``load_arch_hparams``, src/llama-model.cpp ``load_hparams`` and ``load_swa_pattern``.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

Value: TypeAlias = bool | int | float | str
Labels: TypeAlias = tuple[object, ...]
"""One label for each layer, next-token-prediction layers left out."""

WINDOW_PATTERN: Final = "attention.sliding_window_pattern"
RECURRENT: Final = "attention.recurrent_layers"
_BOTH: Final = ("recurrent", "attention")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hparams:
    """A model's metadata as its loader asks for it."""

    architecture: str
    n_layer: int
    """Without next-token-prediction layers."""
    metadata: Mapping[str, object]

    def get(self, key: str) -> object:
        return self.metadata.get(f"{self.architecture}.{key}")

    def number(self, key: str, default: int = 0) -> int:
        value = self.get(key)
        return int(value) if isinstance(value, int | float) else default

    def at(self, key: str, layer: int, default: int = 0) -> int:
        """One layer's number under a key that holds one for all layers, or one for each."""
        value = self.get(key)
        if isinstance(value, tuple | list):
            return int(value[layer]) if layer < len(value) else 0
        return self.number(key, default)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trait:
    """Something that a layer's number, or the number of layers, decides."""

    what: str
    labels: Callable[[Hparams], Labels]
    period: Callable[[Hparams], int] = lambda _: 0
    """After how many layers the labels repeat, or 0."""
    array: str = ""
    """The key under which the loader takes one flag for each layer; empty where code alone decides."""
    flag: object = None
    """The label that is written as true."""
    needs: tuple[object, ...] = ()
    """Labels without which llama.cpp stops, where the model had them: its memory must have such a layer."""


def _period(trait_key: str, default: int) -> Callable[[Hparams], int]:
    return lambda h: 0 if isinstance(h.get(trait_key), tuple | list) else h.number(trait_key, default)


def _has_window(h: Hparams) -> bool:
    return h.number("attention.sliding_window") > 0


def window(default: int, *, dense_first: bool = False, applies: Callable[[Hparams], bool] = lambda _: True) -> Trait:
    """Which layers attend to a sliding window: an array, or every ``default``-th layer does not."""
    period = _period(WINDOW_PATTERN, default)

    def labels(h: Hparams) -> Labels:
        if not applies(h):
            return ("no window",) * h.n_layer
        given = isinstance(h.get(WINDOW_PATTERN), tuple | list)
        return tuple(
            "window" if (h.at(WINDOW_PATTERN, i) if given else _in_window(i, period(h), dense_first)) else "full"
            for i in range(h.n_layer)
        )

    return Trait(
        what="sliding-window or full attention",
        labels=labels,
        period=lambda h: period(h) if applies(h) else 0,
        array=WINDOW_PATTERN,
        flag="window",
        needs=("window",),
    )


def _in_window(layer: int, period: int, dense_first: bool) -> bool:
    """Source: src/llama-hparams.cpp ``set_swa_pattern``."""
    return period == 0 or (layer % period != 0 if dense_first else layer % period < period - 1)


def recurrent(default: int) -> Trait:
    """Which layers are recurrent: an array, or all but every ``full_attention_interval``-th."""
    interval = _period("full_attention_interval", default)

    def labels(h: Hparams) -> Labels:
        given = h.get(RECURRENT) is not None
        return tuple(
            "recurrent" if (h.at(RECURRENT, i) if given else (i + 1) % interval(h)) else "attention"
            for i in range(h.n_layer)
        )

    return Trait(
        what="recurrent or attention",
        labels=labels,
        period=lambda h: 0 if h.get(RECURRENT) is not None else interval(h),
        array=RECURRENT,
        flag="recurrent",
        needs=_BOTH,
    )


def _rope_step(h: Hparams) -> int:
    """Source: src/models/llama4.cpp, smallthinker.cpp: without a window the step is the number of layers."""
    without = {"llama4": h.get("attention.sliding_window") == 0, "smallthinker": not _has_window(h)}
    return h.n_layer if without.get(h.architecture) else 4


def _rope(h: Hparams) -> Labels:
    step = _rope_step(h)
    if h.architecture == "smallthinker":
        with_rope = [step == h.n_layer or i % step != 0 for i in range(h.n_layer)]
    else:
        with_rope = [(i + 1) % step != 0 for i in range(h.n_layer)]
    return tuple("with rope" if has else "without rope" for has in with_rope)


def _dense(h: Hparams) -> Labels:
    lead = h.number("leading_dense_block_count")
    return tuple("dense" if i < lead else "of experts" for i in range(h.n_layer))


def _moe_step(h: Hparams) -> Labels:
    step = h.number("interleave_moe_layer_step")
    return tuple("of experts" if step > 0 and (i + 1) % step == 0 else "dense" for i in range(h.n_layer))


def _no_kv_heads(h: Hparams) -> Labels:
    """Source: src/models/nemotron-h.cpp (where some are a feed-forward network alone), lfm2.cpp."""
    default, alone = h.number("attention.head_count"), h.architecture.startswith("nemotron_h")

    def label(i: int) -> str:
        if h.at("attention.head_count_kv", i, default):
            return "attention"
        return "feed-forward" if alone and h.at("feed_forward_length", i) else "recurrent"

    return tuple(label(i) for i in range(h.n_layer))


def _deepstack(h: Hparams) -> Labels:
    n_inputs = h.number("n_deepstack_layers")
    return tuple(i if i < n_inputs else None for i in range(h.n_layer))


def by_count(what: str, label: Callable[[Hparams], object]) -> Trait:
    """What the number of layers decides for all of them."""
    return Trait(what=what, labels=lambda h: (label(h),) * h.n_layer)


def _gemma_scale(n_layer_27b: int) -> Trait:
    """Source: src/models/gemma2.cpp, gemma3.cpp ``f_attention_scale``: 1 / √ of this."""

    def squared(h: Hparams) -> int:
        of_heads = h.number("embedding_length") // max(1, h.at("attention.head_count", 0))
        return of_heads if h.n_layer == n_layer_27b else h.number("attention.key_length", of_heads)

    return by_count("the scale of attention", squared)


def _is_lite(h: Hparams) -> bool:
    """Source: src/models/deepseek2.cpp ``is_lite``."""
    return h.n_layer in (26, 27) or (h.n_layer == 48 and _n_vocab(h) == 128256)


def _n_vocab(h: Hparams) -> int:
    """Source: src/models/deepseek2.cpp: the key, or the length of the list of tokens."""
    tokens = h.metadata.get("tokenizer.ggml.tokens")
    n_tokens = getattr(tokens, "n_items", None) or (len(tokens) if isinstance(tokens, tuple | list) else 0)
    return h.number("vocab_size", n_tokens)


def _lora_q(h: Hparams) -> int:
    return 0 if _is_lite(h) else h.number("attention.q_lora_rank")


def _gating(h: Hparams) -> int:
    """1 softmax, 2 sigmoid. Source: src/models/deepseek2.cpp, src/llama-hparams.h."""
    sigmoid = h.n_layer in (47, 48) and _n_vocab(h) == 154880
    return h.number("expert_gating_func") or (2 if sigmoid else 1)


def derived_changes(old: Hparams, new: Hparams) -> dict[str, Value]:
    """What must be written so that fewer layers do not change what the loader derives from their number."""
    if old.architecture == "minicpm" and old.get("residual_scale") is None:  # src/models/minicpm.cpp
        return {"minicpm.residual_scale": _float32(_float32(1.4) / _float32(math.sqrt(old.n_layer)))}
    changes: dict[str, Value] = {}
    if old.architecture in ("deepseek2", "mistral4"):
        if _is_lite(old) and not _is_lite(new):  # the key is required then; 0 means what its absence meant
            changes[f"{old.architecture}.attention.q_lora_rank"] = 0
        if _gating(old) != _gating(new):
            changes[f"{old.architecture}.expert_gating_func"] = _gating(old)
    return changes


def _float32(x: float) -> float:
    value: float = struct.unpack("<f", struct.pack("<f", x))[0]
    return value


_DENSE: Final = Trait(what="dense or of experts", labels=_dense)
_STEP: Final = Trait(
    what="dense or of experts", labels=_moe_step, period=lambda h: h.number("interleave_moe_layer_step")
)
_ROPE: Final = Trait(what="rope or none", labels=_rope, period=_rope_step)
_HYBRID: Final = Trait(what="recurrent or attention", labels=_no_kv_heads, needs=_BOTH)
_STACK: Final = Trait(what="which deepstack input is added", labels=_deepstack)
_LITE: Final = by_count("whether queries have a low rank", _lora_q)
_GATE: Final = by_count("how experts are weighted", _gating)
_OPTIONAL_4: Final = window(4, applies=_has_window)
_FIRST_4: Final = window(4, dense_first=True, applies=_has_window)
_ARRAY: Final = window(0)
"""A pattern that the loader requires as an array."""

_ALIKE: Final = (
    "apertus", "arcee", "arctic", "bitnet", "bloom", "chatglm", "codeshell", "dbrx", "ernie4_5", "exaone", "falcon",
    "gemma", "glm4", "gpt2", "gptneox", "granite", "granitemoe", "grok", "grovemoe", "hunyuan-dense", "hunyuan-moe",
    "hunyuan_vl", "hy_v3", "internlm2", "jais", "jais2", "llama", "maincoder", "mamba", "mamba2", "minicpm",
    "minimax-m2", "mistral3", "mpt", "nemotron", "olmo", "olmoe", "orion", "pangu-embedded", "phi2", "phi3", "phimoe",
    "plamo", "plm", "qwen", "qwen2", "qwen2moe", "qwen2vl", "qwen3", "qwen3moe", "refact", "seed_oss", "stablelm",
    "starcoder", "starcoder2", "xverse", "deci", "openelm", "falcon-h1",
)  # fmt: skip

KINDS: Final[Mapping[str, tuple[Trait, ...]]] = {
    **dict.fromkeys(_ALIKE, ()),
    **dict.fromkeys(("bailingmoe", "bailingmoe2", "deepseek", "deepseek2-ocr", "dots1", "glm4moe"), (_DENSE,)),
    **dict.fromkeys(("deepseek2", "mistral4"), (_DENSE, _LITE, _GATE)),
    **dict.fromkeys(("gemma4", "granite_swa", "maple", "spark2_5"), (_ARRAY,)),
    **dict.fromkeys(("mellum", "olmo2"), (_OPTIONAL_4,)),
    **dict.fromkeys(("qwen3next", "qwen35", "qwen35moe"), (recurrent(4),)),
    **dict.fromkeys(("granitehybrid", "jamba", "lfm2", "nemotron_h", "nemotron_h_moe"), (_HYBRID,)),
    **dict.fromkeys(("qwen3vl", "qwen3vlmoe"), (_STACK,)),
    "afmoe": (_OPTIONAL_4, _ROPE, _DENSE),
    "cohere2": (window(4),),
    "cohere2moe": (window(4, dense_first=True), _DENSE),
    "command-r": (by_count("whether queries and keys are normalized", lambda h: h.n_layer >= 64),),
    "ernie4_5-moe": (_STEP, _DENSE),
    "exaone-moe": (window(4), _DENSE),
    "exaone4": (window(4, applies=lambda h: h.n_layer == 64),),
    "gemma2": (window(2), _gemma_scale(46)),
    "gemma3": (window(6, applies=_has_window), _gemma_scale(62)),
    "gpt-oss": (window(2),),
    "laguna": (_FIRST_4, _DENSE),
    "lfm2moe": (_HYBRID, _DENSE),
    "llama4": (window(4, applies=lambda h: h.get("attention.sliding_window") != 0), _ROPE, _STEP),
    "muse-glimmer": (window(4),),
    "plamo3": (window(8, applies=_has_window),),
    "smallthinker": (_FIRST_4, _ROPE),
    "smollm3": (_ROPE,),
}

REFUSED: Final[Mapping[str, str]] = {
    "baichuan": "the number of layers decides between rope and alibi, and any other number stops llama.cpp",
    "gemma3n": "layers share keys and values, and each has its part of one per-layer embedding",
    "glm-dsa": "layers use the index of the full indexer before them",
    "hrm_text": "the layers are run in a loop of a fixed length",
    "minicpm3": "the residual scale is computed from the number of layers in code",
    "minimax-01": "the decay of each layer is computed from its number in code",
    "nanbeige": "the layers are run in a loop",
    **dict.fromkeys(("rwkv7", "arwkv7"), "layers mix in the values of the first one"),
    **dict.fromkeys(("rwkv6", "rwkv6qwen2"), "activations may be rescaled every few layers"),
}


def refusal(h: Hparams) -> str | None:
    """Why no layer of such a model can go, or None."""
    if h.architecture in REFUSED:
        return REFUSED[h.architecture]
    if h.architecture not in KINDS:
        return "lwq does not know what its layers are"
    mapping = h.get("deepstack_mapping")
    if isinstance(mapping, tuple | list) and any(int(m) >= 0 for m in mapping):
        return "its image inputs are added in numbered layers"
    if h.architecture == "gemma4" and h.number("embedding_length_per_layer"):
        return "each layer has its part of one per-layer embedding"
    if h.number("attention.shared_kv_layers"):
        return "its last layers use the keys and values of earlier ones"
    return None
