"""What render writes, llama-perplexity reads back exactly, in the order that tool_order says."""

from __future__ import annotations

import random
import re
import struct
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwq.llama.process import run_tool
from lwq.llama.toolchain import Toolchain
from lwq.tasks.files import read_items
from lwq.tasks.formats import MAX_CHOICES, Pair, is_binary, read_binary, read_pair, render, tool_order
from lwq.tasks.items import Item, ItemsError, Kind
from tests.tiny_models import write_tiny_llama

LONG = "naïve – 日本 😀 " * 256  # 3,584 characters
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=40)
LINES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)
CSV = st.text(st.sampled_from('ab ",é😀'), min_size=1, max_size=12)


def items_of(*rows: tuple[str, tuple[str, ...], int]) -> tuple[Item, ...]:
    return tuple(
        Item(id=f"s-{i}", question=question, choices=choices, answer=answer, line=i + 1)
        for i, (question, choices, answer) in enumerate(rows)
    )


def content(items: tuple[Item, ...]) -> list[tuple[str, tuple[str, ...], int]]:
    return [(i.question, i.choices, i.answer) for i in items]


def pairs_of(raw: bytes) -> list[Pair | None]:
    """The lines as the tool gets them: ``-f`` takes off one newline, and a last line without one is not read."""
    return [read_pair(line) for line in raw.decode().removesuffix("\n").split("\n")[:-1]]


@given(st.lists(st.tuples(LINES, st.lists(LINES, min_size=1, max_size=13), st.integers(0, 12)), min_size=1, max_size=5))
def test_multiple_choice_file_is_read_back_exactly(rows: list[tuple[str, list[str], int]]) -> None:
    items = items_of(*((q, tuple(choices), answer % len(choices)) for q, choices, answer in rows))
    raw = render("multiple-choice", items)
    assert is_binary(raw)
    assert content(read_binary(raw, "s")) == content(items)
    positions = struct.unpack_from(f"<{len(items)}I", raw, 4)
    for at, item in zip(positions, items, strict=True):
        (n_bytes,) = struct.unpack_from("<I", raw, at)
        assert raw[at + 4 : at + 4 + n_bytes].decode() == item.question


def test_multiple_choice_layout_is_the_documented_one() -> None:
    raw = render("multiple-choice", items_of(("é?", ("a", "bc"), 1), ("q", ("x", "y"), 0)))
    first = b"\3\0\0\0\xc3\xa9?" + b"\2\0\0\0" + b"\1\0\0\0a" + b"\2\0\0\0bc" + b"\0\0\0\0\1\0\0\0" + b"\0\0\0\0"
    assert raw.startswith(b"\2\0\0\0" + struct.pack("<II", 12, 12 + len(first)) + first)


@pytest.mark.parametrize("cut", [1, 9, 30])
def test_multiple_choice_file_cut_short_names_the_item(cut: int) -> None:
    raw = render("multiple-choice", items_of(("first", ("a", "b"), 1), ("second", ("x", "y"), 0)))
    with pytest.raises(ItemsError, match=r"f item 2: cannot be read from byte \d+ on"):
        read_binary(raw[:-cut], "s", "f")


def test_binary_item_with_two_right_answers_is_told_by_number() -> None:
    raw = render("multiple-choice", items_of(("first", ("a", "b"), 1)))
    twice = raw.replace(struct.pack("<ii", 0, 1), struct.pack("<ii", 1, 1))
    with pytest.raises(ItemsError, match="f item 1: has not exactly one right answer"):
        read_binary(twice, "s", "f")


@given(st.lists(st.tuples(TEXT, st.tuples(TEXT, TEXT, TEXT, TEXT), st.integers(0, 3)), min_size=1, max_size=5))
def test_six_lines_are_read_back_exactly(rows: list[tuple[str, tuple[str, ...], int]]) -> None:
    lines = render("hellaswag", items_of(*rows)).decode().removesuffix("\n").split("\n")
    assert len(lines) == 6 * len(rows)
    blocks = [lines[i : i + 6] for i in range(0, len(lines), 6)]
    assert [(b[0], tuple(b[2:]), int(b[1])) for b in blocks] == rows


@settings(max_examples=300)
@given(before=CSV, after=CSV, first=CSV, second=CSV, answer=st.integers(0, 1))
def test_winogrande_line_is_read_back_exactly_or_refused(
    before: str, after: str, first: str, second: str, answer: int
) -> None:
    (item,) = items_of((f"{before}_{after}", (first, second), answer))
    told = ""
    try:
        raw = render("winogrande", (item,))
    except ItemsError as error:
        told = str(error)
    if told:
        assert "line 1: the tool's CSV has no escape" in told
        # with no commas, quotes in pairs and none in front, the plain line is always right
        texts = (before + after, first, second)
        assert any("," in text or text.count('"') % 2 for text in texts) or before.startswith('"')
        return
    assert raw.endswith(b"\n\n")
    want = Pair(index="0", sentence=item.question, choices=(first, second), answer=answer + 1)
    assert pairs_of(raw) == [want]


@pytest.mark.parametrize(
    ("sentence", "line"),
    [
        ("So _ won.", "0,So _ won.,a,b,1"),
        ("So, _ won.", '0,"So, _ won.",a,b,1'),
        ('He said "hi, _" to us', '0,He said "hi, _" to us,a,b,1'),
        ('"Hi" said _.', '0,""Hi" said _.",a,b,1'),
        ('A, 5" _ fell.', '0,"A, 5" _ fell. ,a,b,1'),
    ],
)
def test_winogrande_form_suits_quotes_and_commas(sentence: str, line: str) -> None:
    assert render("winogrande", items_of((sentence, ("a", "b"), 0))) == f"{line}\n\n".encode()


def test_comma_in_a_choice_fits_only_within_its_own_quotes() -> None:
    assert render("winogrande", items_of(("A _ b", ('"x, y"', "z"), 0))) == b'0,A _ b,"x, y",z,1\n\n'
    with pytest.raises(ItemsError, match=r"f line 1: .*no escape.*take commas out of the choices"):
        render("winogrande", items_of(("A _ b", ("x, y", "z"), 0)), "f")


BAD: list[tuple[Kind, tuple[str, tuple[str, ...], int], str]] = [
    ("hellaswag", ("a\nb", ("1", "2", "3", "4"), 0), "line break in 'a.nb'"),
    ("hellaswag", ("a", ("1", "2", "3\r", "4"), 0), "line break"),
    ("hellaswag", ("a", ("1", "2", "3"), 0), "3 endings"),
    ("winogrande", ("a _\n", ("1", "2"), 0), "line break"),
    ("winogrande", ("a", ("1", "2"), 0), "exactly one _"),
    ("winogrande", ("a _", ("1", "2"), 2), "answer 2"),
    ("multiple-choice", ("a", tuple(map(str, range(MAX_CHOICES + 1))), 0), "101 choices"),
    ("multiple-choice", ("a", ("1", ""), 0), "empty"),
    ("multiple-choice", ("a", ("1", "\ud83d"), 0), "UTF-8"),
]


@pytest.mark.parametrize(("kind", "row", "told"), BAD)
def test_what_a_format_cannot_carry_is_told_with_its_line(
    kind: Kind, row: tuple[str, tuple[str, ...], int], told: str
) -> None:
    (item,) = items_of(row)
    with pytest.raises(ItemsError, match=f"f line 17: .*{told}"):
        render(kind, (replace(item, line=17),), "f")


@pytest.mark.parametrize("kind", ["winogrande", "multiple-choice"])
def test_only_hellaswag_is_shuffled(kind: Kind) -> None:
    assert tool_order(kind, 5) == (0, 1, 2, 3, 4)


@pytest.mark.parametrize("n", [1, 2, 750])
def test_hellaswag_order_is_a_permutation_that_starts_as_the_standard_says(n: int) -> None:
    order = tool_order("hellaswag", n)
    assert sorted(order) == list(range(n))
    # the first word of std::mt19937(1) is 1791095845
    assert order[0] == 1791095845 * n >> 32


NASTY_MC = items_of(
    ("Wer sagt „Grüß Gott“, und wo?", ("in München", "in Köln, glaube ich", 'a "b" c'), 0),
    ("Which of these is true?\n1. It rains.\n2. It, too, snows.", ("1 only", "2 only", "both\nof them", "none"), 2),
    ("Say 😀 \\n \\t \\x41 back", ("😀", "😢"), 0),
    ("One of thirteen", tuple(f"number {i}" for i in range(13)), 12),
    (LONG, ("日本", "naïve"), 1),
)
NASTY_WINOGRANDE = items_of(
    ("Müller said “no, _ is ill” and left the café again.", ("Jürgen", "Zoë"), 0),
    ('He said "hi, _ is in" to all of them there.', ("Ann", "Bob"), 1),
    ('"Hi" said the man as _ came in and sat down.', ("Ann", "😀"), 0),
    ('Long, wide and 5" high as _ was it fell down.', ('the "x, y" cup', "it"), 1),
)
NASTY_HELLASWAG = items_of(
    ('Köche: A man, "the cook", 😀 stands. He', ("sings, „laut“.", 'says "hi".', "läuft.", "\\n sleeps."), 2),
    (LONG, ("日本", "naïve", "x", "y"), 1),
)
ROWS: dict[Kind, str] = {
    "hellaswag": r"^(\d+)\t\s*([\d.]+)%\t\[",
    "winogrande": r"^(\d+)\t([\d.]+)\t\s*(-?[\d.]+)\s+(-?[\d.]+)\s+(\d)\s+(\d)$",
    "multiple-choice": r"^(\d+)\t([\d.]+)\s*$",
}
N_ATTEMPTS = 12


def printed(toolchain: Toolchain, folder: Path, kind: Kind, raw: bytes, n: int) -> list[tuple[str, ...]]:
    """What the tool prints of each item; its last lines can be lost on a busy machine, so it may run again."""
    (folder / "items").write_bytes(raw)
    given = "-bf" if kind == "multiple-choice" else "-f"
    tasks = (f"--{kind}", f"--{kind}-tasks", str(max(n, 1)))
    argv = (str(toolchain.program("llama-perplexity")), "-m", "m.gguf", given, "items", *tasks, "-np", "16", "-t", "2")
    rows: list[tuple[str, ...]] = []
    for _ in range(N_ATTEMPTS):
        done = run_tool((*argv, "-c", "512"), cwd=folder)
        rows = re.findall(ROWS[kind], done.stdout, re.MULTILINE)
        if len(rows) >= n:
            break
    return rows


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_tiny_llama(tmp_path / "m.gguf", n_layer=1, n_embd=64)
    return tmp_path


@pytest.mark.tools
@pytest.mark.parametrize(
    ("kind", "items"),
    [("multiple-choice", NASTY_MC), ("winogrande", NASTY_WINOGRANDE), ("hellaswag", NASTY_HELLASWAG)],
)
def test_real_tool_reads_as_many_items_as_there_are(
    kind: Kind, items: tuple[Item, ...], folder: Path, toolchain: Toolchain
) -> None:
    rows = printed(toolchain, folder, kind, render(kind, items), len(items))
    assert [int(row[0]) for row in rows] == list(range(1, len(items) + 1))
    if kind == "winogrande":
        assert [int(row[5]) for row in rows] == [item.answer + 1 for item in items]
    assert content(read_items(folder / "items", "s")) == content(items)


@pytest.mark.tools
def test_real_tool_scores_hellaswag_in_tool_order(folder: Path, toolchain: Toolchain) -> None:
    endings = ("bana den.", "sotu mer.", "lires nar tel.", "kof.")
    alone = [items_of(("A cook. He", endings, gold)) for gold in range(4)]
    right = [float(printed(toolchain, folder, "hellaswag", render("hellaswag", i), 1)[0][1]) for i in alone]
    assert sorted(right) == [0, 0, 0, 100]
    preferred, other = right.index(100), right.index(0)
    source = random.Random(5)
    pattern = [source.random() < 0.5 for _ in range(200)]
    items = items_of(*(("A cook. He", endings, preferred if bit else other) for bit in pattern))
    rows = printed(toolchain, folder, "hellaswag", render("hellaswag", items), 200)
    totals = [round(float(row[1]) * int(row[0]) / 100) for row in rows]
    scored = [now > before for before, now in zip([0, *totals], totals, strict=False)]
    order = tool_order("hellaswag", 200)
    assert scored == [pattern[i] for i in order]
    assert scored != pattern


LINES_OF_CSV = (
    "0,the cup fell since _ was so slippery and wet,ab,cd,1",
    '1,"the cup fell since _ was so slippery and wet",ab,cd,1',
    '2,"the 5" cup fell since _ was so slippery and wet ,ab,cd,1',
    '3,"the 5" cup fell since _ was so slippery and wetX,ab,cd,2',
    '4,"so _ was slippery and wet" said the man,ab,cd,2',
    '5,"so _ was slippery and wet" said the max,ab,cd,2',
    '6,he said "so, _ is here" to all of them,ab,cd, 2 or so',
    "index,sentence _,choice1,choice2,answer",
    "7,no blank in this one,ab,cd,1",
    "8,a wrong _ answer to this one,ab,cd,3",
    '9,an open " quote and _ so no more,ab,cd,1',
    "10,a comma, and _ so cut off too soon,ab,cd,1",
)


@pytest.mark.tools
def test_real_tool_reads_a_csv_line_as_read_pair_does(folder: Path, toolchain: Toolchain) -> None:
    read = [pair for line in LINES_OF_CSV if (pair := read_pair(line)) is not None]
    assert [int(pair.index) for pair in read] == [0, 1, 2, 3, 4, 5, 6]
    raw = "".join(f"{line}\n" for line in LINES_OF_CSV).encode() + b"\n"
    rows = printed(toolchain, folder, "winogrande", raw, len(read))
    assert [int(row[5]) for row in rows] == [pair.answer for pair in read]
    for row, pair in zip(rows, read, strict=True):
        for row_2, pair_2 in zip(rows, read, strict=True):
            apart = max(abs(float(row[k]) - float(row_2[k])) for k in (2, 3))
            # the same text gives the same log-probabilities, another text others
            assert (apart < 1e-4) == (pair.sentence == pair_2.sentence)
