"""One function for each program: the command it shows, what it makes of odd endings, and the real tools."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lwq.errors import LwqError, ModelError, ToolError, TranscriptError
from lwq.gguf.header import read_header
from lwq.gguf.write import write_gguf
from lwq.llama import programs, tools
from lwq.llama.requests import DryRunRequest, KldRequest, QuantizeRequest, TaskRequest, TextRequest, Window
from lwq.llama.toolchain import Toolchain
from tests.fake_toolchain import Replay, make_fake_toolchain, starts
from tests.tiny_models import write_tiny_imatrix, write_tiny_llama, write_tiny_text

FOLDER = Path(__file__).parents[1] / "transcripts"
PROGRESS = "llama-bench: benchmark 1/3: starting\nllama-bench: benchmark 1/3: warmup prompt run\n"


def words(command: str) -> tuple[str, ...]:
    return tuple(command.split())


def recorded(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def baseline(files: Mapping[str, bytes] | None = None, **more: int) -> Replay:
    """A good baseline run as recorded."""
    stored = {"b.logits": b"_logits_"} if files is None else files
    return Replay(stdout=recorded("baseline.out.txt"), stderr=recorded("baseline.err.txt"), files=stored, **more)


def run_baseline(toolchain: Toolchain, cwd: Path, n_chunks: int | None = None) -> tools.Measured:
    window = Window(n_ctx=512, n_chunks=n_chunks)
    return tools.perplexity_base(
        toolchain,
        TextRequest(model="m.gguf", text="t.txt", window=window, output="b.logits"),
        cwd=cwd,
        threads=2,
    )


def test_command_shown_is_the_command_run_with_bare_names(tmp_path: Path) -> None:
    fake = make_fake_toolchain(tmp_path / "bin", {"llama-perplexity": baseline()})
    done = run_baseline(fake, tmp_path, n_chunks=8)
    shown = "llama-perplexity -m m.gguf -f t.txt -c 512 --chunks 8 --kl-divergence-base b.logits -t 2"
    assert done.argv == words(shown)
    assert starts(fake) == [list(done.argv)]
    assert done.perplexity.ppl.value == 24.498
    assert done.seconds > 0


def test_flood_and_pieces_without_newline_are_read_whole(tmp_path: Path) -> None:
    damage = Replay(stdout=recorded("kld.out.txt"), stderr=recorded("kld.err.txt"), piece_chars=7, flood_chars=300_000)
    fake = make_fake_toolchain(tmp_path / "bin", {"llama-perplexity": damage})
    counts: list[tuple[int, int]] = []
    done = tools.kl_divergence(
        fake,
        KldRequest(model="m.gguf", logits="b.logits", n_ctx=512),
        cwd=tmp_path,
        threads=1,
        on_progress=lambda n, of: counts.append((n, of)),
    )
    assert done.damage.kld.value == 0.035198
    assert counts[-1] == (8, 8)
    assert counts == sorted(counts)


@pytest.mark.parametrize("files", [{}, {"b.logits": b""}])
def test_promised_file_that_is_missing_or_empty_is_an_error(files: dict[str, bytes], tmp_path: Path) -> None:
    fake = make_fake_toolchain(tmp_path / "bin", {"llama-perplexity": baseline(files)})
    with pytest.raises(ToolError, match=r"without writing b\.logits"):
        run_baseline(fake, tmp_path)


def test_run_without_a_word_is_an_error_that_names_the_tool(tmp_path: Path) -> None:
    fake = make_fake_toolchain(tmp_path / "bin", {"llama-quantize": Replay()})
    with pytest.raises(ToolError, match="llama-quantize ended with exit code 0 and printed nothing"):
        tools.dry_run(fake, DryRunRequest(model="m.gguf", ftype="Q4_0"), cwd=tmp_path)


def test_run_that_lost_its_last_lines_is_made_again(tmp_path: Path) -> None:
    cut = Replay(stdout=recorded("baseline.out.txt"), files={"b.logits": b"_logits_"})
    fake = make_fake_toolchain(tmp_path / "bin", {"llama-perplexity": (Replay(), cut, baseline())})
    assert run_baseline(fake, tmp_path).perplexity.n_chunks == 8
    assert len(starts(fake)) == 3


def test_failure_that_lost_its_reason_is_made_again_for_the_reason(tmp_path: Path) -> None:
    mute, plain = Replay(stderr="llama_context: a word\n", exit_code=1), recorded("too_short.txt")
    acts = (mute, mute, Replay(stderr=plain, exit_code=1))
    fake = make_fake_toolchain(tmp_path / "bin", {"llama-perplexity": acts})
    with pytest.raises(ToolError, match="too short"):
        run_baseline(fake, tmp_path)
    for_ever = make_fake_toolchain(tmp_path / "bin2", {"llama-perplexity": mute})
    with pytest.raises(ToolError, match="exit status 1"):
        run_baseline(for_ever, tmp_path)
    assert len(starts(for_ever)) == 4


def test_long_run_that_failed_is_not_repeated_and_one_that_lost_its_words_only_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "_LONG_SECONDS", 0.0)
    monkeypatch.setattr(programs, "_LOST_SECONDS", 0.0)
    for act, said, n in (
        (Replay(stderr="a word\n", exit_code=1), "exit status 1", 1),
        (Replay(), "printed nothing", 2),
    ):
        fake = make_fake_toolchain(tmp_path / said, {"llama-perplexity": act})
        with pytest.raises(ToolError, match=said):
            run_baseline(fake, tmp_path)
        assert len(starts(fake)) == n


def test_killed_tool_is_not_started_again(tmp_path: Path) -> None:
    fake = make_fake_toolchain(tmp_path / "bin", {"llama-perplexity": Replay(signal=signal.SIGKILL)})
    with pytest.raises(ToolError, match="signal 9"):
        run_baseline(fake, tmp_path)
    assert len(starts(fake)) == 1


@pytest.mark.parametrize(
    ("name", "exit_code", "error", "told"),
    [
        ("too_short", 0, ToolError, "too short"),
        ("wrong_vocabulary", 0, ModelError, "vocabulary of 320"),
        ("cut_log_probs", 0, ToolError, "log-probabilities are damaged"),
        ("unknown_architecture", 1, ModelError, "llamb"),
    ],
)
def test_complaint_is_told_whatever_the_exit_code(
    name: str, exit_code: int, error: type[LwqError], told: str, tmp_path: Path
) -> None:
    bad = Replay(stderr=recorded(f"{name}.txt"), exit_code=exit_code)
    fake = make_fake_toolchain(tmp_path / "bin", {"llama-perplexity": bad})
    with pytest.raises(error, match=told) as caught:
        run_baseline(fake, tmp_path)
    assert caught.value.hint
    assert len(starts(fake)) == 1


def test_speed_comes_in_the_order_asked_for(tmp_path: Path) -> None:
    replay = Replay(stdout=recorded("bench.json"), stderr=PROGRESS)
    fake = make_fake_toolchain(tmp_path / "bin", {"llama-bench": replay})
    asked = ("pp128+tg32", "tg32", "pp128")
    done = tools.bench(fake, cwd=tmp_path, model="m.gguf", tests=asked, repetitions=2, threads=2)
    assert tuple(speed.test for speed in done.speed) == asked
    assert done.argv == words("llama-bench -m m.gguf -p 128 -n 32 -pg 128,32 -r 2 -t 2 -o json --progress")
    with pytest.raises(ToolError, match="no result for pp512"):
        tools.bench(fake, cwd=tmp_path, model="m.gguf", tests=("pp512",), repetitions=2, threads=2)


def test_imatrix_of_fewer_windows_than_asked_for_is_refused(tmp_path: Path) -> None:
    sums = {"blk.0.ffn_up.weight": np.ones((1, 4), np.float32)}
    content = write_tiny_imatrix(tmp_path / "i.gguf", sums, n_chunks=2).read_bytes()
    replay = Replay(stderr="saved\n", files={"imatrix.gguf": content})
    fake = make_fake_toolchain(tmp_path / "bin", {"llama-imatrix": replay})

    def collect(n_chunks: int | None) -> tools.Collected:
        window = Window(n_ctx=64, n_chunks=n_chunks)
        request = TextRequest(model="m.gguf", text="t.txt", window=window, output="imatrix.gguf")
        return tools.imatrix(fake, request, cwd=tmp_path, threads=1, process_output=True)

    done = collect(2)
    assert (done.n_entries, done.n_chunks) == (1, 2)
    assert "--process-output" in done.argv
    with pytest.raises(ToolError, match=r"t\.txt: the importance matrix holds 2 windows .* 5 were asked for"):
        collect(5)


def test_quantize_options_come_before_the_files(tmp_path: Path) -> None:
    write_gguf(tmp_path / "whole.gguf", {"general.name": "whole"}, {})
    whole = (tmp_path / "whole.gguf").read_bytes()
    fake = make_fake_toolchain(
        tmp_path / "bin", {"llama-quantize": Replay(stdout="quantize time\n", files={"q.gguf": whole})}
    )
    request = QuantizeRequest(
        model="m.gguf",
        output="q.gguf",
        ftype="Q4_K_M",
        imatrix="imatrix.gguf",
        tensor_types_file="q.txt",
        prune_layers=(4, 5),
        override_kv={"general.quantized_by": "A B", "a": 3},
        allow_requantize=True,
    )
    done = tools.quantize(fake, request, cwd=tmp_path, threads=2)
    assert done.argv == (
        *words("llama-quantize --allow-requantize --imatrix imatrix.gguf --tensor-type-file q.txt"),
        *words("--prune-layers 4,5 --override-kv a=int:3 --override-kv"),
        *("general.quantized_by=str:A B", "m.gguf", "q.gguf", "Q4_K_M", "2"),
    )


def test_a_file_that_a_tool_left_half_written_is_told_as_that(tmp_path: Path) -> None:
    replay = Replay(stdout="quantize time\n", files={"q.gguf": b"GGUF"})
    fake = make_fake_toolchain(tmp_path / "bin", {"llama-quantize": replay})
    request = QuantizeRequest(model="m.gguf", output="q.gguf", ftype="Q4_K_M")
    with pytest.raises(
        ToolError, match=r"llama-quantize: ended well, but what it wrote is not whole: .*q\.gguf"
    ) as caught:
        tools.quantize(fake, request, cwd=tmp_path, threads=2)
    assert "is the disk full?" in caught.value.hint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_tiny_llama(tmp_path / "m.gguf")
    write_tiny_text(tmp_path / "t.txt")
    return tmp_path


@pytest.mark.tools
@pytest.mark.parametrize("name", ["7B-q.gguf", "q.gguf"])
def test_real_quantize_writes_the_file_it_was_told_to(name: str, folder: Path, toolchain: Toolchain) -> None:
    request = QuantizeRequest(model="m.gguf", output=name, ftype="Q4_K_M", override_kv={"lwq.x": "y"})
    tools.quantize(toolchain, request, cwd=folder, threads=2)
    assert read_header(folder / name).metadata["lwq.x"] == "y"
    assert sorted(p.name for p in folder.glob("*.gguf")) == sorted(["m.gguf", name])


@pytest.mark.tools
def test_real_dry_run_obeys_a_file_of_the_types_it_named(folder: Path, toolchain: Toolchain) -> None:
    request = DryRunRequest(model="m.gguf", ftype="Q4_K_M", tensor_types=("ffn_down=q3_k",), prune_layers=(1,))
    plan = tools.dry_run(toolchain, request, cwd=folder).plan
    types = {t.name: t.target_type for t in plan.tensors}
    assert types["blk.2.ffn_down.weight"] == "q3_K"
    assert "blk.3.ffn_down.weight" not in types
    (folder / "types.txt").write_text("^blk\\.0\\.attn_q\\.weight$=q8_0\n", encoding="utf-8")
    again = tools.dry_run(toolchain, request.with_file("types.txt"), cwd=folder)
    assert "--tensor-type" not in again.argv
    assert {t.name: t.target_type for t in again.plan.tensors}["blk.0.attn_q.weight"] == "q8_0"


@pytest.mark.tools
@pytest.mark.parametrize(
    ("changes", "error", "told"),
    [
        ({"ftype": "IQ2_XS"}, ToolError, "needs an importance matrix"),
        (
            {"override_kv": {"general.quantized_by": "x" * 130}},
            ToolError,
            "quantized_by: the value has 130 bytes",
        ),
        ({"model": "t.txt"}, ModelError, "cannot load the model"),
        ({"model": "cut.gguf"}, ModelError, "cut short"),
        ({"imatrix": "m.gguf"}, ToolError, r"m\.gguf is no importance matrix"),
        ({"output": "no/q.gguf"}, ToolError, "could not be written"),
    ],
)
def test_real_quantize_refuses_in_a_sentence(
    changes: dict[str, object], error: type[LwqError], told: str, folder: Path, toolchain: Toolchain
) -> None:
    (folder / "cut.gguf").write_bytes((folder / "m.gguf").read_bytes()[:-5000])
    request = QuantizeRequest(**{"model": "m.gguf", "output": "q.gguf", "ftype": "Q4_K_M", **changes})
    with pytest.raises(error, match=told) as caught:
        tools.quantize(toolchain, request, cwd=folder, threads=2)
    assert caught.value.hint


@pytest.mark.tools
def test_real_measurements_agree_with_each_other(folder: Path, toolchain: Toolchain) -> None:
    window, threads = Window(n_ctx=64, n_chunks=6), 2
    counts: list[tuple[int, int]] = []
    base = tools.perplexity_base(
        toolchain,
        TextRequest(model="m.gguf", text="t.txt", window=window, output="b.logits"),
        cwd=folder,
        threads=threads,
        on_progress=lambda n, of: counts.append((n, of)),
    )
    request = KldRequest(model="m.gguf", logits="b.logits", n_ctx=64)
    itself = tools.kl_divergence(toolchain, request, cwd=folder, threads=threads)
    assert base.perplexity.n_chunks == len(itself.damage.chunk_kld) == 6
    assert counts[-1] == (6, 6)
    # the base's log-probs are stored in 16 bits
    assert abs(itself.damage.kld.value) < 1e-4
    assert itself.damage.ppl.value == pytest.approx(base.perplexity.ppl.value, abs=1e-3)
    (folder / "b.logits").write_bytes((folder / "b.logits").read_bytes()[:-20_000])
    with pytest.raises(ToolError, match="log-probabilities are damaged"):
        tools.kl_divergence(toolchain, request, cwd=folder, threads=threads)


@pytest.mark.tools
def test_real_imatrix_and_text_too_short_for_it(folder: Path, toolchain: Toolchain) -> None:
    window = Window(n_ctx=64, n_chunks=3)
    request = TextRequest(model="m.gguf", text="t.txt", window=window, output="imatrix.gguf")
    done = tools.imatrix(toolchain, request, cwd=folder, threads=2)
    # four layers of seven tensors; the tied output.weight is left out
    assert (done.n_entries, done.n_chunks) == (28, 3)
    (folder / "short.txt").write_text("Too short.\n", encoding="utf-8")
    with pytest.raises(ToolError, match="too short: at least 128 tokens"):
        tools.imatrix(toolchain, replace(request, text="short.txt"), cwd=folder, threads=2)


@pytest.mark.tools
def test_real_task_scores_need_every_item(folder: Path, toolchain: Toolchain) -> None:
    item = "A cook stands in a kitchen. He\n2\nsings.\nflies to the moon.\ncuts an onion.\nis a stone.\n"
    (folder / "hellaswag.txt").write_text(item * 4, encoding="utf-8")
    pair = ",The cup fell because _ was slippery.,the table,the cup,2\n"
    # llama-perplexity drops the last newline of a file, and then a last line without one
    (folder / "winogrande.csv").write_text("".join(f"{i}{pair}" for i in range(100)) + "\n", encoding="utf-8")
    for kind, items, n_items in (("hellaswag", "hellaswag.txt", 4), ("winogrande", "winogrande.csv", 100)):
        request = TaskRequest(kind=kind, model="m.gguf", items=items, n_items=n_items, n_ctx=256)
        done = tools.task(toolchain, request, cwd=folder, threads=2)
        assert len(done.outcomes.right) == n_items
        assert done.outcomes.score.value in (0, 1)  # the same item again and again
        more = TaskRequest(kind=kind, model="m.gguf", items=items, n_items=n_items + 5, n_ctx=256)
        # the tool may have lost its last lines, and then it is the count or the score that is missing
        with pytest.raises(TranscriptError, match=rf"of {n_items + 5} items|no {kind} score"):
            tools.task(toolchain, more, cwd=folder, threads=2)
