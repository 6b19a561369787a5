"""The sensitivity step on odd inputs: what fits no model is refused by name, and tensors of zeros cost nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader

from lwq.errors import LwqError, ModelError
from lwq.gguf.header import read_header
from lwq.gguf.imatrix import read_imatrix
from lwq.llama.toolchain import Toolchain
from lwq.recipe.budget import Budget, parse_budget
from lwq.recipe.constraints import Constraints
from lwq.steps import search, sensitivity
from lwq.steps.step import Context, Given, Made, to_json
from lwq.store.cache import Entry, key_of
from tests.tiny_models import write_tiny_imatrix, write_tiny_lfm2, write_tiny_llama, write_tiny_text

pytestmark = pytest.mark.tools


def write_inputs(folder: Path, write: Callable[..., Path] = write_tiny_llama, n_layer: int = 2) -> None:
    """A tiny model, and a text of exactly so many windows: the tools use its first ones, the search spreads."""
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "tiny.gguf", n_layer=n_layer)
    write_tiny_text(folder / "calibration.txt", n_words=300)
    write_tiny_text(folder / "selection.txt", n_words=324, seed=1)
    write_tiny_text(folder / "evaluation.txt", n_words=90, seed=2)


@dataclass(frozen=True, slots=True)
class Bench:
    """A context with given files, to run single steps in."""

    folder: Path
    toolchain: Toolchain
    entries: dict[str, Entry]
    given: dict[str, tuple[Path, ...]]

    def file(self, path: Path) -> Any:
        self.given[path.name] = (path,)
        return Given(sha256=path.name, name=path.name)

    def context(self, name: str) -> Context:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        return Context(
            folder=folder,
            toolchain=self.toolchain,
            n_threads=1,
            progress=lambda done, total: None,
            entries=self.entries,
            given=self.given,
            key=name,
        )

    def sensitivity(
        self, imatrix: Path, *, types: tuple[str, ...], n_ctx: int = 128, name: str = "sensitivity", **more: Any
    ) -> sensitivity.Result:
        inputs = sensitivity.Inputs(
            base=self.file(self.folder / "tiny.gguf"),
            imatrix=self.file(imatrix),
            text=self.file(self.folder / "calibration.txt"),
            n_ctx=n_ctx,
            n_windows=2,
            types=types,
            **({"probes": "layers", "minutes": None} | more),
        )
        return sensitivity.run(inputs, self.context(name))

    def search(
        self, imatrix: Path, measured: sensitivity.Result, budget: Budget, *, types: tuple[str, ...], n_ctx: int = 128
    ) -> search.Result:
        self.entries["sensitivity"] = made("sensitivity", self.folder / "sensitivity", to_json(measured))
        inputs = search.Inputs(
            base=self.file(self.folder / "tiny.gguf"),
            imatrix=self.file(imatrix),
            sensitivity=Made(step="sensitivity", key="sensitivity", name="imatrix-output.gguf"),
            budget=budget,
            ftype=budget.ftype,
            constraints=Constraints(types=types),
            probe_text=self.file(self.folder / "calibration.txt"),
            probe_n_ctx=n_ctx,
            text=self.file(self.folder / "selection.txt"),
            n_ctx=n_ctx,
            n_windows=4,
            n_confirmation_windows=8,
            rivals=(),
            optional=False,
            grams=None,
            paced=None,
            file="types.txt",
        )
        return search.run(inputs, self.context("search"))


def made(step: str, folder: Path, result: Any) -> Entry:
    return Entry(
        folder=folder, step=step, key=key_of({}), key_value={}, result=json.loads(json.dumps(result)), commands=(),
        seconds=0, tool_seconds=0, finished="", work=0, outputs={},
    )  # fmt: skip


def matrix(bench: Bench, **changes: Any) -> Path:
    """An imatrix of all layers of the tiny model, with some entries changed or (None) left out."""
    rng = np.random.default_rng(5)
    sums: dict[str, Any] = {
        t.name: 100 * rng.lognormal(size=t.ne[0]).astype(np.float32)
        for t in read_header(bench.folder / "tiny.gguf").tensors
        if len(t.ne) > 1 and t.layer is not None
    }
    for name, values in changes.items():
        sums[name] = values
    kept = {name: values for name, values in sums.items() if values is not None}
    return write_tiny_imatrix(bench.folder / "imatrix.gguf", kept)


LAST = "blk.1.ffn_down.weight"


@pytest.mark.parametrize(
    ("sums", "told"),
    [
        ({LAST: np.ones(128, np.float32)}, r"1×128 sums for blk\.1\.ffn_down\.weight, which needs 1×256"),
        ({LAST: np.full(256, np.nan, np.float32)}, "no sums of squares"),
        ({LAST: -np.ones(256, np.float32)}, "no sums of squares"),
    ],
)
def test_imatrix_of_another_model_is_refused(sums: Mapping[str, Any], told: str, bench: Bench) -> None:
    with pytest.raises(LwqError, match=told):
        bench.sensitivity(matrix(bench, **sums), types=("q4_K", "q8_0"))


def test_imatrix_without_any_tensor_of_the_model_is_refused(bench: Bench) -> None:
    other = write_tiny_imatrix(bench.folder / "other.gguf", {"blk.0.attn_qkv.weight": np.ones(256, np.float32)})
    with pytest.raises(ModelError, match="has no tensor of this model"):
        bench.sensitivity(other, types=("q4_K", "q8_0"))


def test_channels_and_experts_that_no_token_reached_weigh_one(bench: Bench) -> None:
    path = matrix(bench, **{LAST: np.zeros(256, np.float32)})
    counts = next(t for t in GGUFReader(path, "r+").tensors if t.name == f"{LAST}.counts")
    counts.data[:] = 0
    counts.data.base.flush()
    assert not {e.name: e for e in read_imatrix(path).entries}[LAST].counts.any()
    measured = bench.sensitivity(path, types=("q4_K", "q8_0"))
    assert all(np.isfinite(t.kld.value) and t.alpha > 0 for t in measured.tensors)


def test_tensor_of_zeros_costs_nothing_and_gets_the_smallest_type(bench: Bench) -> None:
    model = bench.folder / "tiny.gguf"
    zeros = next(t for t in GGUFReader(model, "r+").tensors if t.name == LAST)
    zeros.data[:] = 0
    zeros.data.base.flush()
    types = ("q2_K", "q4_K", "q6_K")
    measured = bench.sensitivity(matrix(bench), types=types)
    found = next(t for t in measured.tensors if t.tensor == LAST)
    assert (found.kld.value, found.alpha, set(dict(found.errors).values())) == (0.0, 0.0, {0.0})
    assert any(LAST in note for note in measured.notes)
    chosen = bench.search(matrix(bench), measured, parse_budget("Q4_K_M"), types=types)
    assert not chosen.plain_imatrix
    assert dict(chosen.allocation.types)[LAST] == "q2_K"


def test_text_of_one_window_is_refused_by_name(bench: Bench) -> None:
    write_tiny_text(bench.folder / "calibration.txt", n_words=40)
    with pytest.raises(ModelError, match=r"calibration\.txt: has 1 windows"):
        bench.sensitivity(matrix(bench), types=("q4_K",))


# estimates


def deep(bench: Bench, write: Callable[..., Path] = write_tiny_llama, **more: Any) -> sensitivity.Result:
    """The sensitivity of a tiny model of three layers."""
    write_inputs(bench.folder, write, n_layer=3)
    return bench.sensitivity(matrix(bench), types=("q3_K", "q4_K", "q8_0"), **more)


def test_three_tensors_of_a_layer_are_probed_as_all_are_and_the_rest_is_estimated_near_what_it_is(bench: Bench) -> None:
    some, full = deep(bench), deep(bench, name="full", probes="all")
    assert all(t.is_probed for t in full.tensors)
    measured = {t.tensor: t for t in full.tensors}
    probed = [t for t in some.tensors if t.is_probed]
    assert [t.tensor for t in some.tensors] == [t.tensor for t in full.tensors]
    assert len(probed) == 2 * 3 + 7 + 1  # of two layers, all of the last, and the embedding
    assert all(t == measured[t.tensor] for t in probed)
    rest = [t for t in some.tensors if not t.is_probed]
    assert all(t.errors == measured[t.tensor].errors and t.kld.stderr for t in rest)
    off = [abs(np.log(t.alpha / measured[t.tensor].alpha)) for t in rest]
    assert np.median(off) < np.log(1.5)


def test_time_left_goes_to_further_probes_and_a_resumed_run_knows_what_was_spent(bench: Bench) -> None:
    none, short, long = deep(bench, name="none"), deep(bench, minutes=1e-9), deep(bench, name="long", minutes=60.0)
    assert short == none
    assert deep(bench, minutes=1e-9) == short  # from the pieces that the first one left
    assert all(t.is_probed for t in long.tensors)


def test_where_no_end_of_a_layer_is_known_all_are_probed(bench: Bench) -> None:
    assert all(t.is_probed for t in deep(bench, write_tiny_lfm2).tensors)
