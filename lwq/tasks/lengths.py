"""What task items take up in a context, and which the tool cannot score fairly."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from lwq.tasks.items import Item, Kind

Tokenize: TypeAlias = Callable[[str], tuple[int, ...]]
"""A text's tokens, as llama-perplexity's task scorers make them."""


def measured(tokenize: Tokenize, kind: Kind, items: Iterable[Item]) -> tuple[int, tuple[str, ...]]:
    """Tokens that the longest item takes, and ids of items that the tool cannot score fairly.

    An item takes what all its choices share once, and the rest of each. Where all of its choices begin with the
    shortest one, llama-perplexity scores that one by whatever lies behind its tokens in memory.

    Source: tools/perplexity/perplexity.cpp, ``required_tokens``; ``first_probs`` of ``common_prefix``.
    """
    most, unfair = 0, []
    for item in items:
        sequences = [tokenize(text) for text in whole_texts(kind, item)]
        shared = n_shared(sequences)
        if kind != "winogrande" and shared == min(map(len, sequences)):
            unfair.append(item.id)
        most = max(most, shared + sum(len(s) - shared for s in sequences))
    return most, tuple(unfair)


def whole_texts(kind: Kind, item: Item) -> tuple[str, ...]:
    """The text of an item with each of its choices."""
    if kind == "winogrande":
        return tuple(item.question.replace("_", choice, 1) for choice in item.choices)
    return tuple(f"{item.question} {choice}" for choice in item.choices)


def n_shared(sequences: Sequence[Sequence[int]]) -> int:
    """Tokens at the start that all sequences have in common."""
    columns = zip(*sequences, strict=False)
    return next((i for i, column in enumerate(columns) if len(set(column)) > 1), min(map(len, sequences)))
