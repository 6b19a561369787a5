"""Whether a GGUF is a language model that can be measured, as far as its header tells: before any tool starts.

Source: src/llama-vocab.cpp, src/llama-arch.cpp, tools/perplexity/perplexity.cpp at the pinned commit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from lwq.errors import ModelError
from lwq.gguf.header import GgufHeader, read_array
from lwq.gguf.sound import check_sound

_KINDS: Final = {
    "adapter": ("a LoRA adapter", "merge it into its base model first, and name the merged model"),
    "mmproj": ("a vision or audio projector", "name the language model; the projector goes beside its files as it is"),
    "imatrix": ("an importance matrix", "name the model; lwq collects a matrix of its own"),
    "controlvector": ("a control vector", "name the model that it steers"),
}
_ENCODERS: Final = frozenset(
    ("bert", "modern-bert", "nomic-bert", "nomic-bert-moe", "neo-bert", "jina-bert-v2", "jina-bert-v3", "eurobert",
     "gemma-embedding", "llama-embed", "t5encoder")
)  # fmt: skip
_ENCODER: Final = "an encoder, which makes embeddings and predicts no text"
_DIFFUSION: Final = "a diffusion model: it predicts no next token"
_DRAFT: Final = "a draft model, which predicts only beside another"
_SOUND: Final = "a model of sound"
_SEQUENCES: Final = "an encoder with a decoder, which llama-perplexity cannot measure"
_OTHERS: Final = {
    **dict.fromkeys(_ENCODERS, _ENCODER),
    **dict.fromkeys(("dream", "llada", "llada-moe", "rnd1"), _DIFFUSION),
    **dict.fromkeys(("eagle3", "dflash", "gemma4-assistant"), _DRAFT),
    **dict.fromkeys(("wavtokenizer-dec", "qwen3tts", "pockettts"), _SOUND),
    "t5": _SEQUENCES,
}
_CLASSES: Final = (
    (r"ForSequenceClassification$", "a classifier, which ranks texts and predicts none"),
    (r"(?i)bert|^T5Encoder|^Gemma3TextModel$|^Lfm2Model$|Bidirectional|Embeddings", _ENCODER),
    (r"^U?M?T5", _SEQUENCES),
    (r"^(Dream|LLaDA|RND1)", _DIFFUSION),
    (r"Draft|DSpark|Eagle3|Speculator|Assistant", _DRAFT),
    (r"^(WavTokenizer|Qwen3TTS|PocketTTS)|AudioTokenizer$", _SOUND),
)
"""Of ``transformers``, which the converter turns into these. Source: conversion/__init__.py and the classes there."""
_WHAT_LWQ_DOES: Final = "`llama-quantize` itself makes its files; lwq measures how well the next token is predicted"
_LEARNED: Final = "position_embd.weight"


def check_usable(header: GgufHeader) -> None:
    """Raises ModelError, with the reason and a way out, for what the tools would refuse, or die of."""
    path, architecture = header.path, header.architecture
    kind = "mmproj" if architecture == "clip" else header.text("general.type")
    if kind in _KINDS:
        what, hint = _KINDS[kind]
        told = "general.architecture" if architecture == "clip" else "general.type"
        raise ModelError(f"{path}: {what} ({told} is {header.text(told)!r}), expected a language model", hint=hint)
    if what := _OTHERS.get(architecture, ""):
        raise ModelError(f"{path}: {architecture!r} is {what}", hint=_WHAT_LWQ_DOES)
    if header.metadata.get(f"{architecture}.attention.causal") is False:
        raise ModelError(
            f"{path}: reads a text in both directions ({architecture}.attention.causal is false), so it is {_ENCODER}",
            hint=_WHAT_LWQ_DOES,
        )
    check_sound(header)
    if not header.n_layer_all or not header.tensors:
        lack = "tensors" if header.n_layer_all else f"{architecture or 'general.architecture'}.block_count"
        raise ModelError(f"{path}: a GGUF, but not of a model (no {lack})", hint="name the model's own .gguf file")
    if len(header.shards) == 1 and (n := header.number("split.count") or 1) > 1:
        keys = " ".join(f"--remove-metadata {key}" for key in header.metadata if key.startswith("split."))
        raise ModelError(
            f"{path}: holds all its tensors, but split.count = {n} is left over from its shards, so llama.cpp would"
            " look for others",
            hint=f"python -m gguf.scripts.gguf_new_metadata {keys} {path.name} OUT.gguf",
        )
    _check_tokenizer(header)
    if sixteen := next((t for t in header.tensors if _is_small(t.name, t.ne) and t.ggml_type in ("f16", "bf16")), None):
        raise ModelError(
            f"{path}: {sixteen.name} is {sixteen.ggml_type.upper()}; llama.cpp computes norms and biases in F32 and"
            " gives up on others",
            hint="convert the model anew from its Hugging Face folder",
        )


def check_class(path: Path, name: str) -> None:
    """Raises ModelError for a class of ``transformers`` that predicts no next token, before it is converted."""
    if what := next((what for pattern, what in _CLASSES if re.search(pattern, name)), ""):
        raise ModelError(f"{path}: {name!r} is {what}", hint=_WHAT_LWQ_DOES)


def _is_small(name: str, ne: tuple[int, ...]) -> bool:
    return sum(n > 1 for n in ne) < 2 and ("norm" in name or name.endswith(".bias"))


def _check_tokenizer(header: GgufHeader) -> None:
    path, model = header.path, header.text("tokenizer.ggml.model")
    if model in ("", "none", "no_vocab"):
        raise ModelError(
            f"{path}: has no tokenizer (tokenizer.ggml.model is {model!r}), so no text can be measured",
            hint="convert the model anew from a folder that has its tokenizer",
        )
    if header.metadata.get("tokenizer.ggml.add_eos_token", model == "t5") is True:
        raise ModelError(
            f"{path}: its tokenizer adds an end token to every text (tokenizer.ggml.add_eos_token), which"
            " llama-perplexity and llama-imatrix refuse",
            hint=f"python -m gguf.scripts.gguf_set_metadata {path.name} tokenizer.ggml.add_eos_token 0",
        )
    if "tokenizer.ggml.tokens" not in header.metadata:
        raise ModelError(f"{path}: has no tokens (tokenizer.ggml.tokens)", hint="convert the model anew")
    first: dict[object, int] = {}
    tokens = read_array(header, "tokenizer.ggml.tokens")
    embedding = next((t for t in header.tensors if t.name == "token_embd.weight"), None)
    if embedding and len(embedding.ne) > 1 and embedding.ne[1] != len(tokens):
        raise ModelError(
            f"{path}: has {len(tokens):,} tokens, but {embedding.ne[1]:,} rows in {embedding.name}; llama.cpp loads no"
            " such model",
            hint="convert it anew, with vocab_size in config.json as many as the rows",
        )
    if model == "llama" and not {"<0x0A>", "\n"} & set(tokens):
        raise ModelError(
            f"{path}: a SentencePiece vocabulary (tokenizer.ggml.model is 'llama') without a token for line ends"
            " (<0x0A>), of which llama.cpp dies",
            hint="convert it anew with the tokenizer as its publisher ships it",
        )
    for i, token in enumerate(tokens):
        if (before := first.setdefault(token, i)) != i and token != "":
            raise ModelError(
                f"{path}: tokens {before} and {i} are both {token!r}; llama.cpp gives up on such a vocabulary",
                hint="mend the tokenizer in the model's Hugging Face folder and convert it anew",
            )


def check_context(header: GgufHeader, n_ctx: int, what: str) -> None:
    """Raises ModelError for windows longer than a model whose positions are learned one by one knows."""
    most = trained_on(header)
    if most and n_ctx > most and _LEARNED in {t.name for t in header.tensors}:
        raise ModelError(
            f"{what}: n_ctx is {n_ctx}, but the model has learned positions for {most} tokens",
            hint=f"set n_ctx to at most {most}",
        )


def trained_on(header: GgufHeader) -> int:
    """Tokens of context that a model was trained on, or 0 where it does not say."""
    return header.number(f"{header.architecture}.context_length") or 0


def cautions(header: GgufHeader, n_ctx: Iterable[int] = ()) -> Iterator[str]:
    """What a reader of figures must know of a model that can be measured all the same."""
    if header.text("tokenizer.ggml.model") == "gpt2" and not header.text("tokenizer.ggml.pre"):
        yield (
            "The file does not name its pre-tokenizer (tokenizer.ggml.pre), so llama.cpp splits text by a default that"
            " is not the model's: all figures rest on other tokens than it was trained on. Convert it anew."
        )
    most, longest = trained_on(header), max(n_ctx, default=0)
    if most and longest > most:
        yield f"Windows of {longest} tokens are longer than the {most} that the model was trained on."
    if n := header.n_layer_nextn:
        last = header.n_layer + n - 1
        blocks = f"Block {last} predicts" if n == 1 else f"Blocks {header.n_layer} to {last} predict"
        yield f"{blocks} further tokens (MTP): in the file, in the types of the stock mix, and not measured."
