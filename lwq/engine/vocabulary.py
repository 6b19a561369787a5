"""A model's tokenizer without its weights."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any, Final

from lwq.engine.bindings import load_bindings
from lwq.errors import ModelError
from lwq.llama.toolchain import Toolchain

_UNCOUNTED: Final = -(1 << 31)
"""More tokens than ``llama_tokenize`` can count. Source: include/llama.h."""


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

    def start(self) -> tuple[int, ...]:
        """The token that texts begin with, where the model wants one."""
        return (self.llama.llama_vocab_bos(self.vocab),) if self.llama.llama_vocab_get_add_bos(self.vocab) else ()

    def tokens(self, text: str) -> tuple[int, ...]:
        """The tokens of a text as llama-perplexity's task scorers make them: special ones added, none parsed."""
        return tuple(tokens_of(self.llama, self.vocab, text))


def tokens_of(llama: Any, vocab: Any, text: str) -> list[int]:
    """All tokens of a text, special ones added, none parsed.

    A token for each byte is no bound: a vocabulary without ``▁`` takes three for a space.

    Raises:
        ModelError: more tokens than llama.cpp counts.
    """
    raw = text.encode()
    n = -(len(raw) + 16)
    for _ in range(2):  # where there was too little room, it tells how many there are
        if n < 0 and n != _UNCOUNTED:
            tokens = (ctypes.c_int32 * -n)()
            n = llama.llama_tokenize(vocab, raw, len(raw), tokens, len(tokens), True, False)
    if n < 0:
        raise ModelError(f"a text of {len(raw):,} bytes: llama.cpp cannot count its tokens", hint="give a shorter text")
    return tokens[:n]
