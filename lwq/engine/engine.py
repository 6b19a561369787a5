"""One model in this process: layers left out, and windows scored against its own first state."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from lwq.engine.replay import Kept
from lwq.engine.swapping import Swappable
from lwq.errors import ModelError
from lwq.gguf.types import split_name
from lwq.llama.toolchain import Toolchain
from lwq.metrics.arrays import Bytes, Doubles, Floats, Tokens
from lwq.metrics.divergence import Scores, token_kld

ENDS: Final = {
    "attention": ("attn_output", "ssm_out", "shortconv.out_proj"),
    "ffn": ("ffn_down", "ffn_down_exps", "ffn_down_shexp", "ffn_down_chexps"),
}
"""What writes to the residual stream, by part of a layer."""


class Engine(Swappable):
    """A loaded model, the windows it is scored on, and the logits it gave for them when they were set."""

    def __init__(
        self, toolchain: Toolchain, path: Path, *, n_ctx: int, n_threads: int, scored: range | None = None
    ) -> None:
        super().__init__(toolchain, path, n_ctx=n_ctx, n_threads=n_threads, scored=scored)
        self.windows: Tokens = np.empty((0, n_ctx), np.int32)
        self._base: list[Floats] = []
        self.kept: list[Kept] = []

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def set_windows(self, windows: Tokens, scored: range | None = None) -> None:
        """Scores from here on are against what the model says now, of these windows.

        Args:
            scored: other positions that are scored from here on.

        Raises:
            ModelError: logits that are not finite.
        """
        self.scored = self.scored if scored is None else scored
        self.windows, self._base = windows, []
        self.find_graph(windows)
        self.kept = []
        for tokens in windows:
            logits = self._keep_states(tokens)
            if not np.isfinite(logits).all():
                raise ModelError(f"{self.path.name}: its logits are not finite", hint="the model itself is broken")
            self._base.append(logits)

    def settle(self) -> None:
        """Later scores start from the residual streams of the weights as they are now (the base stays)."""
        self.kept = []
        for tokens in self.windows:
            self._keep_states(tokens)

    def _keep_states(self, tokens: Tokens) -> Floats:
        assert self.graph
        kept = self.keep(tokens, self.stations)
        if len(kept.states) < len(self.stations):  # another graph: nothing known of it, so no short cut
            self.graph.boundaries.clear()
            self.stations = ()
        self.kept.append(kept)
        return self._decoded()

    def stream(self, window: int, layer: int) -> Kept:
        """What llama.cpp set for a window, and the stream behind a layer; computed again where it was not kept."""
        kept = self.kept[window]
        return kept if layer in kept.states else self.keep(self.windows[window], (layer,))

    # layers

    def skip_layer(self, layer: int, parts: Iterable[str] = tuple(ENDS)) -> tuple[str, ...]:
        """Makes a layer (or only its ``attention`` or ``ffn``) add nothing; the tensors swapped for zeros.

        A pre-norm layer is the identity then, and so is one whose outputs pass a norm. ``restore`` undoes it.
        """
        names = self.ends(layer, parts)
        for name in names:
            _, tensor = self.header.find(name)
            self.swap(name, tensor.ggml_type, np.zeros(tensor.n_bytes, np.uint8))
        return names

    def ends(self, layer: int, parts: Iterable[str] = tuple(ENDS)) -> tuple[str, ...]:
        """The tensors by which a layer (or these parts of it) writes to the residual stream."""
        assert self.graph
        starts = tuple(f"blk.{layer}.{end}." for part in parts for end in ENDS[part])
        return tuple(n for n in self.graph.weights if n.startswith(starts))

    def is_identity(self, layer: int) -> bool:
        """Whether what leaves a layer is, bit for bit, what enters it, with the weights as they are now."""
        assert self.graph
        if not {layer - 1, layer} <= set(self.graph.boundaries):
            return False
        before = self.graph.boundaries[layer - 1]
        kept = self.stream(0, layer - 1)
        self.enter(kept.inputs, layer - 1, kept.states[layer - 1])
        self.advance(before.index + 1, self.graph.boundaries[layer].index + 1)
        width = kept.row_bytes(layer - 1, self.n_ctx)
        rows = self.ggml.read(self.graph.boundaries[layer].address).reshape(-1, width)
        entered = kept.states[layer - 1].reshape(self.n_ctx, -1)
        return np.array_equal(rows, entered if len(rows) == self.n_ctx else entered[np.array(self.scored)])

    # scores

    def logits(self, window: int, first_layer: int) -> Floats:
        """Logits of a window, shape (scored tokens, n_vocab), if nothing changed below ``first_layer``."""
        assert self.graph
        below = [b for b in self.stations if b < first_layer]
        if below:
            return self._logits_from(window, max(below), self.kept[window].states[max(below)])
        self._decode(self.windows[window])
        return self._decoded()

    def _logits_from(self, window: int, layer: int, state: Bytes) -> Floats:
        """The same, if this residual stream left a layer."""
        assert self.graph
        self.enter(self.kept[window].inputs, layer, state)
        self.advance(self.graph.boundaries[layer].index + 1, len(self.graph.nodes))
        return self.result()

    def place(self, name: str) -> int:
        """The layer whose start a change of this tensor reaches: −1 the whole model, n_layer the output only."""
        layer = split_name(name)[0]
        if layer is not None:
            return layer
        return self.header.n_layer if name.startswith("output") else -1

    def score(self, *changed: str, windows: Sequence[int] | None = None) -> Scores:
        """KLD and likelihood of every scored token, given which tensors changed since ``settle``.

        Raises:
            ModelError: the changed model's logits are not finite.
        """
        first = min((self.place(name) for name in changed), default=-1)
        klds, nlls = [], []
        for w in range(len(self.windows)) if windows is None else windows:
            kld, nll = self._window_scores(w, self.logits(w, first))
            klds.append(kld)
            nlls.append(nll)
        scores = Scores(kld=np.array(klds), nll=np.array(nlls))
        if not np.isfinite(scores.kld).all():
            what = ", ".join(changed[:3]) or "this change"
            raise ModelError(f"{self.path.name}: logits are not finite after {what}", hint="keep a finer type there")
        return scores

    def score_from(self, layer: int, states: Sequence[Bytes]) -> Scores:
        """Scores of all windows, if these residual streams left a layer."""
        klds, nlls = [], []
        for w, state in enumerate(states):
            kld, nll = self._window_scores(w, self._logits_from(w, layer, state))
            klds.append(kld)
            nlls.append(nll)
        return Scores(kld=np.array(klds), nll=np.array(nlls))

    def _window_scores(self, w: int, logits: Floats) -> tuple[Doubles, Doubles]:
        kld, partition = token_kld(self._base[w], logits, self.n_threads)
        following = self.windows[w][np.array(self.scored) + 1]
        return kld, partition - logits[np.arange(self.n_scored), following]
