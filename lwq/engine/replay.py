"""A loaded model whose graph can be computed in parts: put a residual stream back, go on from there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lwq.engine.graph import Graph, read_graph, read_inputs
from lwq.engine.session import Session
from lwq.llama.machine import room_bytes
from lwq.llama.toolchain import Toolchain
from lwq.metrics.arrays import Bytes, Floats, Tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Of one window: what llama.cpp set for it, and the residual stream at the end of some layers."""

    inputs: dict[int, Bytes]
    states: dict[int, Bytes]

    def row_bytes(self, layer: int, n_ctx: int) -> int:
        """Bytes of one token's stream."""
        return len(self.states[layer]) // n_ctx


def spread_out(layers: Iterable[int], n_most: int) -> tuple[int, ...]:
    """At most so many of these layers (one at least), evenly, the last one always."""
    ordered = sorted(layers)
    n = min(max(1, n_most), len(ordered))
    return tuple(ordered[(i + 1) * len(ordered) // n - 1] for i in range(n))


class Replay(Session):
    """A session that knows its graph."""

    def __init__(
        self, toolchain: Toolchain, path: Path, *, n_ctx: int, n_threads: int, scored: range | None = None
    ) -> None:
        super().__init__(toolchain, path, n_ctx=n_ctx, n_threads=n_threads, scored=scored)
        self.graph: Graph | None = None
        self.stations: tuple[int, ...] = ()
        """Layers whose streams are kept of each window, for tails to start from."""
        self._backends: dict[int, int] = {}

    def close(self) -> None:
        """Frees all native memory."""
        if self.graph:
            self.graph.free(self.ggml)
        for backend in self._backends.values():
            self.ggml.lib.ggml_backend_free(backend)
        super().close()

    def find_graph(self, windows: Tokens) -> None:
        """Reads the graph that llama.cpp builds for these windows, and settles which boundaries' streams are kept."""
        if self.graph:
            self.graph.free(self.ggml)
        addresses: list[int] = []

        def listen(address: int, ask: bool) -> bool:
            addresses.append(address)
            return not ask

        self._decode(windows[0], listen)
        self.graph = read_graph(addresses, frozenset(t.name for t in self.header.tensors))
        self.stations = spread_out(self.graph.boundaries, self._states_that_fit(len(windows)))

    def _states_that_fit(self, n_windows: int) -> int:
        """Number of residual streams of one window for which there is room: it decides speed, never a result."""
        stream = self.n_ctx * 4 * (self.header.number(f"{self.header.architecture}.embedding_length") or 1)
        return room_bytes(self.header.file_bytes) // (stream * max(1, n_windows))

    def keep(self, tokens: Tokens, layers: Iterable[int], *, go_on: bool = True) -> Kept:
        """A window computed by llama.cpp, with the residual streams behind these layers (ends of the graph's parts).

        Args:
            go_on: compute what is behind the last of them too.
        """
        assert self.graph
        graph, kept = self.graph, Kept(inputs={}, states={})
        results = {graph.boundaries[layer].address: layer for layer in layers}
        to_the_end = go_on or bool(graph.handed)

        def listen(address: int, ask: bool) -> bool:
            if ask:
                kept.inputs.update(read_inputs(self.ggml, graph.handed.get(address, ())))
                return address in results
            if not kept.states:  # later, they may be overwritten
                kept.inputs.update(read_inputs(self.ggml, graph.inputs))
            kept.states[results[address]] = self.ggml.read(address)
            return to_the_end or len(kept.states) < len(results)

        self._decode(tokens, listen)
        return kept

    def streams(self, tokens: Tokens) -> list[Floats]:
        """The residual stream that enters each layer, and the one that leaves the last: (tokens, n_embd) each.

        Only positions that are scored leave the last layer; score them all where that matters.
        """
        assert self.graph
        kept = self.keep(tokens, self.graph.boundaries)
        return [kept.states[layer].view(np.float32).reshape(self.n_ctx, -1) for layer in sorted(kept.states)]

    def decoded(self, tokens: Tokens) -> Floats:
        """Logits of a window, shape (scored tokens, n_vocab), all layers computed by llama.cpp."""
        self._decode(tokens)
        return self._decoded()

    def enter(self, inputs: Mapping[int, Bytes], layer: int, state: Bytes) -> None:
        """Puts back what a window's graph is given, and the residual stream behind a layer."""
        assert self.graph
        for address, data in inputs.items():
            self.ggml.write(address, data)
        self.ggml.write(self.graph.boundaries[layer].address, state)

    def advance(self, start: int, stop: int) -> None:
        """Computes the graph's nodes from ``start`` up to, not with, ``stop``."""
        assert self.graph
        for stretch in self.graph.part(self.ggml, start, stop):
            for result, copy in stretch.copied:
                self.ggml.lib.ggml_backend_tensor_copy(result, copy)
            if stretch.device not in self._backends:
                self._backends[stretch.device] = self.ggml.backend(stretch.device, self.n_threads)
            self.ggml.compute(self._backends[stretch.device], stretch.graph)

    def result(self) -> Floats:
        """The logits that the graph holds now, shape (scored tokens, n_vocab)."""
        assert self.graph
        return self.ggml.read(self.graph.result()).view(np.float32).reshape(self.n_scored, self.n_vocab)
