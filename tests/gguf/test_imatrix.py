"""What is no importance matrix is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from lwq.errors import FileError
from lwq.gguf.imatrix import read_imatrix
from tests.tiny_models import write_tiny_llama


@pytest.mark.parametrize("content", [b"", b"\x01\x00\x00\x00legacy", b"GGUF"])
def test_what_is_no_imatrix_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "imatrix.dat"
    path.write_bytes(content)
    with pytest.raises(FileError):
        read_imatrix(path)


def test_model_is_no_imatrix(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no importance matrix"):
        read_imatrix(write_tiny_llama(tmp_path / "m.gguf"))
