"""``lwq allocate --frontier --prune auto``: at each size, are fewer layers or fewer bits predicted to cost less?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass

import click

from lwq.bits.damage import TensorDamage
from lwq.bits.frontier import choices, least_and_most
from lwq.cli.tables import print_json, print_table
from lwq.gguf.header import GgufHeader
from lwq.layers.lean import lean_candidates
from lwq.recipe.constraints import Constraints
from lwq.record.prune import HealedSet
from lwq.record.search import FrontierPoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """One budget: the predicted damage with all layers (None: they do not fit) and without the best set of layers."""

    n_bytes: int
    kld: float | None
    layers: tuple[int, ...]
    pruned_kld: float | None

    @property
    def pays(self) -> str:
        if self.pruned_kld is None:
            return "no set of layers fits"
        if self.kld is None:
            return "only pruned fits"
        return "pays" if self.pruned_kld < self.kld else "does not pay"


@dataclass(frozen=True, slots=True, kw_only=True)
class PruningOffer:
    """What may be stored how, and what may go."""

    header: GgufHeader
    known: Mapping[str, TensorDamage]
    constraints: Constraints
    sets: tuple[HealedSet, ...]

    def size(self, n_bytes: int, kld: float | None) -> Size:
        """One budget weighed."""
        candidates = lean_candidates(self.header, self.known, self.constraints, n_bytes, self.sets)
        best = min(candidates, key=lambda lean: lean.predicted, default=None)
        layers = best.healed.layers if best else ()
        return Size(n_bytes=n_bytes, kld=kld, layers=layers, pruned_kld=best.predicted if best else None)

    def smaller(self) -> Iterator[int]:
        """The least bytes that the model without each set of layers takes."""
        for healed in self.sets:
            groups, others = choices(self.header, self.known, self.constraints, healed.layers)
            yield least_and_most(groups)[0] + others


def show_pruned(offer: PruningOffer, points: Iterable[FrontierPoint], *, as_json: bool) -> None:
    """Prints each size and whether pruning is predicted to pay there."""
    sizes = [offer.size(n, None) for n in offer.smaller()]
    sizes += [offer.size(p.n_bytes, p.predicted_kld) for p in points]
    sizes.sort(key=lambda s: s.n_bytes)
    if as_json:
        print_json([{**asdict(s), "verdict": s.pays} for s in sizes])
        return
    click.echo("predicted: KLD (nats) as the sum of single damages; of a removal as measured, healed")
    n = offer.header.n_params
    rows = [
        (
            f"{s.n_bytes / 2**20:.2f}",
            f"{8 * s.n_bytes / n:.4f}",
            "-" if s.kld is None else f"{s.kld:.5f}",
            "-" if s.pruned_kld is None else f"{s.pruned_kld:.5f}",
            ", ".join(map(str, s.layers)) or "-",
            s.pays,
        )
        for s in sizes
    ]
    print_table(("MiB", "bpw of all", "all layers", "pruned", "without", "pruning"), rows, left=0)
