"""What a publisher says of a model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class CardFacts:
    """What the publisher says of the model; all from the recipe or the base's metadata."""

    title: str
    author: str
    licence: str
    base_model: tuple[str, ...]
    languages: tuple[str, ...]
    tags: tuple[str, ...]
    description: str
    """Markdown, as are notes, credits and footer; the card shows what of it is harmless."""
    notes: str = ""
    credits: str = ""
    footer: str = ""
    repository: str = ""
    """``OWNER/NAME`` where the files are or will be; empty: not said."""
    logo: str = ""
    """Bare name of a picture beside the card."""
