"""The command as a user meets it: output, exit codes, clear errors."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from lwq.gguf.header import read_header
from lwq.gguf.rewrite import rewrite_gguf
from lwq.values.compiled import current
from tests.run_tiny import RECIPE, write_inputs
from tests.tiny_models import write_split_llama, write_tiny_gemma3

pytestmark = pytest.mark.tools


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str


def lwq(*arguments: str, cwd: Path, **environment: str) -> Said:
    command = [sys.executable, "-m", "lwq", *arguments]
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **environment}
    done = subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, check=False, timeout=300)
    assert "Traceback" not in done.stderr
    return Said(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def folder(tmp_path: Path, tools_home: Path) -> Path:
    write_inputs(tmp_path)
    (tmp_path / "tiny.toml").write_text(RECIPE, encoding="utf-8")
    return tmp_path


def test_run_then_look_at_what_it_made(folder: Path, tools_home: Path) -> None:
    (folder / "mine").mkdir()
    (folder / "mine" / "details.md.j2").write_text("# My {{ record.name | plain }}\n")
    (folder / "mark.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(9))
    words = '[card]\ntemplates = "mine"\nlogo = "mark.png"\nnotes = "Made by *me*."\n'
    (folder / "tiny.toml").write_text(RECIPE + words, encoding="utf-8")
    said = lwq("run", "tiny.toml", cwd=folder)
    assert said.code == 0
    head, *files, gap, card = said.out.splitlines()
    assert (head.split()[:3], gap, card) == (["File", "KLD", "(nats)"], "", "card: reports/tiny/README.md")
    assert {line.split()[0] for line in files} <= {"Q4_K_M", "hand", "pruned"}
    assert files
    assert max(map(len, said.out.splitlines())) <= 80
    assert re.search(r"\[\d+/35\] quantize:Q4_K_M ✓ .*; in all about .* left", said.err)
    assert "steps run" in said.err
    report = folder / "reports" / "tiny"
    plan = lwq("plan", "tiny.toml", cwd=folder)
    assert plan.out.count("  done  ") == 35
    assert "nothing to do" in plan.out
    stats = json.loads(lwq("stats", str(report / "imatrix.gguf"), "--json", cwd=folder).out)
    assert len(stats["layers"]) == 4
    assert "Σ(Act²)" in lwq("stats", str(report / "imatrix.gguf"), "--sort", "zd", cwd=folder).out
    for command in (("stats", "imatrix.gguf"), ("inspect", "tiny-pruned.gguf", "--by", "tensor")):
        narrow = lwq(command[0], str(report / command[1]), *command[2:], cwd=folder).out
        assert max(map(len, narrow.splitlines())) <= 80
        assert len(lwq(command[0], str(report / command[1]), *command[2:], "--wide", cwd=folder).out) > len(narrow)
    seen = json.loads(lwq("inspect", str(report / "tiny-pruned.gguf"), "--json", cwd=folder).out)
    assert (seen["layers"], seen["lwq.pruned_layers"]) == (3, "2")
    card = (report / "README.md").read_bytes()
    assert b"](logo.png)" in card
    assert b'<img src="data:image/png;base64,iVBORw0KGgo' in (report / "index.html").read_bytes()
    assert b"## Notes\n\nMade by *me*." in card
    assert (report / "logo.png").read_bytes() == (folder / "mark.png").read_bytes()
    assert (report / "DETAILS.md").read_text() == "# My tiny\n"
    (report / "README.md").unlink()
    assert lwq("card", str(report), cwd=folder).code == 0
    assert (report / "README.md").read_bytes() == card
    assert (report / "DETAILS.md").stat().st_size > 1000
    assert lwq("card", str(report), "--templates", str(folder / "mine"), cwd=folder).code == 0
    assert (report / "DETAILS.md").stat().st_size == 10
    assert lwq("why", "quantize", "tiny.toml", cwd=folder).out.count("nothing changed") == 3
    assert "steps," in lwq("cache", "list", cwd=folder).out
    assert "0 entries" in lwq("cache", "gc", cwd=folder).out
    earlier = tools_home / "compiled" / "0123456789abcdef"
    earlier.mkdir()
    assert lwq("cache", "gc", "--yes", cwd=folder).out.splitlines()[0] == f"compiled/{earlier.name}"
    assert [p.name for p in earlier.parent.iterdir()] == [current().name]


def test_plan_before_anything_ran_tells_sizes_and_runs_nothing(folder: Path, tools_home: Path) -> None:
    said = lwq("plan", "tiny.toml", "--json", cwd=folder)
    found = json.loads(said.out)
    assert [f["name"] for f in found["files"]] == ["Q4_K_M", "hand", "pruned"]
    assert not any(step["done"] for step in found["steps"])
    assert not list(tools_home.glob("steps/*"))


@pytest.mark.parametrize(
    ("change", "code", "told"),
    [
        (("tiny.gguf", "absent.gguf"), 1, "absent.gguf: no such model"),
        (("tiny.gguf", "."), 1, "a folder of GGUFs"),
        (("tiny.gguf", "cut.gguf"), 1, "cut.gguf"),
        (("tiny.gguf", "text.gguf"), 1, "text.gguf"),
        (("tiny.gguf", "alien.gguf"), 1, "alien"),
        (('"evaluation.txt"', '"empty.txt"'), 1, "empty.txt: is empty"),
        (('"evaluation.txt"', '"short.txt"'), 1, "short.txt"),
        (("n_chunks = 5", "n_chunks = 60"), 1, "60"),
        (("Q4_K_M", "Q4_K_L"), 2, "perhaps you meant 'Q4_K_"),
        (('ftype = "Q3_K_M"\nimatrix = false', 'ftype = "IQ2_XS"\nimatrix = false'), 1, "importance matrix"),
        (("[2]", "[0, 1, 2, 3]"), 1, "all 4 layers are named"),
        (("[bench]", '[card]\ntemplates = "mine"\n[bench]'), 1, "card.md.j2, line 2: 'recrod' is undefined"),
        (("[bench]", '[card]\nlogo = "text.gguf"\n[bench]'), 1, "text.gguf: the logo is no PNG, JPEG, GIF or WebP"),
    ],
)
def test_bad_input_gets_one_clear_error(folder: Path, change: tuple[str, str], code: int, told: str) -> None:
    whole = (folder / "tiny.gguf").read_bytes()
    (folder / "cut.gguf").write_bytes(whole[: len(whole) // 2])
    (folder / "text.gguf").write_text("no model at all\n" * 50)
    (folder / "alien.gguf").write_bytes(whole.replace(b"llama", b"alien"))
    (folder / "mine").mkdir()
    (folder / "mine" / "card.md.j2").write_text("# {{ record.name }}\n{{ recrod.name }}\n")
    (folder / "empty.txt").write_text(" \n")
    (folder / "short.txt").write_text("a few words only " * 10)
    assert change[0] in RECIPE
    (folder / "tiny.toml").write_text(RECIPE.replace(*change), encoding="utf-8")
    said = lwq("run", "tiny.toml", cwd=folder)
    assert said.code == code, said.err
    assert told in said.err
    assert "hint:" in said.err
    assert said.err.count("lwq: ") == 1
    assert said.out == ""


def test_two_mistakes_are_told_together(folder: Path) -> None:
    (folder / "tiny.toml").write_text(RECIPE.replace("tiny.gguf", "a.gguf").replace("selection.txt", "b.txt"))
    said = lwq("run", "tiny.toml", cwd=folder)
    assert said.code == 1
    assert "2 things are missing or wrong" in said.err
    assert "a.gguf" in said.err
    assert "b.txt" in said.err


def test_full_disk_is_told_and_nothing_is_lost(folder: Path) -> None:
    limited = f"ulimit -f 600; exec {sys.executable} -m lwq run tiny.toml"  # no file over 600 KiB
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(["bash", "-c", limited], cwd=folder, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert lwq("run", "tiny.toml", cwd=folder).code == 0


def test_unwritable_output_is_told_before_any_step(folder: Path, tools_home: Path) -> None:
    (folder / "file").write_text("in the way")
    said = lwq("run", "tiny.toml", "--out", "file/report", cwd=folder)
    assert said.code == 1
    assert "file/report" in said.err
    assert not list(tools_home.glob("steps/*"))


def test_architecture_whose_layers_go_by_number_is_not_pruned(folder: Path) -> None:
    write_tiny_gemma3(folder / "tiny.gguf")
    said = lwq("run", "tiny.toml", cwd=folder)
    assert said.code == 1
    assert "would not prune these layers rightly" in said.err


def test_split_model_is_merged(folder: Path) -> None:
    first = write_split_llama(folder)
    (folder / "tiny.toml").write_text(RECIPE.replace("tiny.gguf", first.name).replace("prune_layers = [2]", ""))
    assert lwq("run", "tiny.toml", cwd=folder).code == 0
    assert "2 shards merged" in (folder / "reports" / "tiny" / "README.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["plam", "x.toml"], "Perhaps you meant 'plan'"),
        (["run"], "Missing argument"),
        (["why", "nonsense", "tiny.toml"], "'nonsense' is no step"),
        (["--threads", "0", "cache", "list"], "--threads"),
    ],
)
def test_wrong_usage_ends_with_2(folder: Path, arguments: list[str], told: str) -> None:
    said = lwq(*arguments, cwd=folder)
    assert said.code == 2
    assert told in said.err


def test_init_writes_a_recipe_that_checks(folder: Path) -> None:
    said = lwq("init", "tiny.gguf", cwd=folder)
    assert said.code == 0
    assert "no mistake" in lwq("recipe", "check", "recipes/tiny.toml", cwd=folder).out
    written = (folder / "recipes" / "tiny.toml").read_text(encoding="utf-8")
    assert "packaged:languages" in written
    assert "packaged:dialogue" not in written  # the model has no chat template
    assert lwq("init", "tiny.gguf", cwd=folder).code == 1
    assert json.loads(lwq("plan", "recipes/tiny.toml", "--json", cwd=folder).out)["files"]


def test_init_takes_conversations_where_the_model_has_a_template(folder: Path) -> None:
    template = "{% for message in messages %}<{{ message.role }}>{{ message.content }}{% endfor %}"
    model = read_header(folder / "tiny.gguf")
    rewrite_gguf(model, folder / "chat.gguf", metadata={"tokenizer.chat_template": template}, tensors={})
    assert lwq("init", "chat.gguf", cwd=folder).code == 0
    assert "packaged:dialogue" in (folder / "recipes" / "chat.toml").read_text(encoding="utf-8")
    assert json.loads(lwq("plan", "recipes/chat.toml", "--json", cwd=folder).out)["files"]


def test_environment_sets_options_and_a_given_llama_cpp_is_checked(folder: Path, tools_home: Path) -> None:
    empty = folder / "nothing"
    empty.mkdir()
    said = lwq("toolchain", "show", cwd=folder, LWQ_LLAMA_DIR=str(empty))
    assert said.code == 1
    assert "no llama-imatrix" in said.err
    shown = json.loads(lwq("toolchain", "show", "--json", cwd=folder).out)
    given = json.loads(lwq("--llama-dir", shown["bin"], "toolchain", "show", "--json", cwd=folder).out)
    assert given["stock"] is False
    assert shown["commit"].startswith(given["commit"])
    assert lwq("toolchain", "doctor", cwd=folder).code == 0


AT_THE_END = """
import atexit, os, signal, time
from lwq.cli import main as entry
def again(*_, **__):
    os.kill(os.getpid(), signal.{name})
    time.sleep(0.05)
def stop(arguments):
    return entry._fail(entry.Interrupted("interrupted", hint="go on"))
entry._run = stop
{when}
entry.main()
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize(
    "when",
    ["atexit.register(again)", "say = entry.click.echo\nentry.click.echo = lambda *a, **k: (again(), say(*a, **k))"],
)
def test_a_signal_while_lwq_ends_changes_nothing(name: str, when: str, tmp_path: Path) -> None:
    """Somebody holds ^C down: it is told once that this was heard, by message and exit code, without a traceback."""
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", AT_THE_END.format(name=name, when=when)]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, "Traceback" in done.stderr, done.stderr.count("lwq: interrupted")) == (130, False, 1)
