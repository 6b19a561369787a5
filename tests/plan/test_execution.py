"""Whole runs on a tiny model with the real tools, and with tools that misbehave."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from lwq.errors import LwqError, ModelError, ToolError, TranscriptError
from lwq.gguf.data import tensor_section_sha256
from lwq.gguf.header import read_header
from lwq.llama.process import run_tool
from lwq.llama.toolchain import Toolchain
from lwq.llama.transcripts import parse_damage
from lwq.metrics.values import Damage
from lwq.plan.assemble import assemble
from lwq.plan.explain import why
from lwq.store.cache import Cache
from tests.fake_toolchain import BEHAVIOURS, make_fake
from tests.run_tiny import RECIPE, run_tiny, write_inputs

pytestmark = pytest.mark.tools
SHORT = RECIPE[: RECIPE.index('[[targets]]\nname = "hand"')] + RECIPE[RECIPE.index("[bench]") :]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, toolchain: Toolchain):
    folder = tmp_path_factory.mktemp("run")
    write_inputs(folder)
    return (*run_tiny(folder, folder / "home", toolchain), folder)


def test_run_writes_every_row_with_all_its_figures(finished) -> None:
    run, _, card, _ = finished
    record = assemble(run)
    assert [row.name for row in record.rows] == ["F16", "Q4_K_M", "hand", "pruned"]
    for row in record.rows:
        assert row.evaluation.kld.value >= -1e-6
        assert row.selection is not None
        assert [s.test for s in row.speed] == ["pp32", "tg8"]
        assert row.predicted_file_bytes in (None, row.file_bytes)
    assert record.rows[3].n_params < record.rows[1].n_params
    text = card.with_name("DETAILS.md").read_text(encoding="utf-8")
    for row in record.rows:
        assert f"{row.evaluation.kld.value:.6f}" in text
        assert f"{row.bpw:.4f}" in text


def test_written_types_are_the_allocation(finished) -> None:
    run, _, _, folder = finished
    for name in ("Q4_K_M", "hand", "pruned"):
        planned = dict(run.result(f"allocate:{name}").allocation.types)
        header = read_header(folder / "report" / f"tiny-{name}.gguf")
        assert {t.name: t.ggml_type for t in header.tensors} == planned
    hand = dict(run.result("allocate:hand").allocation.types)
    assert {hand[f"blk.{i}.ffn_down.weight"] for i in range(4)} == {"q6_K"}


def test_second_run_starts_nothing_and_writes_the_same_bytes(finished, toolchain: Toolchain, tmp_path: Path) -> None:
    _, _, card, folder = finished
    names = ("README.md", "index.html", "record.json", "figures/kld_against_size.png", "figures/bytes_by_class.png")
    before = {name: (folder / "report" / name).read_bytes() for name in names}
    broken = make_fake(tmp_path / "bin", toolchain, dict.fromkeys(("llama-quantize", "llama-perplexity"), "exit 9"))
    _, log, _ = run_tiny(folder, folder / "home", broken)
    assert log.fresh == []
    assert {name: (folder / "report" / name).read_bytes() for name in names} == before
    assert card.exists()


def test_changed_pattern_repeats_only_its_target_and_why_names_it(finished, toolchain: Toolchain, tmp_path) -> None:
    run, _, _, folder = finished
    home = tmp_path / "home"
    shutil.copytree(folder / "home", home, symlinks=True)
    cache = Cache(home)
    cache.remember("tiny", {step.label: step.key_value for step in run.steps})
    changed = RECIPE.replace("ffn_down=q6_k", "ffn_down=q8_0")
    other = tmp_path / "other"
    write_inputs(other)
    run2, log, _ = run_tiny(other, home, toolchain, changed)
    assert set(log.fresh) == {
        "allocate:hand", "quantize:hand", "evaluate:hand:evaluation", "evaluate:hand:selection", "tasks:hand:ARC",
        "tasks:hand:WinoGrande", "contexts", "continuations", "bench", "select",
    }  # fmt: skip
    told = "\n".join(why(run2.step("quantize:hand"), run2.steps, cache, "tiny"))
    assert "allocate:hand changed" in told
    assert "was ['ffn_down=q6_k'], is ['ffn_down=q8_0']" in told


def test_card_commands_pasted_give_the_same_figures_and_tensors(finished, toolchain: Toolchain, tmp_path) -> None:
    run, _, _, folder = finished
    record = assemble(run)
    for name in ("tiny-F16.gguf", "imatrix.gguf", "evaluation.txt", *(r.tensor_types_file for r in record.rows[1:])):
        shutil.copy(folder / "report" / name, tmp_path / name)

    def paste(argv: tuple[str, ...]) -> str:
        return run_tool((str(toolchain.program(argv[0])), *argv[1:]), cwd=tmp_path).stdout

    paste(next(c.argv for c in record.commands if "evaluation.txt" in c.argv))
    for row in record.rows[1:]:
        commands = [c.argv for c in row.commands]
        paste(next(argv for argv in commands if argv[0] == "llama-quantize"))
        assert (tmp_path / row.file).read_bytes() == (folder / "report" / row.file).read_bytes()
        measure = next(argv for argv in commands if "tiny-F16.evaluation.logits" in argv)
        assert damage_of(measure, paste) == row.evaluation
        plain = tuple(a for a in commands[0] if not a.startswith("lwq."))
        plain = tuple(a for i, a in enumerate(plain) if a != "--override-kv")
        paste((*plain[:-3], f"plain-{row.file}", *plain[-2:]))
        assert tensor_section_sha256(tmp_path / f"plain-{row.file}") == tensor_section_sha256(tmp_path / row.file)


def damage_of(argv: tuple[str, ...], paste: Callable[[tuple[str, ...]], str]) -> Damage:
    """What the tool prints; run again where it ended before it had printed all (a race of its own)."""
    for _ in range(20):
        with contextlib.suppress(TranscriptError):
            return parse_damage(paste(argv))
    raise AssertionError(argv)


def test_no_local_path_user_or_host_in_the_report(finished) -> None:
    _, _, _, folder = finished
    words = [str(folder).encode(), str(Path.home()).encode() + b"/", socket.gethostname().encode()]
    for path in (folder / "report").rglob("*"):
        if path.is_file() and path.suffix != ".txt":
            content = path.read_bytes()
            for word in words:
                assert len(word) < 5 or word not in content, (path.name, word)


@pytest.mark.parametrize(
    ("program", "behaviour", "error", "told"),
    [
        ("llama-perplexity", "crash", ToolError, "signal 11"),
        ("llama-perplexity", "killed", ToolError, "out of memory"),
        ("llama-perplexity", "silent", ToolError, "printed nothing"),
        ("llama-perplexity", "fails", ToolError, "line 100"),
        ("llama-perplexity", "unknown table", TranscriptError, "the output ends with"),
        ("llama-perplexity", "nan", TranscriptError, "the output ends with"),
        ("llama-quantize", "no file", ToolError, "without writing tiny-Q4_K_M.gguf"),
        ("llama-quantize", "short file", LwqError, "tiny-Q4_K_M.gguf"),
        ("llama-imatrix", "silent", ToolError, "llama-imatrix"),
        ("llama-bench", "silent", ToolError, "llama-bench"),
    ],
)
def test_misbehaving_tool_is_told_and_nothing_half_done_is_kept(
    program: str, behaviour: str, error: type[LwqError], told: str, tmp_path: Path, toolchain: Toolchain
) -> None:
    write_inputs(tmp_path)
    fake = make_fake(tmp_path / "bin", toolchain, {program: BEHAVIOURS[behaviour]})
    with pytest.raises(error) as caught:
        run_tiny(tmp_path, tmp_path / "home", fake, SHORT)
    assert told in caught.value.message
    folders = [p for p in (tmp_path / "home" / "steps").iterdir() if p.is_dir()]
    done = [p for p in folders if (p / "step.json").exists()]
    failed = [p for p in folders if p not in done]  # kept for a look, under a name that no lookup finds
    assert [p.name[0] for p in failed] == ["."] * isinstance(caught.value, ToolError)
    _, log, _ = run_tiny(tmp_path, tmp_path / "home", toolchain, SHORT)
    assert len(log.kept) == len(done)
    assert not any(p.exists() for p in failed)


@pytest.mark.parametrize("behaviour", ["flood", "holds the pipe"])
def test_odd_but_right_tool_does_not_hang_the_run(behaviour: str, tmp_path: Path, toolchain: Toolchain) -> None:
    write_inputs(tmp_path)
    fake = make_fake(tmp_path / "bin", toolchain, {"llama-quantize": BEHAVIOURS[behaviour]})
    run, _, _ = run_tiny(tmp_path, tmp_path / "home", fake, SHORT)
    assert run.result("quantize:Q4_K_M").facts.n_layer == 4


def test_layer_that_is_not_there_is_refused(tmp_path: Path, toolchain: Toolchain) -> None:
    write_inputs(tmp_path)
    with pytest.raises(ModelError, match="no layer 7: the model has layers 0 to 3"):
        run_tiny(tmp_path, tmp_path / "home", toolchain, RECIPE.replace("[2]", "[7]"))


def test_record_can_be_read_back(finished) -> None:
    from lwq.report.record_json import record_from_json, record_to_json

    run, _, _, _ = finished
    record = assemble(run)
    text = record_to_json(record)
    assert record_from_json(text, "record.json") == record
    with pytest.raises(LwqError, match="schema 99"):
        record_from_json(json.dumps({**json.loads(text), "schema": 99}), "record.json")
