"""Task items made from a plain text, where no task data may be shipped: which words come next, which word is missing.

Only prose is used, without the markup of reStructuredText. The items measure how well a model knows the text's
language and subject; they are no benchmark of the field and compare files of one base only.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import Final, TypeVar

from lwq.tasks.items import Item, ItemsError

_ROLE: Final = re.compile(r":[\w:+.-]+:`[~!]?([^`<]+?)(?:\s*<[^`>]*>)?`")
_LINK: Final = re.compile(r"`([^`<]+?)\s*(?:<[^`>]*>)?`__?")
_LITERAL: Final = re.compile(r"``([^`]+)``")
_EMPHASIS: Final = re.compile(r"(?<!\w)\*{1,2}([^*\s](?:[^*]*[^*\s])?)\*{1,2}(?!\w)")
_NO_PROSE: Final = re.compile(r"^(?:\s|\.\.|>>>|[-*+#|:=~^$%<]|\d+[.)])")
_MARKUP: Final = re.compile(r"[`*|_<>{}\\\[\]=@#~^\"]|::|https?:")
_END: Final = re.compile(r"(?<=[a-z0-9)][.?!]) +(?=[A-Z])")
_ABBREVIATED: Final = re.compile(r"\b(?:e\.g|i\.e|etc|vs|cf|Mr|Dr|St|No|Fig|p)\.$")
_WORD: Final = re.compile(r"[A-Za-z]+(?:'[a-z]+)?")
_MIN_WORDS: Final = 10
_MAX_WORDS: Final = 45
_N_WRONG: Final = 3
_NEAREST: Final = 24
"""Of so many continuations of the most similar length the wrong ones are drawn."""
_MIN_LETTERS: Final = 4
_MIN_COUNT: Final = 3
_BEFORE: Final = 3
_AFTER: Final = 5
"""llama-perplexity scores the words behind the blank, if there are more than three tokens."""
_COMMON_WORDS: Final = """
    about above after again also although always among another anything because been before being below between
    both cannot could does doesn doing done don during each either else even ever every from further have having
    here hence however instead into itself just less like many might more most much must near neither never none
    nor nothing often once only other otherwise ought over perhaps quite rather same shall should since some
    such than that their them themselves then there therefore these they this those though through thus together
    under unless until upon very what when where whereas whether which while whose will with within without
    would your yours yourself
"""
_COMMON: Final = frozenset(_COMMON_WORDS.split())

T = TypeVar("T")
_Task = tuple[str, str, list[str]]
"""Question, its own choice, the wrong ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sentence:
    """``before`` is the sentence before it in its paragraph; empty for the first, and where that is no prose."""

    text: str
    before: str
    paragraph: int


def sentence_cloze(text: str, n: int, seed: int) -> tuple[Item, ...]:
    """``n`` multiple-choice items: the opening of a sentence, and which of four endings is its own.

    The question starts with the sentence before, where its paragraph has one. The wrong endings are those of other
    sentences, of similar length and from other paragraphs.

    Raises:
        ItemsError: the text has too few sentences.
    """
    random, sentences = Random(seed), _sentences(text)
    endings = [(s.paragraph, _halves(s)[1]) for s in sentences]

    def ask(sentence: _Sentence) -> _Task | None:
        opening, own = _halves(sentence)
        others = {e for paragraph, e in endings if paragraph != sentence.paragraph and e != own}
        near = sorted(others, key=lambda e: (abs(len(e) - len(own)), e))[:_NEAREST]
        wrong = _shuffled(near, random)[:_N_WRONG]
        return (f"{sentence.before} {opening}".strip(), own, wrong) if len(wrong) == _N_WRONG else None

    return _asked("sentence-cloze", sentences, ask, n, random)


def word_cloze(text: str, n: int, seed: int) -> tuple[Item, ...]:
    """``n`` winogrande items: a sentence with one word left out, and which of two words it is.

    The other word occurs elsewhere in the text, about as often, is about as long and has the same inflection.

    Raises:
        ItemsError: the text has too few sentences with such a word.
    """
    random, sentences = Random(seed), _sentences(text)
    counts = Counter(word for s in sentences for word in _WORD.findall(s.text))
    content = {word: count for word, count in sorted(counts.items()) if count >= _MIN_COUNT and _is_content(word)}

    def ask(sentence: _Sentence) -> _Task | None:
        words, present = sentence.text.split(" "), Counter(_WORD.findall(sentence.text))
        places = [i for i in range(_BEFORE, len(words) - _AFTER) if words[i] in content and present[words[i]] == 1]
        for at in _shuffled(places, random):
            others = [w for w in content if w not in present and _alike(w, words[at], content)]
            if others:
                return " ".join((*words[:at], "_", *words[at + 1 :])), words[at], _shuffled(others, random)[:1]
        return None

    return _asked("word-cloze", sentences, ask, n, random)


def _asked(
    name: str, sentences: list[_Sentence], ask: Callable[[_Sentence], _Task | None], n: int, random: Random
) -> tuple[Item, ...]:
    """``n`` items of sentences drawn without replacement, in the order of the text, choices shuffled."""
    drawn: dict[int, tuple[str, tuple[str, ...], str]] = {}
    for at in _shuffled(range(len(sentences)), random):
        if len(drawn) < n and (task := ask(sentences[at])) is not None:
            question, own, wrong = task
            drawn[at] = (question, tuple(_shuffled((own, *wrong), random)), own)
    if len(drawn) < n or n < 1:
        fault = f"{n:,} items were asked for, the text gives {len(drawn):,}"
        raise ItemsError(name, (fault,), hint="give a longer text, or ask for fewer")
    rows = (drawn[at] for at in sorted(drawn))
    return tuple(
        Item(id=f"{name}-{i}", question=question, choices=choices, answer=choices.index(own), line=i + 1)
        for i, (question, choices, own) in enumerate(rows)
    )


def _sentences(text: str) -> list[_Sentence]:
    """Whole sentences of prose, each once, in the order of the text."""
    by_text: dict[str, _Sentence] = {}
    for number, paragraph in enumerate(_paragraphs(text)):
        parts = _parted(paragraph)
        for before, part in pairwise(("", *parts)):
            fits = _MIN_WORDS <= len(part.split(" ")) <= _MAX_WORDS and part[0].isupper() and part[-1] in ".?!"
            if fits and not _MARKUP.search(part):
                clean = "" if _MARKUP.search(before) else before
                by_text.setdefault(part, _Sentence(text=part, before=clean, paragraph=number))
    return list(by_text.values())


def _paragraphs(text: str) -> Iterator[str]:
    """Paragraphs in one line each: no headings, lists, tables, code or directives; roles and links as they read."""
    for block in re.split(r"\n\s*\n", text.replace("\r\n", "\n")):
        lines = block.strip("\n").split("\n")
        if any(_NO_PROSE.match(line) for line in lines) or not lines[-1].rstrip().endswith((".", "?", "!", ":")):
            continue
        joined = " ".join(" ".join(lines).split())
        for pattern in (_ROLE, _LITERAL, _LINK, _EMPHASIS):
            joined = pattern.sub(r"\1", joined)
        yield joined


def _parted(paragraph: str) -> list[str]:
    """Its sentences; an abbreviation ends none."""
    parts: list[str] = []
    for piece in _END.split(paragraph):
        if parts and _ABBREVIATED.search(parts[-1]):
            parts[-1] += f" {piece}"
        else:
            parts.append(piece)
    return parts


def _halves(sentence: _Sentence) -> tuple[str, str]:
    words = sentence.text.split(" ")
    middle = len(words) // 2
    return " ".join(words[:middle]), " ".join(words[middle:])


def _is_content(word: str) -> bool:
    return len(word) >= _MIN_LETTERS and word.isalpha() and word.islower() and word not in _COMMON


def _alike(word: str, other: str, counts: Mapping[str, int]) -> bool:
    """Of a kind: half to twice as often, at most two letters longer or shorter, same inflection, same article."""
    often = counts[other] <= 2 * counts[word] and counts[word] <= 2 * counts[other]
    return often and abs(len(word) - len(other)) <= 2 and _shape(word) == _shape(other)


def _shape(word: str) -> tuple[str, bool]:
    ending = next((e for e in ("ing", "ed", "ly", "s") if word.endswith(e)), "")
    return ending, word[0] in "aeiou"


def _shuffled(values: Iterable[T], random: Random) -> list[T]:
    """In a drawn order; ``random()`` alone is promised to stay the same over versions of Python."""
    drawn = [(random.random(), value) for value in values]
    return [value for _, value in sorted(drawn, key=lambda pair: pair[0])]
