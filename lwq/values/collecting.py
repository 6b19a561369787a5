"""Collects Gram matrices: windows go through a part of the graph after another, and few matrices are held at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from lwq.engine.activations import ActivationSource, activation_sources
from lwq.engine.ggml import in_order
from lwq.engine.replay import Kept, Replay
from lwq.metrics.arrays import Bytes, Floats, Tokens
from lwq.values.blas import one_blas_thread
from lwq.values.grams import Gathered, packed

MATRIX_BYTES: Final = 2 << 30
"""Of matrices that are summed at the same time, unless one place alone needs more."""
N_HELD: Final = 32
"""Tokens of each window that is held out."""
N_HELD_EXPERTS: Final = 4
_COLUMNS: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Inlet:
    """A node of the graph that enters multiplications."""

    source: ActivationSource
    indices: tuple[int, ...]
    """Of its nodes in the graph."""
    tensors: tuple[str, ...]
    n_channels: int
    n_experts: int

    @property
    def name(self) -> str:
        return self.tensors[0]

    @property
    def n_bytes(self) -> int:
        """Of its matrices while they are summed."""
        return 4 * self.n_channels**2 * self.n_experts


Segment = tuple[Inlet, ...]
"""Places whose matrices are summed in one pass."""


def segments(session: Replay, names: Sequence[str]) -> tuple[Segment, ...]:
    """The places that these tensors read, in the order of the graph, so many together as memory allows."""
    assert session.graph
    index = {node.address: i for i, node in enumerate(session.graph.nodes)}
    readers: dict[ActivationSource, list[str]] = {}
    for name, source in activation_sources(session, frozenset(names)).items():
        readers.setdefault(source, []).append(name)
    places = [
        Inlet(
            source=source,
            indices=tuple(index[a] for a in source.addresses),
            tensors=tuple(sorted(tensors)),
            n_channels=session.ggml.shape(source.node)[0],
            n_experts=_n_experts(session, tensors[0]) if source.chosen is not None else 1,
        )
        for source, tensors in readers.items()
    ]
    together: list[list[Inlet]] = []
    for place in sorted(places, key=lambda p: max(p.indices)):
        if not together or sum(p.n_bytes for p in together[-1]) + place.n_bytes > MATRIX_BYTES:
            together.append([])
        together[-1].append(place)
    return tuple(tuple(segment) for segment in together)


def _n_experts(session: Replay, name: str) -> int:
    ne = session.header.find(name)[1].ne
    return ne[2] if len(ne) > 2 else 1


@dataclass(slots=True, kw_only=True)
class Gathering:
    """Of one place: Σ x xᵀ by expert, and held tokens."""

    totals: dict[int, Floats] = field(default_factory=dict)
    n_tokens: dict[int, int] = field(default_factory=dict)
    held: dict[int, list[Floats]] = field(default_factory=dict)

    def add(self, expert: int, values: Floats, pool: ThreadPoolExecutor) -> None:
        """Sums blocks of columns, each by one thread: their bytes do not depend on the number of threads."""
        n = values.shape[1]
        total = self.totals.setdefault(expert, np.zeros((n, n), np.float32))
        self.n_tokens[expert] = self.n_tokens.get(expert, 0) + len(values)

        def block(start: int) -> None:  # the lower triangle is enough
            rows = slice(start, start + _COLUMNS)
            total[rows, : start + _COLUMNS] += values[:, rows].T @ values[:, : start + _COLUMNS]

        list(pool.map(block, range(0, n, _COLUMNS)))

    def gathered(self) -> Gathered:
        most = sorted(self.held, key=lambda e: (-sum(map(len, self.held[e])), e))[:N_HELD_EXPERTS]
        return Gathered(
            grams={e: packed(total, self.n_tokens[e]) for e, total in sorted(self.totals.items())},
            held={e: np.concatenate(self.held[e]) for e in sorted(most)},
        )


class Collector:
    """Takes windows through the graph, segment by segment.

    Args:
        windows: those that are summed.
        held: those of which a few tokens are kept as they are.
    """

    def __init__(self, session: Replay, windows: Tokens, held: Tokens) -> None:
        self.session, self.n_summed = session, len(windows)
        self.windows = np.concatenate((windows, held))
        self._kept: dict[int, Kept] = {}
        self._layer: int | None = None

    def collect(self, segment: Segment, then: Segment, on_window: Callable[[], None]) -> dict[str, Gathered]:
        """What enters the multiplications of a segment, by the name of its place.

        Args:
            then: the segment that comes next; empty at the end.
        """
        sums = {place.name: Gathering() for place in segment}
        to = self._boundary_before(then) if self._is_behind_a_boundary(segment) else None
        with one_blas_thread(), ThreadPoolExecutor(self.session.n_threads) as pool:
            for w in range(len(self.windows)):
                caught = self._caught(w, segment, to)
                for place in segment:
                    self._add(sums[place.name], place, caught, w, pool)
                on_window()
        self._layer = to if to is not None else self._layer
        return {name: each.gathered() for name, each in sums.items()}

    def _add(
        self, sums: Gathering, place: Inlet, caught: Mapping[int, Bytes], w: int, pool: ThreadPoolExecutor
    ) -> None:
        n_tokens = {a: max(1, self.session.ggml.shape(a)[-1]) for a in place.source.addresses}
        rows = {a: [caught[a].reshape(n_tokens[a], -1)] for a in place.source.addresses}
        found = place.source.activations(rows, place.n_channels)
        for expert, values in found.by_expert.items():
            if w < self.n_summed:
                sums.add(expert, values, pool)
            else:
                sums.held.setdefault(expert, []).append(values[:: max(1, len(values) // N_HELD)][:N_HELD].copy())

    def _is_behind_a_boundary(self, segment: Segment) -> bool:
        """Whether a window can be taken up from a boundary; else llama.cpp computes it whole."""
        assert self.session.graph
        ends = self.session.graph.boundaries
        return bool(ends) and ends[min(ends)].index < min(min(p.indices) for p in segment)

    def _boundary_before(self, segment: Segment) -> int | None:
        """The last layer whose end lies before a segment, and behind where the windows stand now."""
        assert self.session.graph
        ends = self.session.graph.boundaries
        if not segment or not ends:
            return None
        first = min(min(p.indices) for p in segment)
        now = self._layer if self._layer is not None else min(ends)
        return max((layer for layer, end in ends.items() if end.index < first and layer > now), default=None)

    def _caught(self, w: int, segment: Segment, to: int | None) -> dict[int, Bytes]:
        """The results of a segment's nodes for one window; it then stands at the end of layer ``to``."""
        session, caught = self.session, {}
        assert session.graph
        ends = session.graph.boundaries
        if not self._is_behind_a_boundary(segment):
            wanted = {a for place in segment for a in place.source.addresses}
            session.observe(self.windows[w], wanted, lambda a, data: caught.update({a: data}))
            return caught
        if w not in self._kept:
            self._kept[w] = session.keep(self.windows[w], (min(ends),), go_on=False)
        kept, layer = self._kept[w], self._layer if self._layer is not None else min(ends)
        session.enter(kept.inputs, layer, kept.states[layer])
        at = ends[layer].index + 1
        address = {i: session.graph.nodes[i].address for place in segment for i in place.indices}
        stops = sorted({*address, *([ends[to].index] if to is not None else [])})
        for i in stops:
            session.advance(at, i + 1)
            at = i + 1
            if i in address:
                caught[address[i]] = in_order(session.ggml, address[i])
            if to is not None and i == ends[to].index:
                kept.states[to] = session.ggml.read(ends[to].address)
                if to != layer:
                    del kept.states[layer]
        return caught
