"""One loaded model: a text cut into windows, a window computed, its nodes listened to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, Self

import numpy as np

from lwq.engine.bindings import SHORT_OF_MEMORY, load_bindings, model_parameters, said
from lwq.engine.ggml import Ggml, in_order
from lwq.engine.vocabulary import tokens_of
from lwq.errors import ModelError
from lwq.gguf.header import GgufHeader, read_header
from lwq.llama.toolchain import Toolchain
from lwq.metrics.arrays import Bytes, Floats, Tokens

BESIDE: Final = 0.35
_SPARE_BYTES: Final = 3 << 30
"""What is kept beside a base: tensors in other types, at most as a share of it; and logits, streams, buffers."""
OnCaught = Callable[[int, Bytes], None]
Listener = Callable[[int, bool], bool]
"""(address of a node, whether this only asks) → whether its result is wanted, or whether to go on."""


def spread_over(windows: Tokens, n: int) -> Tokens:
    """``n`` windows evenly from those of a text (all where it has fewer)."""
    n = min(n, len(windows))
    return windows[[int((i + 0.5) * len(windows) / n) for i in range(n)]]


class Session:
    """A model in this process. Use it as a context manager: native memory is its own.

    Args:
        n_ctx: tokens of a window.
        scored: positions of a window whose predictions are wanted; its second half, as in llama-perplexity,
            when None.

    Raises:
        ModelError: llama.cpp cannot load or run the file.
    """

    def __init__(
        self, toolchain: Toolchain, path: Path, *, n_ctx: int, n_threads: int, scored: range | None = None
    ) -> None:
        self.llama = load_bindings(toolchain)
        self.ggml = Ggml(self.llama.llama_cpp._lib)
        self.device = toolchain.device
        self.header: GgufHeader = read_header(path)
        self.path, self.n_ctx, self.n_threads = path, n_ctx, n_threads
        self.scored = range(n_ctx // 2, n_ctx - 1) if scored is None else scored
        self._listener: Listener | None = None
        self._failure: BaseException | None = None
        self._load()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def n_scored(self) -> int:
        """Scored tokens of a window."""
        return len(self.scored)

    def _load(self) -> None:
        llama = self.llama
        device, header = self.device, self.header
        n_layers = device.n_layers(header.file_bytes, header.n_layer_all, beside=BESIDE, spare=_SPARE_BYTES)
        parameters = model_parameters(llama, device, n_layers)
        parameters.use_extra_bufts = False  # kernels of the base's own type, as of all that is swapped
        self.model = llama.llama_model_load_from_file(str(self.path).encode(), parameters)
        if not self.model:
            raise ModelError(
                f"{self.path.name}: llama.cpp cannot load it{said()}", hint="`lwq inspect` shows what it is"
            )
        options = llama.llama_context_default_params()
        options.n_ctx = options.n_batch = options.n_ubatch = self.n_ctx
        options.n_threads = options.n_threads_batch = self.n_threads
        options.n_seq_max = 1
        options.op_offload = False  # products are computed where their weights lie: swapped ones are read there
        self._callback = type(options.cb_eval)(self._on_node)  # kept: native code calls it
        options.cb_eval = self._callback
        self.context = llama.llama_init_from_model(self.model, options)
        if not self.context:
            llama.llama_model_free(self.model)
            told = f"{self.path.name}: llama.cpp cannot run it with windows of {self.n_ctx} tokens{said()}"
            raise ModelError(told, hint=SHORT_OF_MEMORY)
        self.vocab = llama.llama_model_get_vocab(self.model)
        self.n_vocab = llama.llama_vocab_n_tokens(self.vocab)
        self.batch = llama.llama_batch_init(self.n_ctx, 0, 1)

    def close(self) -> None:
        """Frees all native memory."""
        self.llama.llama_batch_free(self.batch)
        self.llama.llama_free(self.context)
        self.llama.llama_model_free(self.model)

    def cut(self, text: str) -> Tokens:
        """All whole windows of a text, shape (windows, n_ctx), cut as llama-perplexity cuts them.

        It drops one newline at the end (common/arg.cpp), and no carriage returns.
        """
        tokens = tokens_of(self.llama, self.vocab, text.removesuffix("\n"))
        windows = np.array(tokens[: len(tokens) // self.n_ctx * self.n_ctx], np.int32).reshape(-1, self.n_ctx)
        if self.llama.llama_vocab_get_add_bos(self.vocab) and len(windows):
            windows[:, 0] = self.llama.llama_vocab_bos(self.vocab)
        return windows

    def cut_file(self, path: Path, name: str) -> Tokens:
        """The same of a text file, which ``name`` calls in errors.

        Raises:
            ModelError: fewer than two windows.
        """
        windows = self.cut(path.read_bytes().decode())
        if len(windows) < 2:
            raise ModelError(f"{name}: has {len(windows)} windows of {self.n_ctx} tokens, 2 are needed")
        return windows

    def _on_node(self, address: int, ask: bool, _: Any) -> bool:
        """Called by native code, which lets no exception through: the first is kept, and ends the computation."""
        if self._listener is None:
            return False
        try:
            return self._listener(address, ask)
        except BaseException as failure:
            self._failure, self._listener = failure, None
            return False

    def observe(self, tokens: Tokens, addresses: Iterable[int], on_caught: OnCaught) -> None:
        """Computes a window and hands over the results of these nodes of ``graph``."""
        wanted = frozenset(addresses)

        def listen(address: int, ask: bool) -> bool:
            if ask:
                return address in wanted
            on_caught(address, in_order(self.ggml, address))
            return True

        self._decode(tokens, listen)

    def _decode(self, tokens: Tokens, listener: Listener | None = None) -> None:
        """Computes a window, with somebody listening to its nodes.

        Raises:
            ModelError: llama.cpp cannot compute it.
            BaseException: what the listener raised.
        """
        llama, batch = self.llama, self.batch
        llama.llama_memory_clear(llama.llama_get_memory(self.context), True)
        batch.n_tokens = self.n_ctx
        for i, token in enumerate(tokens.tolist()):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0] = token, i, 1, 0
            batch.logits[i] = i in self.scored
        self._listener, self._failure = listener, None
        status = llama.llama_decode(self.context, batch)
        llama.llama_synchronize(self.context)  # devices compute on while the call is back
        self._listener = None
        if self._failure:
            raise self._failure
        if status:
            told = f"{self.path.name}: llama.cpp cannot compute a window of {self.n_ctx} tokens{said()}"
            raise ModelError(told, hint=SHORT_OF_MEMORY)

    def _decoded(self) -> Floats:
        rows = (self.llama.llama_get_logits_ith(self.context, i) for i in self.scored)
        return np.stack([np.ctypeslib.as_array(row, (self.n_vocab,)) for row in rows])
