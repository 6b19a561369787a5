"""A target of a recipe: a file to make, of a stock mix, by hand, or within a budget."""

from __future__ import annotations

import difflib
import re
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from lwq.gguf.types import FTYPES, known_type
from lwq.recipe.budget import DEFAULT_CONTEXT, Budget, parse_budget
from lwq.recipe.constraints import TYPE_SETS, Constraints

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,95}")
UNPATCHED_FTYPES: Final = ("F32", "F16", "BF16")
_OFFERED: Final = (*dict.fromkeys(q for types in TYPE_SETS.values() for q in types), "iq1_m", "iq1_s")


def fault(message: str) -> PydanticCustomError:
    return PydanticCustomError("lwq", "{message}", {"message": message})


def choice(value: str, known: tuple[str, ...], what: str) -> str:
    if value in known:
        return value
    near = difflib.get_close_matches(value.upper(), known, n=1, cutoff=0.5)
    raise fault(f"is not {what}" + (f"; perhaps you meant {near[0]!r}" if near else ""))


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Target(Strict):
    """One file to make."""

    name: str = Field(default="", description="Ends the file name, `BASE-NAME.gguf`; the ftype when absent.")
    ftype: str = Field(
        default="",
        description="A mixture of llama-quantize, `Q4_K_M`. With a budget: the file's label, the stock ftype nearest in"
        " size when absent.",
    )
    budget: str = Field(
        default="",
        description="lwq chooses the types, within this size: `Q4_K_M` (the bytes of that stock mix), `4.25 bpw` or"
        " `12 GiB`. A list makes one target for each.",
    )
    bpw: float | None = Field(default=None, ge=1, le=16, description='The same as `budget = "… bpw"`.')
    size: str = Field(default="", description="The same as `budget`, for sizes of the file: `12 GiB`.")
    ram: str = Field(
        default="", description="A budget of memory, `8 GiB`, that holds the file, a context and working buffers."
    )
    ram_n_ctx: int = Field(default=DEFAULT_CONTEXT, ge=32, description="Tokens of context that `ram` has to hold.")
    types: tuple[str, ...] = Field(
        default=("all",),
        validate_default=True,
        description="ggml types that a budget may use, or sets of them: `all`, `no-iq` (no lookup tables: faster on"
        " CPUs), `k`, `legacy`.",
    )
    min_types: tuple[str, ...] = Field(
        default=(), description="`PATTERN=TYPE` entries: with a budget, these tensors get no smaller type."
    )
    ties: tuple[tuple[str, ...], ...] = Field(
        default=(),
        description='Lists of tensor classes that share a type in each layer: `[["ffn_gate", "ffn_up"]]`.',
    )
    imatrix: bool = Field(default=True, description="Quantize with the importance matrix.")
    values: Literal["compensated", "stock"] | None = Field(
        default=None,
        description="`stock`: llama-quantize's numbers; `compensated` (default of budgets): errors offset each other.",
    )
    tensor_types: tuple[str, ...] = Field(
        default=(),
        description="Hand-written `PATTERN=TYPE` entries, as for `llama-quantize --tensor-type`: the pattern is"
        " searched in the tensor's name, the first that matches wins, the ftype (or the budget) decides the rest. With"
        " prune_layers, patterns see the new layer numbers.",
    )
    prune_layers: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        default=(), description="Layers to remove, chosen by hand, counted from 0 in the original model."
    )
    prune: Annotated[int, Field(ge=1)] | Literal["auto"] | None = Field(
        default=None,
        description="How many layers to remove, chosen by measured damage; `auto` with a budget: layers go only where"
        " that measures better than fewer bits.",
    )
    min_tg: float | None = Field(
        default=None,
        gt=0,
        description="With a budget: tokens per second that the file must generate here (llama-bench's tg128)."
        ' Sizes are tried downwards from the budget until one does; with `prune = "auto"` also without layers.',
    )
    heal: bool | None = Field(
        default=None,
        description="Repair what removed layers leave behind, where that measures better (with `prune`: true unless"
        " said otherwise; with `prune_layers`: false).",
    )

    @field_validator("tensor_types", "prune_layers", "types", "min_types", mode="before")
    @classmethod
    def _tuple(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @field_validator("ties", mode="before")
    @classmethod
    def _tuples(cls, value: Any) -> Any:
        return tuple(tuple(v) if isinstance(v, list) else v for v in value) if isinstance(value, list) else value

    @field_validator("ftype")
    @classmethod
    def _known_ftype(cls, value: str) -> str:
        return choice(value, tuple(FTYPES), "an ftype of llama-quantize") if value else value

    @field_validator("types")
    @classmethod
    def _known_types(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(q for value in values for q in _type_set(value)))

    @field_validator("tensor_types", "min_types")
    @classmethod
    def _known_patterns(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_checked_pattern(value) for value in values)

    @field_validator("prune_layers")
    @classmethod
    def _once(cls, values: tuple[int, ...]) -> tuple[int, ...]:
        if doubled := sorted({v for v in values if values.count(v) > 1}):
            raise fault(f"names layer {doubled[0]} twice")
        return tuple(sorted(values))

    @model_validator(mode="after")
    def _consistent(self) -> Target:
        asked = self.wanted()
        if not asked:
            if not self.ftype:
                raise fault("has neither an ftype nor a budget")
            if spare := [k for k in ("min_types", "ties", "min_tg") if getattr(self, k)]:
                raise fault(f"{spare[0]} needs a budget; a mix without one is the ftype's")
        elif not self.imatrix:
            raise fault("imatrix = false cannot stand beside a budget, which is chosen with one")
        if self.prune and self.prune_layers:
            raise fault("states prune and prune_layers; one is enough")
        if self.prune == "auto" and not asked:
            raise fault('prune = "auto" weighs layers against bits, so it needs a budget')
        if self.prune == "auto" and self.heal is False:
            raise fault('heal = false cannot stand beside prune = "auto", which decides by measurement')
        if not self.is_pruned() and self.heal is not None:
            raise fault("heal needs prune or prune_layers")
        if self.values == "compensated" and (why := _bars_compensation(self)):
            raise fault(f'values = "compensated" cannot stand beside {why}')
        if not self.name:
            object.__setattr__(self, "name", _name(self, asked))
        if not NAME.fullmatch(self.name):
            raise fault(f"name {self.name!r} may hold letters, digits and . _ + - only")
        if self.ftype in UNPATCHED_FTYPES and (self.tensor_types or asked):
            raise fault(f"tensor types are ignored by llama-quantize for ftype {self.ftype}; use Q8_0 as ftype")
        return self

    def label_of(self, budget: Budget) -> str:
        """The ftype that the file is labelled with; empty: that of the stock mix nearest in size."""
        return self.ftype or ("" if self.min_tg else budget.ftype)

    def is_pruned(self) -> bool:
        """Whether layers go, or may go."""
        return self.prune is not None or bool(self.prune_layers)

    def is_cut(self) -> bool:
        """Whether lwq writes a pruned base first, instead of leaving the removal to llama-quantize."""
        return isinstance(self.prune, int) or (bool(self.prune_layers) and (self.is_healed() or bool(self.wanted())))

    def is_healed(self) -> bool:
        """Whether the file is made of a repaired base."""
        return self.prune is not None if self.heal is None else self.heal

    def wanted(self) -> Budget | None:
        """The budget, however it was stated; None for a stock or hand-written mix."""
        stated = [k for k in ("budget", "bpw", "size", "ram") if getattr(self, k)]
        if len(stated) > 1:
            raise fault(f"states {stated[0]} and {stated[1]}; one is enough")
        return _stated_budget(stated[0], getattr(self, stated[0]), self.ram_n_ctx) if stated else None

    def is_compensated(self) -> bool:
        """Whether its file may get compensated values."""
        by_default = self.values is None and self.wanted() and not _bars_compensation(self)
        return bool(by_default) or self.values == "compensated"

    def constraints(self) -> Constraints:
        """What the allocation may use."""
        return Constraints(
            types=self.types,
            min_types=tuple(_entry(e) for e in self.min_types),
            fixed=tuple(_entry(e) for e in self.tensor_types),
            ties=self.ties,
        )


def _name(target: Target, asked: Budget | None) -> str:
    """``Q4_K_M``, ``Q4_K_M_LWQ``, ``Q4_K_M_PRUNED2``, ``Q4_K_M_LWQPRUNED2``: one word behind the ftype, which the Hub
    takes into the file's label."""
    stem, removal = asked.label if asked else target.ftype, _removal(target)
    apart = "_" if removal and not stem.endswith("_LWQ") else ""
    return stem + apart + removal + (f"-{target.min_tg:g}tps" if target.min_tg else "")


def _removal(target: Target) -> str:
    if target.prune is None and not (target.prune_layers and target.wanted()):
        return ""
    return "AUTO" if target.prune == "auto" else f"PRUNED{target.prune or len(target.prune_layers)}"


def _bars_compensation(target: Target) -> str:
    """What compensated values are not made for."""
    if target.prune == "auto":
        return 'prune = "auto"'
    if target.prune_layers and not target.is_cut():
        return "prune_layers that llama-quantize removes (heal = true lets lwq do it)"
    if target.ftype in UNPATCHED_FTYPES:
        return f"ftype {target.ftype}"
    return "" if target.imatrix else "imatrix = false"


def _stated_budget(key: str, value: str | float, ram_n_ctx: int) -> Budget:
    """The budget that a target states under this key.

    Raises:
        PydanticCustomError: none that the key can hold.
    """
    text = f"{value:g} bpw" if key == "bpw" else str(value)
    try:
        budget = parse_budget(text, ram_n_ctx if key == "ram" else 0)
    except ValueError as error:
        raise fault(f"{key}: {error}") from None
    if key in ("size", "ram") and budget.kind not in ("file", "ram"):
        raise fault(f"{key}: {text!r} is not a size like 12 GiB")
    if budget.ftype in UNPATCHED_FTYPES:
        raise fault(f"{key}: {budget.ftype} is not a quantized mix")
    return budget


def expanded(targets: Any) -> Any:
    """Targets whose budget is a list, as one target for each of its items."""
    if not isinstance(targets, list | tuple):
        return targets
    single_budget: list[Any] = []
    for target in targets:
        several = target.get("budget") if isinstance(target, dict) else None
        if isinstance(several, list) and several:
            name = target.get("name")
            single_budget += [
                {**target, "budget": b, "name": f"{name}-{b}".replace(" ", "") if name else ""} for b in several
            ]
        else:
            single_budget.append(target)
    return tuple(single_budget)


def _entry(entry: str) -> tuple[str, str]:
    pattern, _, ggml_type = entry.partition("=")
    return pattern, known_type(ggml_type)


def _type_set(value: str) -> tuple[str, ...]:
    if value in TYPE_SETS:
        return TYPE_SETS[value]
    try:
        ggml_type = known_type(value)
    except ValueError:
        ggml_type = ""
    if ggml_type not in _OFFERED:
        spelt = {q.lower(): q for q in (*TYPE_SETS, *_OFFERED)}
        near = difflib.get_close_matches(value.lower(), spelt, n=1)
        hint = f"; perhaps you meant {spelt[near[0]]!r}" if near else ""
        raise fault(f"{value!r} is no type that lwq allocates, nor one of the sets {', '.join(TYPE_SETS)}{hint}")
    return (ggml_type,)


def _checked_pattern(entry: str) -> str:
    """The entry, if llama-quantize would read it as meant: it splits at the first ``=`` and lower-cases."""
    pattern, separator, ggml_type = entry.partition("=")
    if not separator or not pattern:
        raise fault(f"{entry!r} is not PATTERN=TYPE")
    if any(c.isspace() for c in entry):
        raise fault(f"{entry!r} has white space, which ends an entry")
    if pattern != pattern.lower():
        raise fault(f"{entry!r}: llama-quantize lower-cases patterns, so capitals never match")
    try:
        re.compile(pattern)
        known_type(ggml_type)
    except (re.error, ValueError) as error:
        raise fault(f"{entry!r}: {error}") from None
    return entry
