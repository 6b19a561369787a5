"""Tensors with compensated values: kept where they are better on held-out tokens, made once, found again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from lwq.engine.ggml import Ggml
from lwq.gguf.data import raw_tensor, read_tensor
from lwq.gguf.header import GgufHeader, read_header
from lwq.metrics.arrays import Bytes, Floats
from lwq.values.compensated import Compensated
from lwq.values.compensation import Compensation
from lwq.values.grams import Gathered, Grams, Reader, packed, write_gathered
from tests.coded_rows import correlated, gram_of
from tests.tiny_models import N_EXPERT, write_tiny_llama, write_tiny_moe

pytestmark = pytest.mark.tools
NAME, OTHER, EXPERTS = "blk.0.attn_q.weight", "blk.0.attn_output.weight", "blk.0.ffn_down_exps.weight"
N = 256


@pytest.fixture(scope="module")
def header(tmp_path_factory: pytest.TempPathFactory) -> GgufHeader:
    return read_header(write_tiny_llama(tmp_path_factory.mktemp("llama") / "tiny.gguf", n_layer=1))


@pytest.fixture(scope="module")
def moe(tmp_path_factory: pytest.TempPathFactory) -> GgufHeader:
    return read_header(write_tiny_moe(tmp_path_factory.mktemp("moe") / "tiny.gguf", n_layer=1))


def tokens_of(n_tokens: int, seed: int = 0) -> tuple[Floats, Floats]:
    """Tokens to sum and tokens to hold out, of the same kind."""
    both = correlated(n_tokens + 64, N, np.random.default_rng(seed))
    return both[:-64], both[-64:]


def alike(*experts: int) -> Gathered:
    found = {e: tokens_of(600, e) for e in experts}
    return Gathered(grams={e: gram_of(x) for e, (x, _) in found.items()}, held={e: h for e, (_, h) in found.items()})


def grams(folder: Path, places: Mapping[str, Gathered]) -> Grams:
    with (folder / "grams.npz").open("wb") as file:
        write_gathered(file, places)
    return Grams([folder / "grams.npz"], [Reader(tensor=name, file=0, place=name) for name in places])


def opened(ggml: Ggml, header: GgufHeader, folder: Path, places: Mapping[str, Gathered], **more: int) -> Compensated:
    importance = {
        name: np.stack([place.grams[e].diagonal if e in place.grams else np.ones(N, np.float32) for e in range(n)])
        for name, place in places.items()
        for n in [(*header.find(name)[1].ne, 1)[2]]
    }
    return Compensated(ggml, header, grams(folder, places), importance, folder / "values", more.get("n_threads", 1))


def error(w: Floats, q: Floats, held: Floats) -> float:
    """Mean relative squared error of the products of held-out tokens."""
    x = held.astype(np.float64)
    right = x @ w.T
    return float((((x @ q.T) - right) ** 2).sum(axis=1) @ (1 / (right**2).sum(axis=1)) / len(x))


def stock(ggml: Ggml, w: Floats, ggml_type: str, importance: Floats) -> Bytes:
    return ggml.quantize(w, ggml_type, importance)


@pytest.mark.parametrize("ggml_type", ["q2_K", "q4_K", "q6_K", "q4_0", "iq4_xs"])
def test_stored_bytes_lower_the_error_of_held_out_tokens(ggml_type: str, ggml: Ggml, header, tmp_path: Path) -> None:
    place = alike(0)
    values = opened(ggml, header, tmp_path, {NAME: place})
    data, w = values.stored(NAME, ggml_type), read_tensor(header, NAME)
    assert data is not None
    others = stock(ggml, w, ggml_type, place.grams[0].diagonal)
    assert data.shape == others.shape
    ours, theirs = (error(w, ggml.dequantize(d, ggml_type, N), place.held[0]) for d in (data, others))
    assert ours < theirs
    verdict = values.verdict(NAME, ggml_type)
    assert not verdict.kept
    assert (verdict.error, verdict.stock_error) == (pytest.approx(ours, rel=1e-3), pytest.approx(theirs, rel=1e-3))
    assert values.ratios(NAME, [ggml_type])[ggml_type] == pytest.approx(ours / theirs, rel=0.4)


def test_values_that_are_no_better_on_held_out_tokens_are_not_taken(ggml: Ggml, header, tmp_path: Path) -> None:
    """What is held out is nothing like what was summed."""
    summed, _ = tokens_of(600)
    summed[:, : N // 2] *= 1e-2
    held = np.zeros((64, N), np.float32)
    held[:, : N // 2] = np.random.default_rng(4).standard_normal((64, N // 2))
    place = Gathered(grams={0: gram_of(summed)}, held={0: held})
    values = opened(ggml, header, tmp_path, {NAME: place})
    values.importance = {NAME: (held**2).mean(axis=0)[None]}
    assert values.stored(NAME, "q4_K") is None
    verdict = values.verdict(NAME, "q4_K")
    assert verdict.kept == "no better on held-out tokens"
    assert verdict.error >= verdict.stock_error > 0
    assert values.ratios(NAME, ["q4_K"]) == {"q4_K": 1.0}


def test_unquantized_types_keep_their_values(ggml: Ggml, header, tmp_path: Path) -> None:
    values = opened(ggml, header, tmp_path, {NAME: alike(0)})
    assert values.stored(NAME, "f16") is None
    assert values.ratios(NAME, ["f16", "q8_0"]) == {"f16": 1.0, "q8_0": 1.0}


def test_tensor_of_which_nothing_was_collected_keeps_its_values(ggml: Ggml, header, tmp_path: Path) -> None:
    values = opened(ggml, header, tmp_path, {NAME: alike(0)})
    assert values.stored(OTHER, "q4_K") is None
    assert values.verdict(OTHER, "q4_K").kept == "no multiplication by it was seen"
    assert values.ratios(OTHER, ["q4_K"]) == {"q4_K": 1.0}


@pytest.mark.parametrize(
    ("wrong", "told"),
    [("nan", "not finite"), ("infinite", "not finite"), ("zero", "or nothing"), ("beyond", "no factor")],
)
def test_gram_of_no_use_keeps_the_stock_values(wrong: str, told: str, ggml: Ggml, header, tmp_path: Path) -> None:
    summed, held = tokens_of(600)
    if wrong == "beyond":  # correlations that no tokens have
        total = -np.ones((N, N), np.float32)
        np.fill_diagonal(total, 1.0)
    else:
        summed[5, 7] = {"nan": np.nan, "infinite": np.inf}.get(wrong, 0.0)
        total = summed.T @ summed if wrong != "zero" else np.zeros((N, N), np.float32)
    with np.errstate(invalid="ignore"):
        place = Gathered(grams={0: packed(total, 600)}, held={0: held})
    values = opened(ggml, header, tmp_path, {NAME: place})
    assert values.stored(NAME, "q4_K") is None
    assert told in values.verdict(NAME, "q4_K").kept
    assert values.ratios(NAME, ["q4_K"]) == {"q4_K": 1.0}


# files


@pytest.mark.parametrize("harm", ["cut", "changed", "deleted"])
def test_kept_file_that_was_harmed_is_made_again(harm: str, ggml: Ggml, header, tmp_path: Path) -> None:
    places = {NAME: alike(0)}
    first = opened(ggml, header, tmp_path, places).stored(NAME, "q4_K")
    path = tmp_path / "values" / f"{NAME}.q4_K"
    whole = path.read_bytes()
    assert first is not None
    assert whole == first.tobytes()
    if harm == "deleted":
        path.unlink()
    else:
        path.write_bytes(whole[:-1] if harm == "cut" else bytes([whole[0] ^ 1]) + whole[1:])
    again = opened(ggml, header, tmp_path, places).stored(NAME, "q4_K")
    assert np.array_equal(again, first)
    assert path.read_bytes() == whole


def test_tensor_that_other_libraries_round_otherwise_is_judged_anew(ggml: Ggml, header, tmp_path: Path) -> None:
    """And once: what they made is found again."""
    places = {NAME: alike(0)}
    first = opened(ggml, header, tmp_path, places).stored(NAME, "q4_K")
    path, verdicts = tmp_path / "values" / f"{NAME}.q4_K", tmp_path / "values" / "verdicts.jsonl"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    verdicts.write_text(verdicts.read_text().replace(digest, "0" * 64))
    path.unlink()
    again = opened(ggml, header, tmp_path, places)
    assert np.array_equal(again.stored(NAME, "q4_K"), first)
    n_lines, reopened = len(verdicts.read_text()), opened(ggml, header, tmp_path, places)
    assert np.array_equal(reopened.stored(NAME, "q4_K"), first)
    assert reopened.verdict(NAME, "q4_K").sha256 == digest
    assert len(verdicts.read_text()) == n_lines


@pytest.mark.parametrize("held", [0.0, np.nan])
def test_tensor_of_which_no_held_out_token_tells_keeps_its_stock_values(
    held: float, ggml: Ggml, header, tmp_path: Path
) -> None:
    place = alike(0)
    place.held[0][:] = held
    values = opened(ggml, header, tmp_path, {NAME: place})
    assert values.stored(NAME, "q4_K") is None
    assert "no held-out token" in values.verdict(NAME, "q4_K").kept
    assert values.ratios(NAME, ["q4_K", "iq2_s"]) == {"q4_K": 1.0, "iq2_s": 1.0}


def test_verdicts_and_files_are_found_again(ggml: Ggml, header, tmp_path: Path, monkeypatch) -> None:
    places = {NAME: alike(0)}
    values = opened(ggml, header, tmp_path, places)
    found = {q: values.stored(NAME, q) for q in ("q4_K", "f16")}
    ratios = values.ratios(NAME, ["q3_K", "q4_K"])
    verdict, missing = values.verdict(NAME, "q4_K"), values.verdict(OTHER, "q4_K")
    monkeypatch.setattr(Compensation, "quantized", None)  # whatever computes fails
    again = opened(ggml, header, tmp_path, places)
    assert np.array_equal(again.stored(NAME, "q4_K"), found["q4_K"])
    assert (again.verdict(NAME, "q4_K"), again.verdict(OTHER, "q4_K")) == (verdict, missing)
    assert again.ratios(NAME, ["q3_K", "q4_K"]) == ratios


def test_bytes_do_not_depend_on_folder_or_threads(ggml: Ggml, header, tmp_path: Path) -> None:
    found = []
    for n_threads in (1, 2):
        folder = tmp_path / str(n_threads)
        folder.mkdir()
        values = opened(ggml, header, folder, {NAME: alike(0)}, n_threads=n_threads)
        data = values.stored(NAME, "q3_K")
        assert data is not None
        found.append((data.tobytes(), values.verdict(NAME, "q3_K"), values.ratios(NAME, ["q4_0"])))
    assert found[0] == found[1]


# experts


def test_experts_have_their_own_matrices_and_those_without_tokens_stock_bytes(ggml: Ggml, moe, tmp_path: Path) -> None:
    reached = (0, 2)
    place = alike(*reached)
    values = opened(ggml, moe, tmp_path, {EXPERTS: place})
    data, w = values.stored(EXPERTS, "q4_K"), read_tensor(moe, EXPERTS)
    assert data is not None
    assert len(data) == N_EXPERT * N == len(raw_tensor(moe, EXPERTS).data)
    for e in range(N_EXPERT):
        ours = data[e * N : (e + 1) * N]
        if e in reached:
            gram = place.grams[e]
            made = Compensation(ggml, gram.conditioned(), gram.diagonal, 1).quantized(w[e], "q4_K")
            assert np.array_equal(ours, made)
            assert not np.array_equal(ours, stock(ggml, w[e], "q4_K", gram.diagonal))
        else:
            assert np.array_equal(ours, stock(ggml, w[e], "q4_K", np.ones(N, np.float32)))
    assert list(values.verdict(EXPERTS, "q4_K").without_tokens) == [e for e in range(N_EXPERT) if e not in reached]


def test_one_expert_of_no_use_keeps_the_stock_values_of_all(ggml: Ggml, moe, tmp_path: Path) -> None:
    place = alike(0, 1)
    place.grams[1].diagonal[:] = np.nan
    values = opened(ggml, moe, tmp_path, {EXPERTS: place})
    values.importance = {EXPERTS: np.ones((N_EXPERT, N), np.float32)}
    assert values.stored(EXPERTS, "q4_K") is None
    assert "not finite" in values.verdict(EXPERTS, "q4_K").kept


def test_expert_that_only_held_out_tokens_reached_is_no_obstacle(ggml: Ggml, moe, tmp_path: Path) -> None:
    place = alike(0, 3)
    held = {**place.held, 1: np.concatenate([tokens_of(1, seed)[1] for seed in (9, 10)])}  # most of all
    values = opened(ggml, moe, tmp_path, {EXPERTS: Gathered(grams=place.grams, held=held)})
    assert values.stored(EXPERTS, "q4_K") is not None
    values.importance = {}
    assert 0 < values.ratios(EXPERTS, ["q4_0"])["q4_0"] <= 1
    assert values.stored(EXPERTS, "q5_K") is not None
