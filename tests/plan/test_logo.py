"""A logo is a picture that a page can show, or is refused before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from lwq.errors import FileError
from lwq.plan.logo import check_logo, public_name

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)


@pytest.mark.parametrize(
    ("data", "name"),
    [(PNG, "logo.png"), (b"\xff\xd8\xff\xe0" + bytes(9), "logo.jpg"), (b"GIF89a" + bytes(9), "logo.gif"),
     (b"RIFF1234WEBPVP8 ", "logo.webp"), (b"RIFF1234WAVE", ""), (b"<svg onload=alert(1)>", ""), (b"", "")],
)  # fmt: skip
def test_pictures_are_told_by_their_first_bytes(data: bytes, name: str, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(data)
    assert public_name(tmp_path / "x.png") == name


def test_what_is_no_picture_is_refused_with_a_way_out(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    with pytest.raises(FileError, match="cannot read the logo"):
        check_logo(path)
    path.write_bytes(b"<svg>")
    with pytest.raises(FileError, match="no PNG, JPEG, GIF or WebP"):
        check_logo(path)
    path.write_bytes(PNG + bytes(1 << 20))
    with pytest.raises(FileError, match=r"has 1,048,604 bytes, more than 1,048,576"):
        check_logo(path)
    path.write_bytes(PNG)
    check_logo(path)
