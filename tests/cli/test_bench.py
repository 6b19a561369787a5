"""`lwq bench` compares files with the first, and tells what it cannot measure before anything runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lwq.metrics.speeds import ratio
from tests.cli.test_main import lwq
from tests.tiny_models import write_tiny_llama


@pytest.fixture
def folder(tmp_path: Path, tools_home: Path) -> Path:
    write_tiny_llama(tmp_path / "a.gguf")
    write_tiny_llama(tmp_path / "b.gguf", n_layer=8)
    return tmp_path


@pytest.mark.tools
def test_command_compares_with_the_first_file(folder: Path) -> None:
    asked = ("bench", "a.gguf", "b.gguf", "--tests", "pp32,tg8", "--repetitions", "3")
    said = lwq(*asked, cwd=folder)
    assert said.code == 0, said.err
    lines = said.out.splitlines()
    assert lines[1].split()[:6] == ["model", "size", "params", "backend", "threads", "test"]
    assert "of a.gguf" in lines[1]
    assert [line.split()[0] for line in lines[2:6]] == ["a.gguf", "a.gguf", "b.gguf", "b.gguf"]
    again = lwq(*asked, "--json", cwd=folder)
    assert "--again measures anew" in again.err
    assert "✓" not in again.err
    values = json.loads(again.out)
    a, b = values["models"]
    assert [t["ratio"] for t in a["tests"]] == [None, None]
    for first, second in zip(a["tests"], b["tests"], strict=True):
        expected = ratio(second["samples"], first["samples"])
        assert second["ratio"]["value"] == pytest.approx(expected.value)
        assert second["ratio"]["tied"] == expected.is_tied
        assert f"{expected.value:.3f}" in said.out
    assert ("warning: the machine was busy" in said.err) == (values["busy"] > 0.1)
    anew = json.loads(lwq(*asked, "--json", "--again", cwd=folder).out)
    assert anew["models"][0]["tests"][0]["samples"] != a["tests"][0]["samples"]


@pytest.mark.tools
def test_one_file_twice_is_two_rows(folder: Path) -> None:
    said = lwq("bench", "a.gguf", "./a.gguf", "--tests", "tg2", "--repetitions", "2", "--json", cwd=folder)
    assert [m["name"] for m in json.loads(said.out)["models"]] == ["a.gguf", "a.gguf #2"]


@pytest.mark.tools
@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["c.gguf"], 1, "c.gguf: no such file"),
        (["text.gguf"], 1, "text.gguf"),
        (["a.gguf", "--tests", "pp32,gg4"], 2, "'gg4' is not like pp512, tg128 or pp1024+tg1024"),
        (["a.gguf", "--tests", ""], 2, "'' is not like"),
        (["a.gguf", "--repetitions", "1"], 2, "'--repetitions': 1 is not in the range"),
        ([], 2, "Missing argument"),
    ],
)
def test_what_cannot_be_measured_is_told_before_anything_runs(
    folder: Path, tools_home: Path, arguments: list[str], code: int, told: str
) -> None:
    (folder / "text.gguf").write_text("no model\n" * 50)
    said = lwq("bench", *arguments, cwd=folder)
    assert said.code == code
    assert told in said.err
    assert not list(tools_home.glob("steps/*"))


def test_files_of_one_name_are_called_by_their_paths(tmp_path: Path) -> None:
    from lwq.cli.bench import _named

    paths = [tmp_path / name / "m.gguf" for name in ("one", "two")]
    for path in paths:
        path.parent.mkdir()
        write_tiny_llama(path, n_layer=1)
    assert [f.name for f in _named(tuple(paths))] == [str(path) for path in paths]
    assert _named((paths[0],))[0].name == "m.gguf"
