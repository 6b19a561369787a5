"""What a publisher says in a recipe for the card."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from lwq.recipe.target import Strict, fault
from lwq.record.hub_terms import REPOSITORY, is_language, language_of, licence_of, licences_in, repository_of

_MARKDOWN = "Markdown: emphasis, links to web pages and mail, lists, quotes, code; all else is shown as written."


class Card(Strict):
    """What the publisher says; absent facts are taken from the model's own metadata."""

    title: str = Field(default="", description="Heading of the card.")
    author: str = Field(default="", description="`quantized_by` of the card and `general.quantized_by` of the files.")
    licence: str = Field(
        default="", description="One licence: the Hub's identifier, `apache-2.0`, or a name; the files have it too."
    )
    base_model: tuple[str, ...] = Field(default=(), description="`OWNER/NAME` of the original on the Hub.")
    repository: str = Field(
        default="", description="`OWNER/NAME` on the Hub where the files will be: commands on the card name it."
    )
    languages: tuple[str, ...] = Field(default=(), description="ISO 639-1 codes.")
    tags: tuple[str, ...] = Field(default=(), description="More tags for the Hub.")
    description: str = Field(default="", description=f"What you say at the top. {_MARKDOWN}")
    notes: str = Field(default="", description="What a reader should know, in a section of its own; Markdown.")
    credits: str = Field(default="", description="Whom you thank, behind lwq's own credits; Markdown.")
    footer: str = Field(default="", description="The last lines of the card; Markdown.")
    logo: str = Field(default="", description="A picture for the top, seen from the recipe: PNG, JPEG, GIF or WebP.")
    templates: str = Field(
        default="",
        description="A folder, seen from the recipe, whose Jinja templates take the place of lwq's own: `card.md.j2`,"
        " `details.md.j2`, `page.html.j2`, `parts.md.j2`, as many as you like.",
    )

    @field_validator("base_model", "languages", "tags", mode="before")
    @classmethod
    def _tuple(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @field_validator("languages")
    @classmethod
    def _codes(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        if strange := [value for value in values if not is_language(value)]:
            meant = language_of(strange[0])
            raise fault(f"{strange[0]!r} is no ISO 639 code{f'; you mean {meant!r}' if meant else ''}")
        return values

    @field_validator("base_model")
    @classmethod
    def _repositories(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        if strange := [value for value in values if not REPOSITORY.fullmatch(value)]:
            meant = repository_of(strange[0])
            raise fault(f"{strange[0]!r} is not OWNER/NAME{f'; you mean {meant!r}' if meant else ''}")
        return values

    @field_validator("repository")
    @classmethod
    def _repository(cls, value: str) -> str:
        if value and not REPOSITORY.fullmatch(value):
            meant = repository_of(value)
            raise fault(f"{value!r} is not OWNER/NAME{f'; you mean {meant!r}' if meant else ''}")
        return value

    @field_validator("licence")
    @classmethod
    def _one_licence(cls, value: str) -> str:
        if len(named := licences_in(value)) > 1:
            raise fault(f"names several licences ({', '.join(named)}); give the one that the files are under")
        return licence_of(value) or value

    @field_validator("author", "licence")
    @classmethod
    def _short(cls, value: str) -> str:
        if len(value.encode()) > 127:
            raise fault("is longer than the 127 bytes that llama-quantize can write")
        return value
