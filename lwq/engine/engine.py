"""One model in this process: layers left out, and windows scored against its own first state."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from lwq.engine.judge import Judge, appointed
from lwq.engine.windows import Windowed
from lwq.errors import ModelError
from lwq.llama.toolchain import Toolchain
from lwq.metrics.arrays import Bytes, Doubles, Floats, Tokens
from lwq.metrics.divergence import Scores, token_kld


class Engine(Windowed):
    """A loaded model, the windows it is scored on, and the logits it gave for them when they were set."""

    def __init__(
        self, toolchain: Toolchain, path: Path, *, n_ctx: int, n_threads: int, scored: range | None = None
    ) -> None:
        super().__init__(toolchain, path, n_ctx=n_ctx, n_threads=n_threads, scored=scored)
        self._base: list[Floats] = []
        self._judge: Judge | None = None
        self._is_settled = False
        """Whether it is known if there can be a judge."""

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
        self._dismiss()
        for _, read in self.settled():
            logits = read()
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

    def score(self, *changed: str, windows: Sequence[int] | None = None) -> Scores:
        """KLD and likelihood of every scored token, given which tensors changed since ``settle``.

        Raises:
            ModelError: the changed model's logits are not finite.
        """
        first = min((self.place(name) for name in changed), default=-1)
        scores = self._scores(self.computed(range(len(self.windows)) if windows is None else windows, first))
        if not np.isfinite(scores.kld).all():
            what = ", ".join(changed[:3]) or "this change"
            raise ModelError(f"{self.path.name}: logits are not finite after {what}", hint="keep a finer type there")
        return scores

    def score_from(self, layer: int, states: Sequence[Bytes]) -> Scores:
        """Scores of all windows, if these residual streams left a layer."""
        return self._scores(self.computed_from(dict(enumerate(states)), layer))

    def _scores(self, computed: Iterable[tuple[int, Callable[[], Floats]]]) -> Scores:
        each = [self._window_scores(w, read) for w, read in computed]
        return Scores(kld=np.array([kld for kld, _ in each]), nll=np.array([nll for _, nll in each]))

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
