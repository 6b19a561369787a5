"""Faults of what a user hands in: one sentence that names the cause, as early as it can be known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lwq.gguf.data import read_tensor
from lwq.gguf.header import read_header
from lwq.gguf.rewrite import rewrite_gguf
from tests import tiny_models
from tests.cli.test_main import lwq
from tests.tiny_models import (
    write_split_llama,
    write_tiny_glm4,
    write_tiny_lfm2,
    write_tiny_llama,
    write_tiny_smollm3,
    write_tiny_text,
)

pytestmark = pytest.mark.tools
RECIPE = """
name = "asked"
model = "model.gguf"
[calibration]
text = "calibration.txt"
n_ctx = 64
n_chunks = 6
[selection]
text = "selection.txt"
n_ctx = 64
n_chunks = 4
[evaluation]
text = "evaluation.txt"
n_ctx = 64
n_chunks = 5
[bench]
tests = []
"""
STOCK = "[[targets]]\nftype = 'Q4_K_M'\n"
COMPARED = ("--ctx", "64", "--chunks", "5", "--text", "evaluation.txt")


@pytest.fixture
def folder(tmp_path: Path, tools_home: Path) -> Path:
    for seed, role in enumerate(("calibration", "selection", "evaluation")):
        write_tiny_text(tmp_path / f"{role}.txt", n_words=900, seed=seed)
    write_tiny_llama(tmp_path / "model.gguf", n_layer=3)
    return tmp_path


def asked(folder: Path, more: str = STOCK, recipe: str = RECIPE) -> None:
    (folder / "asked.toml").write_text(recipe + more, encoding="utf-8")


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (
            "[[targets]]\nftype = 'Q4_K_M'\ntensor_types = ['attn_vv=q8_0']\n",
            "Q4_K_M: the pattern 'attn_vv' is found in no tensor of the model",
        ),
        (
            "[[targets]]\nftype = 'Q4_K_M'\ntensor_types = ['attn_norm=q8_0']\n",
            "names only tensors that llama-quantize leaves as they are, such as blk.0.attn_norm.weight",
        ),
        (
            "[[targets]]\nbpw = 5.5\nmin_types = ['^token_emb\\.=q8_0']\n",
            "the pattern '^token_emb\\\\.' is found in no",
        ),
        ("[[targets]]\nbpw = 5.5\nties = [['attn_q', 'attn_kk']]\n", "ties name 'attn_kk'"),
        ("[[targets]]\nftype = 'Q4_K_M'\nprune_layers = [7]\n", "there is no layer 7"),
    ],
)
def test_a_constraint_without_effect_is_refused_by_plan_and_run(folder: Path, more: str, told: str) -> None:
    asked(folder, more)
    for command in ("plan", "run"):
        said = lwq(command, "asked.toml", cwd=folder)
        assert said.code in (1, 2)
        assert told in said.err
        assert "hint: " in said.err
        assert "not here yet" not in said.out
    assert not (folder / "reports").exists()


def test_near_names_are_offered_and_patterns_with_effect_pass(folder: Path) -> None:
    asked(folder, "[[targets]]\nftype = 'Q4_K_M'\ntensor_types = ['attn_vv=q8_0']\n")
    assert "did you mean attn_v" in lwq("plan", "asked.toml", cwd=folder).err
    asked(folder, "[[targets]]\nftype = 'Q4_K_M'\ntensor_types = ['blk\\.1\\..*attn_v=q8_0', '^token_embd=q6_k']\n")
    assert lwq("plan", "asked.toml", cwd=folder).code == 0
    said = lwq("allocate", "model.gguf", "--budget", "Q4_K_M", "--fix", "ffn_dwn=q8_0", cwd=folder)
    assert said.code == 2
    assert "ffn_dwn" in said.err
    assert "imatrix" not in said.err


def test_types_that_need_data_of_a_block_no_text_reaches_are_foretold_and_the_way_out_works(folder: Path) -> None:
    write_tiny_glm4(folder / "model.gguf", n_embd=256)
    asked(folder, "[[targets]]\nftype = 'IQ2_XXS'\n")
    for command in ("plan", "run"):
        said = lwq(command, "asked.toml", cwd=folder)
        assert said.code == 1
        assert "no text reaches block 4" in said.out + said.err
        assert r"tensor_types = ['blk\.4\.=q2_K']" in said.out + said.err
    assert "imatrix ✓" not in said.err
    asked(folder, "[[targets]]\nftype = 'IQ2_XXS'\ntensor_types = ['blk\\.4\\.=q2_K']\n")
    assert lwq("run", "asked.toml", cwd=folder).code == 0


def test_more_layers_than_may_go_one_by_one_are_refused_before_anything_runs(folder: Path) -> None:
    """SmolLM3 leaves out rope in every fourth layer, as only its code says: no layer can go alone."""
    write_tiny_smollm3(folder / "model.gguf")
    asked(folder, "[[targets]]\nftype = 'Q8_0'\nprune = 1\n")
    for command in ("plan", "run"):
        said = lwq(command, "asked.toml", cwd=folder)
        assert said.code == 1
        assert "prune = 1, but only 0 of this model's 9 layers may go one by one: layers 4 of 'smollm3'" in said.err
        assert "name layers that can go together yourself, in prune_layers" in said.err


def test_what_is_no_language_model_is_refused_by_init_plan_and_run(folder: Path) -> None:
    rewrite_gguf(
        read_header(folder / "model.gguf"), folder / "lora.gguf", metadata={"general.type": "adapter"}, tensors={}
    )
    asked(folder, recipe=RECIPE.replace("model.gguf", "lora.gguf"))
    for command in (("init", "lora.gguf"), ("plan", "asked.toml"), ("run", "asked.toml")):
        said = lwq(*command, cwd=folder)
        assert said.code == 1
        assert "lora.gguf: a LoRA adapter" in said.err
    assert not (folder / "recipes").exists()
    assert lwq("init", "nowhere.gguf", cwd=folder).code == 1


def test_weights_that_are_not_finite_are_named_and_do_not_stop_a_comparison(folder: Path) -> None:
    model = read_header(folder / "model.gguf")
    up = read_tensor(model, "blk.1.ffn_up.weight").copy()
    up[3, 5] = np.nan
    rewrite_gguf(model, folder / "nan.gguf", metadata={}, tensors={"blk.1.ffn_up.weight": up})
    asked(folder, recipe=RECIPE.replace("model.gguf", "nan.gguf"))
    said = lwq("run", "asked.toml", cwd=folder)
    assert said.code == 1
    assert "nan.gguf: 1 values are infinite or not a number: 1 in blk.1.ffn_up.weight" in said.err
    (folder / "other.gguf").write_bytes((folder / "model.gguf").read_bytes())
    said = lwq("compare", "nan.gguf", "other.gguf", "--base", "model.gguf", *COMPARED, cwd=folder)
    assert said.code == 1
    assert "nan.gguf: blk.1.ffn_up.weight has 1 value not finite: the file is damaged" in said.err
    assert "other (third party)" in said.out


def test_activations_beyond_f16_are_told_and_bf16_is_the_way_out(folder: Path) -> None:
    model = read_header(folder / "model.gguf")
    large = {
        f"blk.1.ffn_{x}.weight": read_tensor(model, f"blk.1.ffn_{x}.weight") * 15000 for x in ("up", "gate", "down")
    }
    rewrite_gguf(model, folder / "large.gguf", metadata={}, tensors=large)
    recipe = RECIPE.replace("model.gguf", "large.gguf")
    asked(folder, recipe=recipe)
    said = lwq("run", "asked.toml", cwd=folder)
    assert said.code == 1
    assert "not numbers (nan)" in said.err
    assert 'base_type = "bf16"' in said.err
    asked(folder, recipe='base_type = "bf16"' + recipe)
    assert lwq("run", "asked.toml", cwd=folder).code == 0


def test_texts_that_overlap_are_refused(folder: Path) -> None:
    both = (folder / "evaluation.txt").read_text() + (folder / "calibration.txt").read_text()
    (folder / "both.txt").write_text(both)
    asked(folder, recipe=RECIPE.replace("calibration.txt", "both.txt"))
    said = lwq("plan", "asked.toml", cwd=folder)
    assert said.code == 1
    assert "calibration and evaluation text overlap: " in said.err
    (folder / "both.txt").write_text(" ".join((folder / "evaluation.txt").read_text().split()[100:700]))
    assert "overlap" in lwq("plan", "asked.toml", cwd=folder).err  # a part of it, in other lines


def test_a_byte_order_mark_and_capital_letters_are_taken(folder: Path) -> None:
    (folder / "model.gguf").rename(folder / "MODEL.GGUF")
    (folder / "asked.toml").write_bytes(b"\xef\xbb\xbf" + (RECIPE.replace("model.gguf", "MODEL.GGUF") + STOCK).encode())
    assert lwq("run", "asked.toml", cwd=folder).code == 0
    assert {p.name for p in (folder / "reports" / "asked").glob("*.gguf")} == {
        "MODEL-F16.gguf",
        "MODEL-Q4_K_M.gguf",
        "imatrix.gguf",
    }


def test_text_that_is_not_utf8_does_not_stop_a_run(folder: Path) -> None:
    raw = (folder / "model.gguf").read_bytes()
    assert raw.count(b"\x04\0\0\0\0\0\0\0tiny") == 1
    (folder / "model.gguf").write_bytes(raw.replace(b"\x04\0\0\0\0\0\0\0tiny", b"\x04\0\0\0\0\0\0\0t\xe9ny"))
    asked(folder)
    assert lwq("run", "asked.toml", cwd=folder).code == 0
    (folder / "reports" / "asked" / "README.md").read_text(encoding="utf-8")
    json.loads((folder / "reports" / "asked" / "record.json").read_text(encoding="utf-8"))


def test_joined_shards_and_left_over_keys_are_told_apart(folder: Path) -> None:
    write_split_llama(folder)
    first, second = folder / "tiny-00001-of-00002.gguf", folder / "tiny-00002-of-00002.gguf"
    (folder / "joined.gguf").write_bytes(first.read_bytes() + second.read_bytes())
    assert f"a second GGUF follows at byte {first.stat().st_size:,}" in lwq("inspect", "joined.gguf", cwd=folder).err
    said = lwq("compare", first.name, "--base", first.name, *COMPARED, cwd=folder)
    assert said.code == 0
    assert "tiny (third party)" in said.out
    left = {"split.no": 0, "split.count": 2, "split.tensors.count": len(read_header(folder / "model.gguf").tensors)}
    rewrite_gguf(read_header(folder / "model.gguf"), folder / "left.gguf", metadata=left, tensors={})
    assert lwq("inspect", "left.gguf", cwd=folder).code == 0


def test_layers_that_carry_a_state_are_refused_early_and_can_be_named(folder: Path) -> None:
    write_tiny_lfm2(folder / "lfm2.gguf")
    for more in (("prune = 1\n"), ('prune = "auto"\nbpw = 5.5\n')):
        asked(folder, f"[[targets]]\n{more}{'' if 'bpw' in more else 'ftype = {!r}'.format('Q8_0')}\n",
              RECIPE.replace("model.gguf", "lfm2.gguf"))  # fmt: skip
        said = lwq("plan", "asked.toml", cwd=folder)
        assert said.code == 1
        assert "carry" in said.err or "hand a state" in said.err
        assert "prune_layers" in said.err
    assert "hand a state" in lwq("prune", "lfm2.gguf", "--count", "1", "--out", "a.gguf", "--ctx", "64", cwd=folder).err
    said = lwq("prune", "lfm2.gguf", "--layers", "2", "--out", "b.gguf", "--ctx", "64", cwd=folder)
    assert said.code == 0, said.err


def test_an_output_that_is_a_file_is_refused_before_anything_is_measured(folder: Path) -> None:
    said = lwq("allocate", "model.gguf", "--budget", "Q4_K_M", "--out", "model.gguf", cwd=folder)
    assert said.code == 1
    assert "model.gguf: cannot write the report: exists already" in said.err
    assert "convert" not in said.err


def test_hints_of_stats_fit_their_cause_and_json_is_json(folder: Path) -> None:
    sums = {f"blk.{i}.attn_q.weight": np.random.default_rng(0).random(256).astype(np.float32) for i in range(3)}
    whole = tiny_models.write_tiny_imatrix(folder / "whole.gguf", sums).read_bytes()
    (folder / "cut.gguf").write_bytes(whole[:-700])
    (folder / "old.dat").write_bytes(b"\x03\0\0\0" + bytes(200))
    said = [lwq("stats", name, cwd=folder).err for name in ("cut.gguf", "nowhere.gguf", "old.dat")]
    assert ["old .dat format" in err for err in said] == [False, False, True]
    stats = lwq("stats", "whole.gguf", "--json", cwd=folder).out

    def refuse(constant: str) -> float:
        raise AssertionError(constant)

    assert len(json.loads(stats, parse_constant=refuse)["tensors"]) == 3
    sums["blk.1.attn_q.weight"][7] = np.nan
    tiny_models.write_tiny_imatrix(folder / "nan.gguf", sums)
    assert (
        "nan.gguf: blk.1.attn_q.weight.in_sum2 has values that are no sums of squares"
        in lwq("stats", "nan.gguf", "--json", cwd=folder).err
    )


def test_experts_without_data_are_named(folder: Path) -> None:
    path = tiny_models.write_tiny_moe(folder / "moe.gguf")
    header = read_header(path)
    router = {
        f"blk.{i}.ffn_gate_inp.weight": read_tensor(header, f"blk.{i}.ffn_gate_inp.weight").copy() for i in range(3)
    }
    for values in router.values():
        values[2] = 0  # of four experts two are used; the others' logits are seldom all below zero, so force it
        values[3] = 0
        values[:2] = np.abs(values[:2])
    rewrite_gguf(header, folder / "starved.gguf", metadata={"llama.expert_used_count": 1}, tensors=router)
    asked(folder, recipe=RECIPE.replace("model.gguf", "starved.gguf"))
    said = lwq("run", "asked.toml", cwd=folder)
    assert said.code == 0, said.err
    (note,) = [line for line in said.err.splitlines() if line.startswith("note: Calibration never reached ")]
    assert note.removeprefix("note: ").split(" They are")[0] in (folder / "reports/asked/README.md").read_text()
    assert "Calibration never reached" in lwq("stats", "reports/asked/imatrix.gguf", cwd=folder).out


def test_strangers_metadata_is_checked_like_the_recipes(folder: Path) -> None:
    stated = {
        "general.license": "apache-2.0",
        "general.languages": ("English", "zh-CN", "no", "Klingonese tongue"),
        "general.base_model.count": 1,
        "general.base_model.0.repo_url": "https://huggingface.co/HuggingFaceTB/SmolLM2-135M/",
    }
    rewrite_gguf(read_header(folder / "model.gguf"), folder / "stated.gguf", metadata=stated, tensors={})
    asked(folder, recipe=RECIPE.replace("model.gguf", "stated.gguf"))
    said = lwq("run", "asked.toml", cwd=folder)
    card = (folder / "reports" / "asked" / "README.md").read_text(encoding="utf-8")
    assert "language:\n- en\n- zh\n- 'no'\n" in card
    assert "base_model:\n- HuggingFaceTB/SmolLM2-135M\n" in card
    assert "no ISO 639 codes, left out here: Klingonese tongue" in said.err
    asked(folder, STOCK + "[card]\nlanguages = ['English']\nbase_model = ['https://huggingface.co/a/b/']\n")
    said = lwq("recipe", "check", "asked.toml", cwd=folder)
    assert said.code == 2
    assert "'English' is no ISO 639 code; you mean 'en'" in said.err
    assert "is not OWNER/NAME; you mean 'a/b'" in said.err
