"""Local paths and access tokens are found in every kind of file that is published; what only looks like them is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from lwq.errors import FileError
from lwq.plan.leaks import check_leaks
from lwq.plan.outgoing import publish_set
from tests.report_folder import write_gguf, write_report_folder

TOKEN = "hf_abcdefghijklmnopqrstuvwxyz0123456789"


@pytest.mark.parametrize(
    "text",
    [
        "model = '/home/me/model.gguf'",
        "see file:///home/me/notes",
        '"source": "/Users/anna/models/x"',
        r"C:\Users\anna\x.gguf",
        r'"file": "C:\\Users\\anna\\x.gguf"',
        "in /root/models",
        "(/home/me)",
    ],
)
def test_a_local_path_is_refused_with_its_place(tmp_path: Path, text: str) -> None:
    (tmp_path / "README.md").write_text(f"first\n{text}\n", encoding="utf-8")
    with pytest.raises(FileError) as caught:
        check_leaks([tmp_path / "README.md"], tmp_path, None)
    assert "README.md: line 2: a local path" in caught.value.message
    assert "recipe" in caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "https://example.org/home/me",
        "hf://owner/name",
        "docs/home/index.md",
        "the /home folder",
        "a/root/b and ~/x",
        "hf_hub_download(repo)",
        "iVBORw0KGgoAAAANSUhEUgAA/home+x",
        "sk-learn and AKIA",
    ],
)
def test_what_only_looks_like_one_passes(tmp_path: Path, text: str) -> None:
    (tmp_path / "README.md").write_text(text, encoding="utf-8")
    check_leaks([tmp_path / "README.md"], tmp_path, TOKEN)


def test_the_folders_of_this_user_are_found_wherever_they_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LWQ_HOME", "/big/disk/cache")
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path, Path("/big/disk/cache/x")):
        (tmp_path / "a.txt").write_text(f"in {path}, there", encoding="utf-8")
        with pytest.raises(FileError, match="a local path"):
            check_leaks([tmp_path / "a.txt"], tmp_path, None)
    (tmp_path / "a.txt").write_text(f"in {tmp_path}-other", encoding="utf-8")
    check_leaks([tmp_path / "a.txt"], tmp_path, None)


@pytest.mark.parametrize(
    ("text", "token"),
    [
        (TOKEN, None),
        ("my-own-secret", "my-own-secret"),
        ("ghp_" + "a1B2" * 9, None),
        ("-----BEGIN OPENSSH PRIVATE KEY-----", None),
        ("AKIA" + "ABCD1234" * 2, None),
    ],
)
def test_a_token_is_refused_and_not_shown(tmp_path: Path, text: str, token: str | None) -> None:
    (tmp_path / "a.json").write_text(f'{{"at": "/home/me", "x": "{text}"}}', encoding="utf-8")
    with pytest.raises(FileError) as caught:
        check_leaks([tmp_path / "a.json"], tmp_path, token)
    assert "line 1: an access token" in caught.value.message
    if token or text.startswith("hf_"):
        assert text not in caught.value.message


def test_metadata_of_a_gguf_and_words_in_pictures_are_read(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf", {"general.source": f"{tmp_path}/x", "general.description": f"by {TOKEN}"})
    (tmp_path / "p.png").write_bytes(b"\x89PNG\xff" + f"Software {tmp_path}/figure".encode())
    with pytest.raises(FileError) as caught:
        check_leaks([tmp_path / "m.gguf", tmp_path / "p.png"], tmp_path, None)
    places = [line.split(": a")[0].strip() for line in caught.value.message.splitlines()[1:]]
    assert places == ["m.gguf: general.source", "m.gguf: general.description", "p.png: line 1"]
    assert TOKEN not in caught.value.message


def test_a_report_folder_as_it_is_leaks_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "sample"
    record = write_report_folder(folder, figures=True)
    files = publish_set(record, folder)
    assert len(files) > 15
    check_leaks([folder / file.path for file in files], folder, TOKEN)


def test_many_places_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("/home/me\n" * 30, encoding="utf-8")
    with pytest.raises(FileError) as caught:
        check_leaks([tmp_path / "a.txt"], tmp_path, None)
    assert caught.value.message.endswith("and 10 more")
