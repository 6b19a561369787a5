"""A model's tokenizer without its weights, and what task items take up in a context."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Sequence
from pathlib import Path

from lwq.engine.bindings import load_bindings
from lwq.errors import ModelError
from lwq.llama.toolchain import Toolchain
from lwq.tasks.items import Item, Kind


class Vocabulary:
    """The tokenizer of a GGUF, used as a context manager: native memory is its own.

    Raises:
        ModelError: llama.cpp cannot read it.
    """

    def __init__(self, toolchain: Toolchain, path: Path) -> None:
        self.llama = load_bindings(toolchain)
        parameters = self.llama.llama_model_default_params()
        parameters.vocab_only = True
        self.model = self.llama.llama_model_load_from_file(str(path).encode(), parameters)
        if not self.model:
            raise ModelError(
                f"{path.name}: llama.cpp cannot read its vocabulary", hint="`lwq inspect` shows what it is"
            )
        self.vocab = self.llama.llama_model_get_vocab(self.model)

    def __enter__(self) -> Vocabulary:
        return self

    def __exit__(self, *_: object) -> None:
        self.llama.llama_model_free(self.model)

    def tokens(self, text: str) -> tuple[int, ...]:
        """The tokens of a text as llama-perplexity's task scorers make them: special ones added, none parsed."""
        raw = text.encode()
        tokens = (ctypes.c_int32 * (len(raw) + 16))()
        n = self.llama.llama_tokenize(self.vocab, raw, len(raw), tokens, len(tokens), True, False)
        return tuple(tokens[:n])


def measured(vocabulary: Vocabulary, kind: Kind, items: Iterable[Item]) -> tuple[int, tuple[str, ...]]:
    """Tokens that the longest item takes, and ids of items that the tool cannot score fairly.

    An item takes what all its choices share once, and the rest of each. Where all of its choices begin with the
    shortest one, llama-perplexity scores that one by whatever lies behind its tokens in memory.

    Source: tools/perplexity/perplexity.cpp, ``required_tokens``; ``first_probs`` of ``common_prefix``.
    """
    most, unfair = 0, []
    for item in items:
        sequences = [vocabulary.tokens(text) for text in whole_texts(kind, item)]
        shared = n_shared(sequences)
        if kind != "winogrande" and shared == min(map(len, sequences)):
            unfair.append(item.id)
        most = max(most, shared + sum(len(s) - shared for s in sequences))
    return most, tuple(unfair)


def whole_texts(kind: Kind, item: Item) -> tuple[str, ...]:
    """The text of an item with each of its choices."""
    if kind == "winogrande":
        return tuple(item.question.replace("_", choice, 1) for choice in item.choices)
    return tuple(f"{item.question} {choice}" for choice in item.choices)


def n_shared(sequences: Sequence[Sequence[int]]) -> int:
    """Tokens at the start that all sequences have in common."""
    columns = zip(*sequences, strict=False)
    return next((i for i, column in enumerate(columns) if len(set(column)) > 1), min(map(len, sequences)))
