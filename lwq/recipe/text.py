"""Texts of a recipe, and what a calibration text may be mixed of."""

from __future__ import annotations

import re
from typing import Any

from pydantic import Field, field_validator, model_validator

from lwq.recipe.budget import parse_size
from lwq.recipe.target import NAME, Strict, fault


class Text(Strict):
    """A text and how much of it is used."""

    text: str = Field(
        min_length=1,
        description="A UTF-8 text: a path (from the recipe's folder), `packaged:calibration|selection|evaluation`"
        " (small samples that come with lwq), `packaged:prose|code|tables|languages` (parts of a calibration text; with"
        " them `packaged:dialogue`, conversations for a part with `chat = true`), or"
        " `hf://datasets/OWNER/NAME/FILE[@REVISION]`.",
    )
    n_ctx: int = Field(default=512, ge=32, le=1_048_576, description="Tokens in a window; its second half is scored.")
    n_chunks: int | None = Field(
        default=None, ge=1, description="Windows used from the start of the text; all when absent."
    )
    max_logits: str = Field(
        default="",
        description="Most that the base's stored log-probabilities may take (`8 GiB`): fewer windows are used then."
        " A window takes about n_ctx × vocabulary bytes.",
    )
    keep_logits: bool | None = Field(
        default=None,
        description="Keep them in the cache when the run is finished; when absent, if they are below 4 GiB.",
    )

    def drawn(self) -> tuple[tuple[Part, ...], int]:
        """The parts that it is mixed of, and the seed of the draw; no parts: the text as it is."""
        return (), 1

    @field_validator("max_logits")
    @classmethod
    def _size(cls, value: str) -> str:
        try:
            return value if not value or parse_size(value) else ""
        except ValueError as error:
            raise fault(str(error)) from None

    @field_validator("n_ctx")
    @classmethod
    def _even(cls, value: int) -> int:
        if value % 2:
            raise fault("is odd; half of a window is scored, so it must be even")
        return value


class Part(Strict):
    """One part of a mixed calibration text."""

    text: str = Field(
        min_length=1,
        description="A UTF-8 text as above, or JSON lines or Parquet with texts in a column.",
    )
    share: float = Field(
        default=1.0, gt=0, allow_inf_nan=False, description="Of the mixture's bytes, against the other parts' shares."
    )
    column: str = Field(
        default="", description="For JSON lines and Parquet: the column of texts; of chats `messages` when absent."
    )
    chat: bool = Field(
        default=False,
        description="The column holds conversations (lists of role and content), put through the model's template.",
    )


class Evaluation(Text):
    """A text that figures are measured on; of several domains (`[[evaluation]]`) the first is the main one."""

    domain: str = Field(
        default="", pattern=f"^({NAME.pattern})?$", description="What the text is an example of; its name when absent."
    )
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False, description="Of the domain in the mean over domains.")

    column: str = Field(
        default="", description="For JSON lines and Parquet: the column of texts; of chats `messages` when absent."
    )
    chat: bool = Field(default=False, description="The column holds conversations, put through the model's template.")

    def drawn(self) -> tuple[tuple[Part, ...], int]:
        part = Part(text=self.text, column=self.column, chat=self.chat)
        return ((part,) if self.column or self.chat else (), 1)

    @model_validator(mode="after")
    def _named(self) -> Evaluation:
        if not self.domain:
            stem = re.split(r"[/:]", self.text)[-1].split(".")[0]
            object.__setattr__(self, "domain", re.sub(r"[^A-Za-z0-9_+-]", "-", stem).strip("-+_") or "text")
        return self


class Calibration(Text):
    """The calibration text: one, or several parts mixed by their shares."""

    text: str = Field(default="", description="A text as of the other tables; or name `parts`.")
    parts: tuple[Part, ...] = Field(
        default=(),
        description="`[[calibration.parts]]`: as much of each as gives it its share without repeating anything, drawn"
        " by `seed` and interleaved.",
    )
    seed: int = Field(default=1, ge=0, description="Of the draw from `parts`.")
    min_expert_tokens: int = Field(
        default=0,
        ge=0,
        description="Of a mixture of experts: the importance matrix is collected on twice as many windows again and"
        " again, from `n_chunks` on, until each expert of each layer saw so many tokens, or the text is used up.",
    )

    def drawn(self) -> tuple[tuple[Part, ...], int]:
        return self.parts, self.seed

    @field_validator("parts", mode="before")
    @classmethod
    def _tuple(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _one_way(self) -> Calibration:
        if bool(self.text) == bool(self.parts):
            raise fault("names text and parts; one is enough" if self.text else "names neither text nor parts")
        return self
