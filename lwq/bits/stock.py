"""Stock mixes by dry runs of llama-quantize, and what a budget comes to in bytes of tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from lwq.bits.knapsack import Group
from lwq.bits.options import matched
from lwq.errors import ModelError
from lwq.gguf.header import GgufHeader
from lwq.gguf.size import planned_tensors, predicted_file_bytes
from lwq.gguf.types import anchored, type_bpw
from lwq.llama import tools
from lwq.llama.requests import DryRunRequest
from lwq.llama.toolchain import Toolchain
from lwq.llama.transcripts import DryRun
from lwq.recipe.budget import Budget, context_bytes
from lwq.recipe.constraints import NEED_IMPORTANCE, TYPE_SETS, UNREAD_TYPE, Constraints
from lwq.record.search import TensorSensitivity

FTYPES_BY_SIZE: Final = (
    "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "Q2_K", "IQ3_XXS", "IQ3_XS", "Q3_K_S", "IQ3_S", "IQ3_M", "Q3_K_M",
    "Q3_K_L", "IQ4_XS", "IQ4_NL", "Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K", "Q8_0",
)  # fmt: skip
_NEVER_REFUSED: Final = ("token_embd.weight", "output.weight")
_METADATA_BYTES: Final = 2048
"""Room for the keys that lwq adds to a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StockMix:
    """What llama-quantize would write for an ftype."""

    ftype: str
    plan: DryRun
    types: Mapping[str, str]
    n_bytes: int
    """Of all tensors."""


OfFtype = Callable[[str], StockMix]


def stock_mix(toolchain: Toolchain, header: GgufHeader, ftype: str, *, cwd: Path, model: str, imatrix: str) -> StockMix:
    """The stock mix of an ftype for that base, with an importance matrix (``model`` and ``imatrix`` lie in ``cwd``)."""
    plan = tools.dry_run(toolchain, DryRunRequest(model=model, ftype=ftype, imatrix=imatrix), cwd=cwd).plan
    types = {t.name: t.target_type for t in plan.tensors}
    n_bytes = sum(t.n_bytes for t in planned_tensors(header, types=types))
    return StockMix(ftype=ftype, plan=plan, types=types, n_bytes=n_bytes)


def is_refused(name: str, ggml_type: str) -> bool:
    """Whether llama-quantize refuses that type for a tensor without importance data (not in a dry run, though).

    Source: src/llama-quant.cpp ``tensor_requires_imatrix``.
    """
    return ggml_type in NEED_IMPORTANCE and name not in _NEVER_REFUSED


def without_data(name: str, ggml_type: str) -> str:
    """The type itself, or the next larger one that llama-quantize makes without importance data."""
    if not is_refused(name, ggml_type):
        return ggml_type
    larger = [q for q in TYPE_SETS["all"] if q not in NEED_IMPORTANCE and type_bpw(q) >= type_bpw(ggml_type)]
    return min(larger, key=lambda q: (type_bpw(q), q))


def unread(tensors: Iterable[TensorSensitivity]) -> frozenset[str]:
    """The tensors that predicting the next token does not read, so whose damage is nothing that could be measured."""
    return frozenset(t.tensor for t in tensors if not t.kld.value and [q for q, _ in t.errors] == [UNREAD_TYPE])


def unread_types(tensors: Iterable[TensorSensitivity], mix: StockMix) -> dict[str, str]:
    """Tensors that predicting does not read, with the types that the stock mix gives them."""
    return {name: without_data(name, mix.types[name]) for name in sorted(unread(tensors))}


def with_unread(constraints: Constraints, tensors: Iterable[TensorSensitivity], mix: StockMix) -> Constraints:
    """The constraints, with the stock mix's types for tensors that predicting does not read and nothing else fixes."""
    types = tuple((anchored(name), q) for name, q in unread_types(tensors, mix).items())
    return replace(constraints, fixed=(*constraints.fixed, *types))


def obstacle(types: Mapping[str, str], groups: Iterable[Group], constraints: Constraints) -> str:
    """Which of a user's constraints a mix is against; empty where it may be chosen.

    Args:
        groups: what the constraints leave; types beyond theirs are free where all types are allowed.
    """
    free = set(TYPE_SETS["all"]) <= set(constraints.types)
    for group in groups:
        stated = any(matched(name, (*constraints.fixed, *constraints.min_types)) for name in group.members)
        labels = {types[name] for name in group.members}
        bound = stated or len(group.members) > 1 or not free
        if len(labels) > 1 or (bound and not labels <= {option.label for option in group.options}):
            return f"against the target's constraints at {group.name}"
    return ""


def mix_and_bytes(
    budget: Budget,
    header: GgufHeader,
    stock_mix_of: OfFtype,
    writable: Callable[[StockMix], bool] = lambda mix: True,
    within: Callable[[int], int] = int,
) -> tuple[StockMix, int]:
    """The stock mix to beat, and the bytes of all tensors that the budget allows.

    The mix is the budget's own, else the largest that fits; where none fits, the smallest there is.

    Args:
        writable: mixes of which it is false are passed over, unless the budget names one.
        within: the bytes that are left of the budget's, where something else limits them too.
    """
    n_bytes = within(budget_bytes(budget, header, stock_mix_of))
    if budget.kind == "stock" and stock_mix_of(budget.ftype).n_bytes <= n_bytes:
        return stock_mix_of(budget.ftype), n_bytes
    mixes = [mix for ftype in FTYPES_BY_SIZE if writable(mix := stock_mix_of(ftype))]
    fitting = [m for m in mixes if m.n_bytes <= n_bytes]
    return max(fitting, key=lambda m: m.n_bytes) if fitting else min(mixes, key=lambda m: m.n_bytes), n_bytes


def budget_bytes(budget: Budget, header: GgufHeader, stock_mix_of: OfFtype) -> int:
    """Bytes of all tensors that a budget allows.

    Raises:
        ModelError: a size that the file's metadata, or the context, takes up alone.
    """
    if budget.kind == "stock":
        return stock_mix_of(budget.ftype).n_bytes
    if budget.kind == "bpw":
        return int(budget.amount * header.n_params / 8)
    amount = int(budget.amount)
    if budget.kind == "ram":
        amount -= context_bytes(header.metadata, header.architecture, header.n_vocab, budget.n_ctx)
    some = stock_mix_of("Q8_0")
    left = amount - (predicted_file_bytes(header, types=some.types) - some.n_bytes) - _METADATA_BYTES
    if left <= 0:
        raise ModelError(f"a budget of {budget} leaves nothing for tensors of {header.path.name}", hint="raise it")
    return left
