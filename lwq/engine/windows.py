"""The windows that a model is computed on: their kept streams, and logits from them, one window after another or, where
the model does not fit into memory, a layer after another for all windows, so that its file is read once for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from lwq.engine.replay import Kept
from lwq.engine.swapping import Swappable
from lwq.llama.machine import available_memory_bytes
from lwq.llama.toolchain import Toolchain
from lwq.metrics.arrays import Bytes, Floats, Tokens

Computed = Iterator[tuple[int, Callable[[], Floats]]]
"""(window, what reads its logits, shape (scored tokens, n_vocab), from where they lie before the next is computed)."""


class Windowed(Swappable):
    """A loaded model and its windows."""

    def __init__(
        self, toolchain: Toolchain, path: Path, *, n_ctx: int, n_threads: int, scored: range | None = None
    ) -> None:
        super().__init__(toolchain, path, n_ctx=n_ctx, n_threads=n_threads, scored=scored)
        self.windows: Tokens = np.empty((0, n_ctx), np.int32)
        self.kept: list[Kept] = []

    def settle(self) -> None:
        """Later scores start from the residual streams of the weights as they are now (the base stays)."""
        for _ in self.settled():
            pass

    def settled(self) -> Computed:
        """The same, and every window's logits."""
        self.kept = []
        if self.goes_by_layer(len(self.windows)):
            yield from self._settled_by_layer()
            return
        for w, tokens in enumerate(self.windows):
            kept = self.keep(tokens, self.stations)
            if len(kept.states) < len(self.stations):  # another graph: nothing known of it, so no short cut
                assert self.graph
                self.graph.boundaries.clear()
                self.stations = ()
            self.kept.append(kept)
            yield w, self._decoded

    def _settled_by_layer(self) -> Computed:
        assert self.graph
        first = min(self.graph.boundaries)
        self.kept = [self.keep(tokens, (first,), go_on=False) for tokens in self.windows]
        entered = {w: kept.states.pop(first) for w, kept in enumerate(self.kept)}
        layer, states = first, entered
        for layer, states in self._by_layer(entered, first):
            for w, state in states.items() if layer in self.stations else ():
                self.kept[w].states[layer] = state
        yield from self._tails(states, layer)

    def goes_by_layer(self, n_windows: int) -> bool:
        """Whether several windows take their way a layer at a time: it decides speed, never a result."""
        assert self.graph
        in_host_memory = self.ggml.is_on_cpu(self.graph.result())
        is_large = self.header.file_bytes > available_memory_bytes(of_files=True)
        return n_windows > 1 and in_host_memory and is_large and len(self.graph.boundaries) > 1

    def stream(self, window: int, layer: int) -> Kept:
        """What llama.cpp set for a window, and the stream behind a layer; computed again where it was not kept."""
        kept = self.kept[window]
        return kept if layer in kept.states else self.keep(self.windows[window], (layer,))

    def logits(self, window: int, first_layer: int) -> Floats:
        """Logits of a window, shape (scored tokens, n_vocab), if nothing changed below ``first_layer``."""
        ((_, read),) = self.computed((window,), first_layer)
        return read()

    def computed(self, windows: Iterable[int], first_layer: int) -> Computed:
        """Logits of windows, if nothing changed below ``first_layer``."""
        windows = tuple(windows)
        below = [b for b in self.stations if b < first_layer]
        if below:
            yield from self.computed_from({w: self.kept[w].states[max(below)] for w in windows}, max(below))
        elif self.goes_by_layer(len(windows)):
            assert self.graph
            first = min(self.graph.boundaries)
            kept = {w: self.keep(self.windows[w], (first,), go_on=False) for w in windows}
            yield from self.computed_from({w: k.states[first] for w, k in kept.items()}, first)
        else:
            for w in windows:
                self._decode(self.windows[w])
                yield w, self._decoded

    def computed_from(self, states: Mapping[int, Bytes], layer: int) -> Computed:
        """Logits of windows, if these residual streams left a layer."""
        if self.goes_by_layer(len(states)):
            *_, (layer, states) = self._by_layer(states, layer)
        yield from self._tails(states, layer)

    def _tails(self, states: Mapping[int, Bytes], layer: int) -> Computed:
        assert self.graph
        for w, state in states.items():
            self.enter(self.kept[w].inputs, layer, state)
            self.advance(self.graph.boundaries[layer].index + 1, len(self.graph.nodes))
            yield w, self.result

    def _by_layer(self, states: Mapping[int, Bytes], layer: int) -> Iterator[tuple[int, dict[int, Bytes]]]:
        """Streams of windows behind this layer and each that follows, computed for all windows before the next."""
        assert self.graph
        ends, states = self.graph.boundaries, dict(states)
        yield layer, states
        for after in sorted(end for end in ends if end > layer):
            for w in states:
                self.enter(self.kept[w].inputs, layer, states[w])
                self.advance(ends[layer].index + 1, ends[after].index + 1)
                states[w] = self.ggml.read(ends[after].address)
            layer = after
            yield layer, states
