"""A safetensors header is taken only where its tensors have one place each, and say how large they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lwq.errors import ModelError
from lwq.gguf.safetensors import parse_header, read_safetensors

ONE = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
TWO = {"dtype": "BF16", "shape": [4], "data_offsets": [24, 32]}


def header(**changed: Any) -> bytes:
    """Of one tensor, with some of it changed."""
    return json.dumps({"a": {**ONE, **changed}}).encode()


def test_tensors_are_read_in_any_order_beside_metadata(tmp_path: Path) -> None:
    raw = json.dumps({"b": TWO, "__metadata__": {"format": "pt"}, "a": ONE}).encode()
    (tmp_path / "m.safetensors").write_bytes(len(raw).to_bytes(8, "little") + raw + bytes(32))
    found = read_safetensors(tmp_path / "m.safetensors")
    assert [(t.name, t.dtype, t.shape, t.n_bytes) for t in found] == [("b", "BF16", (4,), 8), ("a", "F32", (2, 3), 24)]


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"[]", "not of the safetensors format"),
        (b"5", "not of the safetensors format"),
        (b"{", "not of the safetensors format"),
        (b"\xff\xfe\xff", "not of the safetensors format"),
        (b'{"a":' * 100_000, "not of the safetensors format"),
        (b'{"a": ' + json.dumps(ONE).encode() + b', "a": ' + json.dumps(ONE).encode() + b"}", "'a' appears twice"),
        (json.dumps({"a": 5}).encode(), "not of the safetensors format"),
        (json.dumps({"": ONE}).encode(), "no name of a tensor"),
        (b'{"\\ud800": ' + json.dumps(ONE).encode() + b"}", "no name of a tensor"),
        (json.dumps({"a\n": ONE}).encode(), "no name of a tensor"),
        (header(dtype=["F32"]), "no name of a tensor and its dtype"),
        (header(shape=[-2, -3]), "no tensor has"),
        (header(shape=[2.0, 3]), "no tensor has"),
        (header(shape=[True, 6]), "no tensor has"),
        (header(shape=[1 << 63, 1]), "no tensor has"),
        (header(shape="23"), "no tensor has"),
        (header(shape=[1e400]), "no tensor has"),
        (header(data_offsets=[-24, 0]), "no tensor has"),
        (header(data_offsets=[24, 0]), "has -24 bytes"),
        (header(data_offsets=[0, 1 << 64]), "no tensor has"),
        (header(data_offsets=[0]), "not of the safetensors format"),
        (header(shape=[2, 4]), "24 bytes for"),
        (header(data_offsets=[8, 32]), "'a' begins at byte 8 of the data, not at 0"),
        (json.dumps({"a": ONE, "b": ONE}).encode(), "'b' begins at byte 0 of the data, not at 24"),
        (json.dumps({"a": ONE, "b": {**TWO, "data_offsets": [25, 33]}}).encode(), "begins at byte 25"),
        (header(shape=[2, 300], data_offsets=[0, 2400]), "cut short: its tensors need 2,400 bytes, 32 are there"),
    ],
)
def test_what_no_writer_of_the_format_writes_is_refused(raw: bytes, said: str) -> None:
    with pytest.raises(ModelError, match=said) as caught:
        parse_header(raw, 32, "m.safetensors")
    assert caught.value.message.startswith("m.safetensors: ")
    assert caught.value.hint
    assert len(caught.value.message) < 400
