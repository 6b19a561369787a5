"""Budgets are read as people write them, and nonsense is refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwq.gguf.types import FTYPES
from lwq.recipe.budget import Budget, context_bytes, parse_budget, parse_size

MODEST = settings(max_examples=60, deadline=None)


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("Q4_K_M", Budget(kind="stock", ftype="Q4_K_M")),
        ("4.25 bpw", Budget(kind="bpw", amount=4.25)),
        ("4BPW", Budget(kind="bpw", amount=4)),
        ("1 bpw", Budget(kind="bpw", amount=1)),
        ("16 bpw", Budget(kind="bpw", amount=16)),
        ("2 kB", Budget(kind="file", amount=2000)),
        ("3 MiB", Budget(kind="file", amount=3 * 2**20)),
        ("12 GiB", Budget(kind="file", amount=12 * 2**30)),
        ("700 MB", Budget(kind="file", amount=700_000_000)),
        (" 1.5 GB ", Budget(kind="file", amount=1_500_000_000)),
        ("0.5 KiB", Budget(kind="file", amount=512)),
        ("4.1 GB", Budget(kind="file", amount=4_100_000_000)),  # 4.1 · 10⁹ in binary is a byte less
        ("123456 bytes", Budget(kind="file", amount=123_456)),
    ],
)
def test_a_budget_is_an_ftype_bits_or_a_size(text: str, budget: Budget) -> None:
    assert parse_budget(text) == budget


@pytest.mark.parametrize("text", sorted(FTYPES))
def test_every_ftype_is_a_budget(text: str) -> None:
    assert parse_budget(text) == Budget(kind="stock", ftype=text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "12",
        "GiB",
        "0 GiB",
        "0.4 bytes",
        "-3 GiB",
        "4,25 bpw",
        "0.5 bpw",
        "17 bpw",
        "12 TB",
        "nan GiB",
        "4 4 bpw",
    ],
)
def test_nonsense_is_refused_with_what_a_budget_is(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no budget: an ftype \(Q4_K_M\), 4.25 bpw or 12 GiB$") as caught:
        parse_budget(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("text", ["q4_k_m", "Q4-K-M", " Q4_K_M"])
def test_a_misspelt_ftype_is_answered_with_the_right_one(text: str) -> None:
    with pytest.raises(ValueError, match="perhaps you meant 'Q4_K_M'"):
        parse_budget(text)


def test_with_a_context_a_size_means_memory() -> None:
    budget = parse_budget("8 GiB", 4096)
    assert budget == Budget(kind="ram", amount=8 * 2**30, n_ctx=4096)
    assert str(budget) == "8 GiB of memory with 4,096 tokens of context"
    assert parse_budget("4.25 bpw", 4096).kind == "bpw"


@pytest.mark.parametrize(
    ("text", "shown", "label"),
    [
        ("Q4_K_M", "the size of stock Q4_K_M", "Q4_K_M_LWQ"),
        ("4.25 bpw", "4.25 bpw", "lwq-4.25bpw"),
        ("12 GiB", "12 GiB", "lwq-12GiB"),
        ("512 MiB", "512 MiB", "lwq-512MiB"),
    ],
)
def test_a_budget_is_shown_in_words_and_in_a_file_name(text: str, shown: str, label: str) -> None:
    budget = parse_budget(text)
    assert (str(budget), budget.label) == (shown, label)
    assert parse_budget("8 GiB", 512).label == "lwq-8GiB-ram"


@pytest.mark.parametrize(
    ("n_bytes", "shown", "label"),
    [
        (2**30, "1 GiB", "1GiB"),
        (2**30 - 2**20, "1023 MiB", "1023MiB"),
        (2**20 // 4, "0.25 MiB", "0.25MiB"),
        (13_256_278_887, "12.3459 GiB", "12.35GiB"),
    ],
)
def test_sizes_are_in_gib_from_one_on(n_bytes: int, shown: str, label: str) -> None:
    file, ram = Budget(kind="file", amount=n_bytes), Budget(kind="ram", amount=n_bytes, n_ctx=65536)
    assert (str(file), file.label) == (shown, f"lwq-{label}")
    assert (str(ram), ram.label) == (f"{shown} of memory with 65,536 tokens of context", f"lwq-{label}-ram")


def test_a_size_is_bytes_and_nothing_else_is_one() -> None:
    assert [parse_size(t) for t in ("12 GiB", "500 MB", "1.5 kib", "7 b")] == [12 * 2**30, 500_000_000, 1536, 7]
    for text in ("Q4_K_M", "4.25 bpw", "0 GiB", "", "12"):
        with pytest.raises(ValueError, match=f"'{text}' is no size like 500 MB or 12 GiB"):
            parse_size(text)


@MODEST
@given(n_bytes=st.integers(1, 2**45))
def test_bytes_are_kept_exactly(n_bytes: int) -> None:
    assert parse_budget(f"{n_bytes} b").amount == n_bytes
    assert parse_budget(f"{n_bytes // 1000}.{n_bytes % 1000:03} kB").amount == n_bytes


SMALL = {"a.embedding_length": 64, "a.block_count": 3, "a.attention.head_count": 4, "a.feed_forward_length": 100}
BUFFER = 512 * 4 * (1000 + 2 * 100 + 8 * 64)


def test_context_memory_is_keys_and_values_of_all_layers_and_a_buffer() -> None:
    # 3 layers · 4 heads · (16 + 16) · 10 tokens · 2 bytes, as all heads have keys
    assert context_bytes(SMALL, "a", 1000, 10) == 3 * 4 * 32 * 10 * 2 + BUFFER
    # 2 heads with keys of 20 and values of 8
    grouped = {"a.attention.head_count_kv": 2, "a.attention.key_length": 20, "a.attention.value_length": 8}
    assert context_bytes(SMALL | grouped, "a", 1000, 10) == 3 * 2 * 28 * 10 * 2 + BUFFER


def test_layers_may_differ_in_heads() -> None:
    each = {"a.attention.head_count": (4, 2, 4), "a.attention.head_count_kv": (1, 0, 2)}
    assert context_bytes(SMALL | each, "a", 1000, 10) == 3 * 32 * 10 * 2 + BUFFER


def test_what_the_model_does_not_say_is_one_or_follows_from_the_rest() -> None:
    # one layer of one head with keys and values of one; a width of 1 and 4 times that
    assert context_bytes({}, "a", 1000, 10) == 2 * 10 * 2 + 512 * 4 * (1000 + 2 * 4 + 8)
    bare = {"a.embedding_length": 64, "a.block_count": 3, "b.block_count": 9, "a.attention.head_count": "many"}
    assert context_bytes(bare, "a", 0, 1) == 3 * 1 * 128 * 2 + 512 * 4 * (2 * 256 + 8 * 64)
    lists = {"a.feed_forward_length": (10, 30, 20), "a.attention.head_count_kv": (1, "x", 2)}
    assert context_bytes(SMALL | lists, "a", 0, 1) == 3 * 32 * 2 + 512 * 4 * (2 * 30 + 8 * 64)
    assert context_bytes(SMALL | {"a.feed_forward_length": ()}, "a", 0, 0) == 512 * 4 * (2 * 256 + 8 * 64)


def test_a_model_without_attention_needs_no_cache() -> None:
    # convert_hf_to_gguf.py writes head_count 0 for Mamba
    assert context_bytes(SMALL | {"a.attention.head_count": 0}, "a", 1000, 10) == BUFFER
