"""What commands share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lwq.cli.job import in_folder
from lwq.errors import FileError
from lwq.llama.toolchain import home


def test_in_another_folder_the_cache_stays_where_it_was_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LWQ_HOME", "cache")
    with in_folder(tmp_path / "there"):
        assert Path.cwd() == tmp_path / "there"
        assert home() == tmp_path / "cache"
    assert Path.cwd() == tmp_path


def test_a_folder_that_is_gone_is_one_clear_error(tmp_path: Path) -> None:
    before = os.getcwd()
    with pytest.raises(FileError, match="gone: cannot go to the working directory"), in_folder(tmp_path / "gone"):
        pytest.fail("went there")
    assert os.getcwd() == before
