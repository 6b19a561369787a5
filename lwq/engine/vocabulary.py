"""A model's tokenizer without its weights."""

from __future__ import annotations

import ctypes
from pathlib import Path

from lwq.engine.bindings import load_bindings
from lwq.errors import ModelError
from lwq.llama.toolchain import Toolchain


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
        raw = text.encode()
        tokens = (ctypes.c_int32 * (len(raw) + 16))()
        n = self.llama.llama_tokenize(self.vocab, raw, len(raw), tokens, len(tokens), True, False)
        return tuple(tokens[:n])
