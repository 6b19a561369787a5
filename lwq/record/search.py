"""What measuring sensitivity and searching an allocation found out, as values of the record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lwq.metrics.values import Estimate, Interval

Coverage = Literal["layers", "all"]
"""Which tensors are probed: some of each layer, from which the others are estimated, or each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSensitivity:
    """One tensor's probe, or what it is likely to show, and its curve of local errors."""

    tensor: str
    layer: int | None
    tensor_class: str
    n_elements: int
    probe_type: str
    kld: Estimate
    """KLD (nats) of the model with this tensor alone in ``probe_type``; measured if ``is_probed``, else estimated."""
    alpha: float
    """KLD per unit of local error: ``kld`` ÷ error in the probe's type."""
    errors: tuple[tuple[str, float], ...]
    """(ggml type, relative error of the tensor's product with real activations)."""
    is_probed: bool = True
    """False: ``kld`` and ``alpha`` are estimated from probes in its layer, and the stderr is that estimate's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Up to which size a model, or a model without some layers, generates as fast as was asked for."""

    wanted: float
    """Tokens per second of generation, in llama-bench's ``tg128``."""
    layers: tuple[int, ...]
    """The layers that are gone, by their numbers in the original; empty for the whole model."""
    n_bytes: int | None
    """Of all tensors; None: no size that was tried is fast enough."""
    tried: tuple[tuple[int, Estimate], ...]
    """(bytes of all tensors, measured tokens per second), in the order in which they were tried."""
    busy: float = 0.0
    """Largest share of the CPUs that others used just before a file was timed."""

    def limit(self, budget_bytes: int) -> int:
        """The bytes within both the budget and the pace."""
        return min(budget_bytes, self.n_bytes or 0) if self.tried else budget_bytes

    @property
    def is_too_slow(self) -> bool:
        """Whether it would fit, but no size is fast enough."""
        return bool(self.tried) and self.n_bytes is None

    @property
    def fastest(self) -> Estimate:
        """The highest speed that was measured."""
        return max((speed for _, speed in self.tried), key=lambda speed: speed.value)

    def __str__(self) -> str:
        error = f" ±{self.fastest.stderr:.2f}" if self.fastest.stderr is not None else ""
        return (
            f"no size makes the {self.wanted:g} tokens per second asked for: the fastest of {len(self.tried)} makes"
            f" {self.fastest.value:.2f}{error}, which less 1.64 errors has to reach that"
        )


def budget_and_pace(budget: str, paces: tuple[Pace, ...]) -> str:
    """A budget with the speed that is asked for beside it."""
    return f"{budget}, at least {paces[0].wanted:g} tokens per second" if paces else budget


CandidateKind = Literal["stock", "hand", "allocated", "pruned"]
"""What a candidate is: llama-quantize's own mix, a hand-written one, one that was computed, one of a model without
some of its layers."""
_STOCK, _PRUNED = "stock ", "without layer"


def stock_name(ftype: str) -> str:
    """What the stock mix of an ftype is called among candidates."""
    return f"{_STOCK}{ftype}"


def pruned_name(layers: tuple[int, ...]) -> str:
    """What the best allocation of a model without these layers is called among candidates."""
    return f"{_PRUNED}{'s' if len(layers) > 1 else ''} {', '.join(map(str, layers))}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchCandidate:
    """One mix that was a candidate for a target, predicted and measured on the selection text."""

    name: str
    """``stock Q4_K_M``, ``allocation, exponent 1``, ``without layers 3, 17``, or the name of a target."""
    n_bytes: int
    """Tensor bytes of the whole file."""
    predicted_kld: float
    """Nats, by the fitted interaction of single damages."""
    kld: Estimate | None
    """Measured nats on ``n_windows`` windows of the selection text; None: dropped unmeasured."""
    n_windows: int
    verdict: str
    """``chosen``, or why it was not."""

    @property
    def kind(self) -> CandidateKind:
        """What it is: the only names without a space are those of targets, which never hold one."""
        if " " not in self.name:
            return "hand"
        if self.name.startswith(_STOCK):
            return "stock"
        return "pruned" if self.name.startswith(_PRUNED) else "allocated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """The best candidate against the stock mix on windows of the selection text that nothing was chosen by."""

    n_windows: int
    difference: Estimate
    """KLD of the candidate less that of the stock mix, nats, paired by window; the error by blocks of windows."""
    quotient: float
    """KLD of the candidate ÷ that of the stock mix."""
    interval: Interval
    """95 % interval of the quotient."""

    @property
    def is_lower(self) -> bool:
        """Whether the candidate is surely better."""
        return self.interval.high < 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """How one target's allocation was found."""

    budget: str
    """As the recipe says it: ``the size of stock Q4_K_M``, ``4.25 bpw``, ``12 GiB``."""
    budget_bytes: int
    """Of all tensors."""
    chosen: str
    """Name of the chosen candidate."""
    reason: str
    """One sentence: why it ships, by how much it is better than the stock mix, with what confidence."""
    stock_difference: Estimate | None
    """KLD(chosen) − KLD(stock mix of that size), nats, paired over windows of the selection text: those of
    ``confirmation`` where there is one, else those that candidates raced on."""
    candidates: tuple[SearchCandidate, ...]
    scale: float
    exponent: float
    """Fitted: KLD of a mix = scale · (sum of single damages) ^ exponent."""
    n_probes: int
    """Extra probes made for this budget."""
    n_swaps: int
    """Size-neutral swaps that were tried."""
    pruning: str = ""
    """Where layers might go: whether that pays, by how much, with what confidence."""
    pruned_layers: tuple[int, ...] = ()
    """The layers that go, by their numbers in the original."""
    paces: tuple[Pace, ...] = ()
    """Where a least speed was asked for: of the whole model, then of each set of layers that might go."""
    confirmation: Confirmation | None = None
    """Of the best with all layers. None: the text is too short, no candidate led the stock mix in the race, or the
    record is from before this was done."""

    @property
    def ships_stock(self) -> bool:
        """Whether the stock mix was chosen."""
        return any(c.kind == "stock" and c.name == self.chosen for c in self.candidates)


def nothing_fits(budget: str, budget_bytes: int, why: str, paces: tuple[Pace, ...]) -> Search:
    """The search of a budget that the whole model cannot keep to."""
    return Search(
        budget=budget,
        budget_bytes=budget_bytes,
        chosen="",
        reason=f"With all layers there is no such file: {why}.",
        stock_difference=None,
        candidates=(),
        scale=1.0,
        exponent=1.0,
        n_probes=0,
        n_swaps=0,
        paces=paces,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontierPoint:
    """One budget's best predicted allocation; predicted, not measured."""

    bpw: float
    n_bytes: int
    predicted_kld: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """What the probes of a model found."""

    text: str
    """Bare file name of the text that probes were scored on."""
    n_ctx: int
    n_windows: int
    n_scored: int
    """Scored tokens of each probe at most."""
    importance_file: str
    """The importance matrix that lwq's own targets use; see ``output_tensor``."""
    output_tensor: str
    """The tensor whose importance llama-imatrix does not collect and lwq added (``token_embd.weight``); or empty."""
    tensors: tuple[TensorSensitivity, ...]
    frontier: tuple[FrontierPoint, ...]
    notes: tuple[str, ...] = ()
    """Sentences a reader must know: tensors without importance data, of zeros, …"""

    @property
    def n_estimated(self) -> int:
        """Tensors that were not probed."""
        return sum(not t.is_probed for t in self.tensors)
