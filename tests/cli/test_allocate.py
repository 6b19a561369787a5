"""`lwq sensitivity` and `lwq allocate` as a user meets them, on a tiny model."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from lwq.gguf.header import read_header
from lwq.llama.toolchain import Toolchain
from lwq.record.record import shares
from lwq.report.record_json import record_to_json
from tests.cli.test_main import Said, lwq
from tests.run_tiny import write_inputs
from tests.sample_record import allocated_row, sample_record
from tests.sample_search import search
from tests.tiny_models import write_tiny_llama, write_tiny_moe

pytestmark = pytest.mark.tools
RECIPE = """
name = "budgets"
model = "tiny.gguf"
[calibration]
text = "calibration.txt"
n_ctx = 96
n_chunks = 6
[selection]
text = "selection.txt"
n_ctx = 96
n_chunks = 4
[evaluation]
text = "evaluation.txt"
n_ctx = 96
n_chunks = 4
[[targets]]
budget = ["Q4_K_M", "5.5 bpw"]
[sensitivity]
n_windows = 2
n_selection_windows = 3
[bench]
tests = []
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("budgets")
    write_inputs(folder)
    (folder / "budgets.toml").write_text(RECIPE, encoding="utf-8")
    return folder


@pytest.fixture
def folder(shared: Path, tools_home: Path) -> Path:
    """One measurement serves all tests of this module: steps and pieces stay in a home that they share."""
    for name in ("steps", "pieces", "ledger"):
        (shared / "home" / name).mkdir(parents=True, exist_ok=True)
        (tools_home / name).symlink_to(shared / "home" / name)
    return shared


def allocate(folder: Path, *arguments: str) -> Said:
    said = lwq("allocate", "budgets.toml", *arguments, cwd=folder)
    assert said.code == 0, said.err
    return said


def test_sensitivity_prints_the_loudest_tensors_and_measures_only_once(folder: Path) -> None:
    said = lwq("sensitivity", "budgets.toml", "--top", "3", cwd=folder)
    assert said.code == 0, said.err
    rows = [line.split() for line in said.out.splitlines() if re.match(r"(blk|token_embd|output)\S+ ", line)]
    assert len(rows) == 3
    klds = [float(row[2]) for row in rows]
    assert klds == sorted(klds, reverse=True)
    assert klds[0] > 0
    again = lwq("sensitivity", "budgets.toml", "--json", cwd=folder)
    assert "✓" not in again.err
    found = json.loads(again.out)
    assert {t["tensor"] for t in found["tensors"]} >= {"token_embd.weight", "blk.3.ffn_down.weight"}
    assert found["output_tensor"] == "token_embd.weight"


def test_a_model_is_measured_with_every_tensor_probed_where_that_is_asked(folder: Path) -> None:
    options = ("--calibration", "calibration.txt", "--ctx", "96", "--chunks", "6", "--types", "q4_0", "--json")
    counted = {}
    for probes in ("layers", "all"):
        said = lwq("sensitivity", "tiny.gguf", *options, "--probes", probes, cwd=folder)
        assert said.code == 0, said.err
        probed = [t["is_probed"] for t in json.loads(said.out)["tensors"]]
        counted[probes] = sum(probed)
    assert counted["layers"] < counted["all"] == len(probed)


def test_allocation_keeps_to_each_budget_and_is_predicted_better_than_stock(folder: Path) -> None:
    found = json.loads(allocate(folder, "--json").out)
    assert [one["budget"] for one in found] == ["the size of stock Q4_K_M", "5.5 bpw"]
    for one in found:
        assert one["bpw"] <= 5.5 or "stock" in one["budget"]
        assert one["n_bytes"] <= max(one["stock"]["n_bytes"], 5.5 / 8 * one["n_bytes"] * 8 / one["bpw"])
    first = found[0]
    assert first["n_bytes"] <= first["stock"]["n_bytes"]
    assert first["predicted_kld"] <= first["stock"]["predicted_kld"]


def test_constraints_of_the_command_line_are_obeyed(folder: Path) -> None:
    options = ("--budget", "5 bpw", "--types", "k", "--min", "ffn_down=q5_k", "--fix", "attn_v=q8_0")
    types = json.loads(allocate(folder, *options, "--tie", "ffn_gate,ffn_up", "--json").out)[0]["types"]
    for layer in range(4):
        assert types[f"blk.{layer}.ffn_gate.weight"] == types[f"blk.{layer}.ffn_up.weight"]
        assert types[f"blk.{layer}.attn_v.weight"] == "q8_0"
        assert types[f"blk.{layer}.ffn_down.weight"] in ("q5_K", "q6_K", "q8_0")
    assert set(types.values()) <= {"q2_K", "q3_K", "q4_K", "q5_K", "q6_K", "q8_0"}


def test_frontier_falls_as_the_budget_grows_and_has_the_stock_mixes(folder: Path) -> None:
    points = json.loads(allocate(folder, "--frontier", "--json").out)
    ours = [(p["n_bytes"], p["predicted_kld"]) for p in points if p["name"] == "allocation"]
    assert len(ours) > 8
    assert ours == sorted(ours)
    assert [k for _, k in ours] == sorted((k for _, k in ours), reverse=True)
    assert {"stock Q4_K_M", "stock Q6_K"} <= {p["name"] for p in points}


def test_explain_names_the_chosen_type_and_what_the_next_bits_buy(folder: Path) -> None:
    out = allocate(folder, "--budget", "Q4_K_M", "--explain", "blk.1.ffn_up.weight").out
    chosen = re.search(r"within the size of stock Q4_K_M: (\S+);", out)
    assert chosen
    row = next(line for line in out.splitlines() if line.startswith(f"{chosen[1]} "))
    assert row.endswith("chosen")
    assert "measured" in out
    assert "predicted" in out


def test_printed_command_writes_a_file_of_the_predicted_size(folder: Path, toolchain: Toolchain) -> None:
    found = json.loads(allocate(folder, "--budget", "Q4_K_M", "--json").out)[0]
    said = allocate(folder, "--budget", "Q4_K_M", "--out", "written")
    command = shlex.split(said.out.splitlines()[-1])
    assert command[0] == "llama-quantize"
    subprocess.run([str(toolchain.program(command[0])), *command[1:]], cwd=folder, check=True, capture_output=True)
    header = read_header(folder / command[-2])
    assert sum(t.n_bytes for t in header.tensors) == found["n_bytes"]
    assert {t.name: t.ggml_type for t in header.tensors if t.name in found["types"]} == found["types"]


def test_types_of_a_record_serve_a_fine_tune_of_the_same_shape_and_no_other_model(
    folder: Path, toolchain: Toolchain
) -> None:
    types = json.loads(allocate(folder, "--budget", "Q4_K_M", "--json").out)[0]["types"]
    tensors = read_header(folder / "tiny.gguf").tensors
    row = replace(
        allocated_row(search()), name="a/../b", tensor_types=tuple(types.items()), ftype="Q4_K_M",
        classes=shares(tensors, lambda t: t.tensor_class),
    )  # fmt: skip
    record = sample_record()
    texts = (replace(record.texts[0], file="calibration.txt", n_ctx=96, n_chunks=6),)
    record = replace(record, rows=(record.rows[0], row), texts=texts)
    (folder / "record.json").write_text(record_to_json(record), encoding="utf-8")
    write_tiny_llama(folder / "tuned.gguf", seed=9)
    borrowed = ("allocate", "tuned.gguf", "--from", "record.json")
    (found,) = json.loads(lwq(*borrowed, "--json", cwd=folder).out)
    assert found["types"] == types
    assert found["borrowed_from"]["model"] == record.model.name
    said = lwq(*borrowed, "--out", "lent", cwd=folder)
    assert f"borrowed from {record.model.name}: its types, by its sensitivity; nothing was measured" in said.out
    commands = [shlex.split(line) for line in said.out.splitlines() if line.startswith("llama-")]
    assert [command[0] for command in commands] == ["llama-imatrix", "llama-quantize"]
    for command in commands:
        subprocess.run([str(toolchain.program(command[0])), *command[1:]], cwd=folder, check=True, capture_output=True)
    header = read_header(folder / commands[1][-2])
    assert {t.name: t.ggml_type for t in header.tensors if t.name in types} == types
    assert sum(t.n_bytes for t in header.tensors) == found["n_bytes"]
    write_tiny_moe(folder / "other.gguf")
    other = lwq("allocate", "other.gguf", "--from", "record.json", cwd=folder)
    assert other.code == 1
    assert "has not the shape of" in other.err
    both = lwq(*borrowed, "--budget", "Q4_K_M", cwd=folder)
    assert (both.code, "no option that measures or chooses goes with it" in both.err) == (2, True)
    text = lwq(*borrowed, "--calibration", "packaged:prose", cwd=folder)
    assert (text.code, "no option that measures or chooses goes with it" in text.err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--budget", "Q4_K_X"), "is no budget"),
        (("--budget", "0.9 bpw"), "is no budget"),
        (("--budget", "1 MiB", "--explain", "blk.9.ffn_up.weight"), "no tensor"),
        (("--budget", "10 KiB"), "leaves nothing for tensors"),
        (("--budget", "1.2 bpw"), "the smallest allowed types take"),
        (("--budget", "Q4_K_M", "--types", "q4k"), "perhaps you meant"),
        (("--budget", "Q4_K_M", "--min", "ffn_down"), "'ffn_down' is not PATTERN=TYPE\n"),
    ],
)
def test_bad_input_is_told_with_the_way_out(folder: Path, arguments: tuple[str, ...], told: str) -> None:
    said = lwq("allocate", "budgets.toml", *arguments, cwd=folder)
    assert said.code in (1, 2)
    assert told in said.err


def test_a_model_needs_a_budget_or_the_frontier(folder: Path) -> None:
    said = lwq("allocate", "tiny.gguf", cwd=folder)
    assert said.code == 2
    assert "--frontier" in said.err
