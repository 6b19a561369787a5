"""Which layers may go, by architecture: what each kept layer is stays what it was, or the reason is said."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lwq.errors import ModelError
from lwq.layers.kinds import KINDS, REFUSED, WINDOW_PATTERN, Hparams
from lwq.layers.pruning import check_count, check_layers, prune_obstacle, without_layers


def of(arch: str, **values: object) -> dict[str, object]:
    """Metadata of an architecture; ``__`` stands for a dot."""
    return {f"{arch}.{key.replace('__', '.')}": value for key, value in values.items()}


WINDOW = {"attention__sliding_window": 512}


# layers


@pytest.mark.parametrize(
    ("layers", "n_layer", "said"),
    [
        ((8,), 8, "there is no layer 8: the model has layers 0 to 7"),
        ((-1,), 8, "there is no layer -1"),
        ((3, 2, 3), 8, "layer 3 is named twice"),
        (tuple(range(8)), 8, "all 8 layers are named"),
        ((1,), 2, "a model of 2 layers has none between"),
        ((0, 3), 8, "layer 0 cannot go: the first and the last layer are barred"),
        ((7,), 8, "layer 7 cannot go"),
    ],
)
def test_layers_that_cannot_go_are_named_with_a_way_out(layers: tuple[int, ...], n_layer: int, said: str) -> None:
    with pytest.raises(ModelError, match=re.escape(said)) as caught:
        check_layers(layers, n_layer)
    assert caught.value.hint


def test_layers_come_back_in_order_and_edges_may_go_when_allowed() -> None:
    assert check_layers((5, 2), 8) == (2, 5)
    assert check_layers((), 1) == ()
    assert check_layers((7, 0), 8, allow_edge=True) == (0, 7)
    with pytest.raises(ModelError) as caught:
        check_layers((9,), 8, hint="like that")
    assert caught.value.hint == "like that"


@pytest.mark.parametrize(
    ("n", "n_layer", "allow_edge", "most"), [(7, 8, False, 6), (8, 8, True, 7), (1, 2, False, 0), (1, 2, True, 0)]
)
def test_more_layers_than_may_go_are_refused_by_number(n: int, n_layer: int, allow_edge: bool, most: int) -> None:
    with pytest.raises(ModelError, match=f"{n} layers cannot go: only {most} of this model's {n_layer} may") as caught:
        check_count(n, n_layer, allow_edge=allow_edge)
    assert caught.value.hint
    check_count(most, n_layer, allow_edge=allow_edge)


# metadata


def test_alike_layers_need_only_the_count() -> None:
    metadata = of("llama", block_count=8, attention__head_count=4, rope__dimension_sections=(1,) * 8)
    assert without_layers("llama", 8, metadata, (2, 3)) == {"llama.block_count": 6}
    assert prune_obstacle("llama", 8, metadata, (2, 3)) is None
    assert prune_obstacle("llama", 8, metadata) is None


def test_arrays_lose_the_entries_of_layers_that_go() -> None:
    metadata = of("deci", attention__head_count=(8, 8, 4, 0), feed_forward_length=(64, 32, 16, 8))
    assert without_layers("deci", 4, metadata, (1,)) == {
        "deci.block_count": 3,
        "deci.attention.head_count": (8, 4, 0),
        "deci.feed_forward_length": (64, 16, 8),
    }
    assert "deci.attention.head_count must change" in (prune_obstacle("deci", 4, metadata, (1,)) or "")


def test_first_layer_stays_where_sizes_are_taken_from_it() -> None:
    metadata = of("openelm", attention__head_count=(12, 16, 16))
    with pytest.raises(ModelError, match="takes sizes of a whole 'openelm' from its first layer"):
        without_layers("openelm", 3, metadata, (0,))
    swa = of("gemma4", attention__sliding_window_pattern=(True, False, True), attention__key_length_swa=256)
    with pytest.raises(ModelError, match="takes sizes of a whole 'gemma4'"):
        without_layers("gemma4", 3, swa, (0,))


@pytest.mark.parametrize(("gone", "lead"), [((1,), 2), ((0, 1), 1), ((0, 1, 2), 0), ((3, 5), None)])
def test_leading_dense_layers_are_counted_anew(gone: tuple[int, ...], lead: int | None) -> None:
    found = without_layers("glm4moe", 8, of("glm4moe", leading_dense_block_count=3), gone)
    assert found.get("glm4moe.leading_dense_block_count") == lead


def test_next_token_layers_stay_and_are_counted_in() -> None:
    metadata = of("glm4moe", nextn_predict_layers=1, attention__head_count=(4,) * 8)
    found = without_layers("glm4moe", 8, metadata, (6,))
    assert found == {"glm4moe.block_count": 7, "glm4moe.attention.head_count": (4,) * 7}
    with pytest.raises(ModelError, match="layer 7 cannot go: it predicts the token after the next"):
        without_layers("glm4moe", 8, metadata, (7,))
    assert prune_obstacle("glm4moe", 8, metadata, (6,))


def test_an_array_keeps_what_a_period_would_move() -> None:
    found = without_layers("gemma2", 6, {}, (2,))
    assert found["gemma2.attention.sliding_window_pattern"] == (True, False, False, True, False)
    assert set(without_layers("gemma2", 6, {}, (2, 3))) == {"gemma2.block_count"}
    recurrent = without_layers("qwen3next", 8, {}, (1,))["qwen3next.attention.recurrent_layers"]
    assert recurrent == (True, True, False, True, True, True, False)


@given(
    arch=st.sampled_from(["gemma2", "gemma3", "cohere2", "gpt-oss", "qwen35", "olmo2", "plamo3", "laguna", "spark2_5"]),
    gone=st.sets(st.integers(1, 22), max_size=8),
    pattern=st.lists(st.booleans(), min_size=24, max_size=24),
)
def test_kept_layers_stay_what_they_were(arch: str, gone: set[int], pattern: list[bool]) -> None:
    given_array = {WINDOW_PATTERN.replace(".", "__"): tuple(pattern)} if arch == "spark2_5" else {}
    old = Hparams(architecture=arch, n_layer=24, metadata=of(arch, **WINDOW, **given_array))
    trait = KINDS[arch][0]
    left = {label for i, label in enumerate(trait.labels(old)) if i not in gone}
    if set(trait.needs) & set(trait.labels(old)) - left:
        with pytest.raises(ModelError, match="no other layer is of their kind"):
            without_layers(arch, 24, old.metadata, sorted(gone))
        return
    changed = without_layers(arch, 24, old.metadata, sorted(gone))
    new = Hparams(architecture=arch, n_layer=24 - len(gone), metadata={**old.metadata, **changed})
    for trait in KINDS[arch]:
        assert trait.labels(new) == tuple(k for i, k in enumerate(trait.labels(old)) if i not in gone)


@pytest.mark.parametrize(
    ("arch", "values", "period"),
    [
        ("smollm3", {}, 4),
        ("afmoe", WINDOW, 4),
        ("smallthinker", WINDOW, 4),
        ("llama4", {"interleave_moe_layer_step": 1}, 4),
        ("llama4", {"interleave_moe_layer_step": 3}, 12),
    ],
)
def test_what_code_alone_decides_allows_whole_periods(arch: str, values: Mapping[str, object], period: int) -> None:
    metadata, n_layer = of(arch, **values), 4 * period
    run = tuple(range(period + 1, 2 * period + 1))
    assert without_layers(arch, n_layer, metadata, run) == {f"{arch}.block_count": n_layer - period}
    with pytest.raises(ModelError, match=r"would become layer \d+ and with") as caught:
        without_layers(arch, n_layer, metadata, run[:1])
    assert caught.value.hint.startswith(f"name {period} layers in a row")


def test_llama4_without_windows_leaves_rope_out_of_its_last_layer() -> None:
    metadata = of("llama4", attention__sliding_window=0, interleave_moe_layer_step=1)
    assert without_layers("llama4", 8, metadata, (3,)) == {"llama4.block_count": 7}
    with pytest.raises(ModelError, match="layer 6 would become layer 6 and without rope"):
        without_layers("llama4", 8, metadata, (7,))


@pytest.mark.parametrize(
    ("arch", "n_layer", "values", "said"),
    [
        ("gemma2", 46, {"embedding_length": 4608, "attention__head_count": 32, "attention__key_length": 128},
         "the scale of attention would be another (128 instead of 144)"),
        ("gemma3", 62, {"embedding_length": 5376, "attention__head_count": 32, "attention__key_length": 128, **WINDOW},
         "the scale of attention would be another (128 instead of 168)"),
        ("gemma3", 63, {"embedding_length": 5376, "attention__head_count": 32, "attention__key_length": 128},
         "the scale of attention would be another (168 instead of 128)"),
        ("exaone4", 64, {}, "no window instead of window"),
        ("command-r", 64, {}, "whether queries and keys are normalized would be another"),
        ("deepseek2", 28, {"attention__q_lora_rank": 1536}, "whether queries have a low rank would be another"),
    ],
)  # fmt: skip
def test_what_the_number_of_layers_decides_is_an_obstacle(
    arch: str, n_layer: int, values: Mapping[str, object], said: str
) -> None:
    with pytest.raises(ModelError, match=re.escape(said)):
        without_layers(arch, n_layer, of(arch, **values), (9,))


def test_what_the_number_of_layers_only_defaults_is_written() -> None:
    found = without_layers("minicpm", 40, {}, (9,))
    expected = struct.unpack("<f", struct.pack("<f", 1.4 / 40**0.5))[0]
    assert found["minicpm.residual_scale"] == pytest.approx(expected, rel=1e-7)
    assert set(without_layers("minicpm", 40, of("minicpm", residual_scale=0.2), (9,))) == {"minicpm.block_count"}
    lite = without_layers("deepseek2", 26, of("deepseek2", leading_dense_block_count=1), (9,))
    assert lite == {"deepseek2.block_count": 25, "deepseek2.attention.q_lora_rank": 0}
    flash = of("deepseek2", vocab_size=154880, attention__q_lora_rank=768)
    assert without_layers("deepseek2", 47, flash, (9,)) == {
        "deepseek2.block_count": 46,
        "deepseek2.expert_gating_func": 2,
    }


def test_the_last_layer_of_a_kind_that_memory_needs_stays() -> None:
    hybrid = of("lfm2", attention__head_count_kv=(0, 1, 0, 1))
    with pytest.raises(ModelError, match="no other layer is of their kind"):
        without_layers("lfm2", 4, hybrid, (1, 3))
    assert without_layers("lfm2", 4, hybrid, (1,))["lfm2.attention.head_count_kv"] == (0, 0, 1)
    with pytest.raises(ModelError, match="no other layer is of their kind"):
        without_layers("gemma2", 4, {}, (0, 2))
    assert without_layers("gemma2", 4, {}, (1, 3))["gemma2.attention.sliding_window_pattern"] == (True, True)


@pytest.mark.parametrize(
    ("arch", "values", "said"),
    [
        ("qwen9", {}, "lwq does not know what its layers are"),
        *((arch, {}, why) for arch, why in REFUSED.items()),
        ("granite", {"deepstack_mapping": (-1, 0, -1, -1)}, "its image inputs are added in numbered layers"),
        ("gemma4", {"embedding_length_per_layer": 256}, "its part of one per-layer embedding"),
        ("gemma4", {"attention__shared_kv_layers": 2}, "the keys and values of earlier ones"),
    ],
)
def test_architectures_that_lose_no_layer_say_why(arch: str, values: Mapping[str, object], said: str) -> None:
    with pytest.raises(ModelError, match=re.escape(said)):
        without_layers(arch, 4, of(arch, **values), (1,))
    assert said in (prune_obstacle(arch, 4, of(arch, **values)) or "")


def test_deepstack_inputs_keep_their_layers() -> None:
    metadata = of("qwen3vl", n_deepstack_layers=3)
    assert without_layers("qwen3vl", 8, metadata, (5,)) == {"qwen3vl.block_count": 7}
    with pytest.raises(ModelError, match="which deepstack input is added"):
        without_layers("qwen3vl", 8, metadata, (1,))
