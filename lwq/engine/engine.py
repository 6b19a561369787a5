"""One model in this process: layers left out, and windows scored against its own first state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from lwq.engine.judge import Judge, appointed
from lwq.engine.replay import Kept
from lwq.engine.swapping import Swappable
from lwq.errors import ModelError
from lwq.llama.toolchain import Toolchain
from lwq.metrics.arrays import Bytes, Doubles, Floats, Tokens
from lwq.metrics.divergence import Scores, token_kld


class Engine(Swappable):
    """A loaded model, the windows it is scored on, and the logits it gave for them when they were set."""

    def __init__(
        self, toolchain: Toolchain, path: Path, *, n_ctx: int, n_threads: int, scored: range | None = None
    ) -> None:
        super().__init__(toolchain, path, n_ctx=n_ctx, n_threads=n_threads, scored=scored)
        self.windows: Tokens = np.empty((0, n_ctx), np.int32)
        self._base: list[Floats] = []
        self.kept: list[Kept] = []
        self._judge: Judge | None = None
        self._is_settled = False
        """Whether it is known if there can be a judge."""

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
        self.windows, self._base, self.kept = windows, [], []
        self.find_graph(windows)
        self._dismiss()
        for tokens in windows:
            logits = self._keep_states(tokens)
            if not np.isfinite(logits).all():
                raise ModelError(f"{self.path.name}: its logits are not finite", hint="the model itself is broken")
            self._base.append(logits)

    def _appoint(self) -> None:
        """Scores are computed where the logits lie, if that is a device that can; settled when the first is wanted."""
        assert self.graph
        self._is_settled = True
        self._judge = judge = appointed(self.ggml, self.graph.result(), self.n_threads)
        for w, logits in enumerate(self._base if judge else ()):
            assert judge
            judge.add(logits, self._host_scores(w, logits)[1], self._following(w))

    def _dismiss(self) -> None:
        if self._judge:
            self._judge.free()
        self._judge, self._is_settled = None, False

    def close(self) -> None:
        """Frees all native memory."""
        self._dismiss()
        super().close()

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
        return self._compute(window, first_layer)()

    def _compute(self, window: int, first_layer: int) -> Callable[[], Floats]:
        """The same, left where they lie; what reads them."""
        below = [b for b in self.stations if b < first_layer]
        if below:
            return self._compute_from(window, max(below), self.kept[window].states[max(below)])
        self._decode(self.windows[window])
        return self._decoded

    def _compute_from(self, window: int, layer: int, state: Bytes) -> Callable[[], Floats]:
        """The same, if this residual stream left a layer."""
        assert self.graph
        self.enter(self.kept[window].inputs, layer, state)
        self.advance(self.graph.boundaries[layer].index + 1, len(self.graph.nodes))
        return self.result

    def score(self, *changed: str, windows: Sequence[int] | None = None) -> Scores:
        """KLD and likelihood of every scored token, given which tensors changed since ``settle``.

        Raises:
            ModelError: the changed model's logits are not finite.
        """
        first = min((self.place(name) for name in changed), default=-1)
        klds, nlls = [], []
        for w in range(len(self.windows)) if windows is None else windows:
            kld, nll = self._window_scores(w, self._compute(w, first))
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
            kld, nll = self._window_scores(w, self._compute_from(w, layer, state))
            klds.append(kld)
            nlls.append(nll)
        return Scores(kld=np.array(klds), nll=np.array(nlls))

    def _window_scores(self, w: int, read: Callable[[], Floats]) -> tuple[Doubles, Doubles]:
        if not self._is_settled:
            self._appoint()
        if self._judge:
            kld, nll = self._judge.scores(w)
            if np.isfinite(kld).all():
                return kld, nll
        return self._host_scores(w, read())

    def _host_scores(self, w: int, logits: Floats) -> tuple[Doubles, Doubles]:
        kld, partition = token_kld(self._base[w], logits, self.n_threads)
        return kld, partition - logits[np.arange(self.n_scored), self._following(w)]

    def _following(self, w: int) -> Tokens:
        """The tokens behind the scored ones of a window."""
        following: Tokens = self.windows[w][np.array(self.scored) + 1]
        return following
