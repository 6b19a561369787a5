"""Models and texts are found, fetched and explained: the real client of the Hub, a Hub of our own on 127.0.0.1."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from lwq.errors import FileError, ModelError
from lwq.llama.process import run_tool
from lwq.plan.hub import Source, fetch_model, fetch_text
from tests.gguf.test_hf_folder import stored
from tests.tiny_models import write_split_llama, write_tiny_llama

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CARD = "---\nlanguage: en\nlicense: apache-2.0\n---\n# A model\nlicense: not-this\n"
ASK = """
import json, sys
from pathlib import Path
from lwq.errors import LwqError
from lwq.plan.hub import fetch_model, fetch_text
reference, folder, notes = sys.argv[1], Path(sys.argv[2]), []
try:
    if reference.startswith("hf://datasets/"):
        path, label = fetch_text(reference, recipe_dir=folder, home=folder)
        print(json.dumps({"text": path.read_text(encoding="utf-8"), "label": label}))
    else:
        found = fetch_model(reference, recipe_dir=folder, home=folder, on_progress=notes.append)
        files = [p.name for p in found.files]
        print(json.dumps({"kind": found.kind, "files": files, "label": found.label, "name": found.name,
                          "licence": found.licence, "notes": notes}))
except LwqError as error:
    print(json.dumps({"error": type(error).__name__, "message": error.message, "hint": error.hint}))
"""
CONFIG = b'{"architectures": ["LlamaForCausalLM"], "num_hidden_layers": 1}'


@dataclass
class Hub:
    """A Hub with three repositories: what it was asked, and by whom."""

    address: str = ""
    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    tokens: dict[str, str | None] = field(default_factory=dict)


def _answer(hub: Hub, path: str, token: str | None) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body, as huggingface.co gives them."""
    hub.asked.append(path)
    hub.tokens[path] = token
    is_api = path.startswith("/api/")
    parts = path.split("?")[0].removeprefix("/api").removeprefix("/models").strip("/").split("/")
    at = 3 if parts[0] == "datasets" else 2
    repo, rest = "/".join(parts[:at]), parts[at:]
    if "gated" in repo and token != "Bearer hf_good":
        return 403, {"X-Error-Code": "GatedRepo"}, b"{}"
    if repo not in hub.repos:
        return 401, {"X-Error-Code": "RepoNotFound"}, b"{}"
    if len(rest) > 1 and rest[1] not in ("main", COMMIT):
        return 404, {"X-Error-Code": "RevisionNotFound"}, b"{}"
    files = hub.repos[repo]
    if is_api and rest[:1] == ["tree"]:
        tree = [{"type": "file", "path": name, "size": len(data), "oid": "0" * 40} for name, data in files.items()]
        return 200, {"Content-Type": "application/json"}, json.dumps(tree).encode()
    if is_api:
        info = {"id": repo, "sha": COMMIT, "siblings": [{"rfilename": name} for name in files], "tags": []}
        return 200, {"Content-Type": "application/json"}, json.dumps(info).encode()
    name = "/".join(rest[2:])
    if name not in files:
        return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}, b""
    etag = hashlib.sha256(files[name]).hexdigest()
    return 200, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}, files[name]


def _serve(answer: Callable[[str, str | None], tuple[int, dict[str, str], bytes]]) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def _reply(self, *, with_body: bool) -> None:
            status, headers, body = answer(self.path, self.headers.get("Authorization"))
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            if with_body:
                self.wfile.write(body)

        def do_HEAD(self) -> None:
            self._reply(with_body=False)

        def do_GET(self) -> None:
            self._reply(with_body=True)

        def log_message(self, format: str, *arguments: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture
def hub() -> Iterator[Hub]:
    hub = Hub()
    whole = {"config.json": CONFIG, "README.md": CARD.encode(), "tokenizer.json": b"{}"}
    shards = {
        "model-00001-of-00002.safetensors": stored({"one": ("F16", (2, 2))}),
        "model-00002-of-00002.safetensors": stored({"two": ("F16", (2,))}),
    }
    hub.repos = {
        "someone/whole": {**whole, **shards, "consolidated.safetensors": b"all again", "picture.png": b"x"},
        "someone/gated": {**whole, **shards},
        "someone/ggufs": {
            "README.md": CARD.encode(),
            "m-Q8_0.gguf": b"q8",
            "m-F16-00001-of-00002.gguf": b"first",
            "m-F16-00002-of-00002.gguf": b"second",
        },
        "datasets/someone/texts": {"raw/test.txt": "Grüße\n".encode()},
    }
    server = _serve(lambda path, token: _answer(hub, path, token))
    hub.address = f"http://127.0.0.1:{server.server_port}"
    yield hub
    server.shutdown()
    server.server_close()


def ask(hub: Hub, folder: Path, reference: str, **extra: str) -> dict[str, Any]:
    """What a process of its own gets: the client reads its settings once, when it is imported."""
    env = {"HF_ENDPOINT": hub.address, "HF_HOME": str(folder / "hf"), "NO_PROXY": "127.0.0.1", **extra}
    python_path = os.pathsep.join(p for p in sys.path if p)
    argv = (sys.executable, "-c", ASK, reference, str(folder))
    done = run_tool(argv, cwd=folder, env={"PYTHONPATH": python_path, **env})
    assert not done.stderr, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_a_repository_becomes_a_folder_of_what_the_converter_needs(hub: Hub, tmp_path: Path) -> None:
    found = ask(hub, tmp_path, "hf://someone/whole")
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    assert found["kind"] == "hf-folder"
    assert found["files"] == ["README.md", "config.json", *shards, "tokenizer.json"]
    assert (found["label"], found["name"], found["licence"]) == (f"hf://someone/whole@{COMMIT}", "whole", "apache-2.0")
    assert found["notes"] == ["fetching hf://someone/whole"]


def test_what_was_fetched_is_found_offline(hub: Hub, tmp_path: Path) -> None:
    first = ask(hub, tmp_path, "hf://someone/whole")
    n_asked = len(hub.asked)
    assert ask(hub, tmp_path, "hf://someone/whole", HF_HUB_OFFLINE="1") == first
    assert len(hub.asked) == n_asked


def test_a_revision_is_asked_for_and_kept_in_the_label(hub: Hub, tmp_path: Path) -> None:
    reference = f"hf://someone/ggufs/m-Q8_0.gguf@{COMMIT}"
    found = ask(hub, tmp_path, reference)
    assert (found["kind"], found["files"], found["label"]) == ("gguf", ["m-Q8_0.gguf"], reference)
    assert {path for path in hub.asked if "/resolve/" in path} == {f"/someone/ggufs/resolve/{COMMIT}/m-Q8_0.gguf"}


def test_all_shards_of_a_split_gguf_are_fetched(hub: Hub, tmp_path: Path) -> None:
    found = ask(hub, tmp_path, "hf://someone/ggufs/m-F16-00001-of-00002.gguf")
    assert found["files"] == ["m-F16-00001-of-00002.gguf", "m-F16-00002-of-00002.gguf"]


def test_a_repository_of_ggufs_lists_them(hub: Hub, tmp_path: Path) -> None:
    said = ask(hub, tmp_path, "hf://someone/ggufs")
    assert said["error"] == "ModelError"
    assert "m-Q8_0.gguf" in said["hint"]
    assert not [path for path in hub.asked if path.endswith(".gguf")]


def test_a_text_of_a_data_set_is_fetched(hub: Hub, tmp_path: Path) -> None:
    reference = "hf://datasets/someone/texts/raw/test.txt"
    found = ask(hub, tmp_path, reference)
    assert found == {"text": "Grüße\n", "label": f"{reference}@{COMMIT}"}  # the revision that was fetched


@pytest.mark.parametrize(
    ("reference", "extra", "message", "hint"),
    [
        ("hf://someone/nothing", {}, "no such repository", "HF_TOKEN"),
        ("hf://someone/whole@v9", {}, "no such revision", "spelling"),
        ("hf://someone/ggufs/other.gguf", {}, "no such file", "spelling"),
        ("hf://someone/gated", {}, "gated", "accept its terms"),
        ("hf://datasets/someone/texts/none.txt", {}, "no such file", "spelling"),
        ("hf://someone/whole", {"HF_HUB_OFFLINE": "1"}, "not in the Hub's cache", "HF_HUB_OFFLINE"),
        ("hf://someone/whole", {"HF_ENDPOINT": "http://127.0.0.1:9"}, "not in the Hub's cache", "network"),
    ],
)
def test_each_way_of_failing_has_its_way_out(
    hub: Hub, tmp_path: Path, reference: str, extra: dict[str, str], message: str, hint: str
) -> None:
    said = ask(hub, tmp_path, reference, **extra)
    assert said["error"] == "DownloadError"
    assert reference in said["message"]
    assert message in said["message"]
    assert hint in said["hint"]


def test_the_token_opens_a_gated_repository(hub: Hub, tmp_path: Path) -> None:
    assert ask(hub, tmp_path, "hf://someone/gated", HF_TOKEN="hf_good")["kind"] == "hf-folder"
    assert {token for path, token in hub.tokens.items() if "gated" in path} == {"Bearer hf_good"}


def _fetch(reference: str, folder: Path) -> Source:
    return fetch_model(reference, recipe_dir=folder, home=folder / "home", on_progress=lambda note: None)


def test_a_path_starts_at_the_recipe_and_its_label_tells_no_folder(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    write_tiny_llama(tmp_path / "models" / "tiny.gguf", n_layer=1)
    found = _fetch("models/tiny.gguf", tmp_path)
    assert found.files == (tmp_path / "models" / "tiny.gguf",)
    assert (found.kind, found.label, found.name) == ("gguf", "tiny.gguf", "tiny.gguf")


def test_a_first_shard_stands_for_all(tmp_path: Path) -> None:
    first = write_split_llama(tmp_path)
    assert [p.name for p in _fetch(first.name, tmp_path).files] == [
        "tiny-00001-of-00002.gguf",
        "tiny-00002-of-00002.gguf",
    ]


def test_a_folder_of_safetensors_is_a_model(tmp_path: Path) -> None:
    folder = tmp_path / "Some-Model"
    folder.mkdir()
    for name, raw in (("model.safetensors", stored({"one": ("F16", (2,))})), ("config.json", CONFIG)):
        (folder / name).write_bytes(raw)
    (folder / "tokenizer.json").write_bytes(b"{}")
    (folder / "README.md").write_text(CARD, encoding="utf-8")
    found = _fetch("Some-Model", tmp_path)
    assert [p.name for p in found.files] == ["README.md", "config.json", "model.safetensors", "tokenizer.json"]
    assert (found.kind, found.label, found.name, found.licence) == (
        "hf-folder", "Some-Model", "Some-Model", "apache-2.0",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("reference", "message", "hint"),
    [
        ("tinny.gguf", "perhaps 'tiny.gguf'", "recipe's folder"),
        ("no/such/tiny.gguf", "nor a folder", "recipe's folder"),
        ("folder", "a folder of GGUFs", "inside.gguf"),
        ("ftp://somewhere/tiny.gguf", "unknown kind", "hf://OWNER/NAME"),
        ("hf://only-a-name", "is not hf://OWNER/NAME", "recipe"),
        ("hf://datasets/someone/texts", "is not hf://OWNER/NAME", "recipe"),
        ("pypi://what is this", "is not pypi://", "recipe"),
    ],
)
def test_what_is_no_model_is_said(tmp_path: Path, reference: str, message: str, hint: str) -> None:
    write_tiny_llama(tmp_path / "tiny.gguf", n_layer=1)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inside.gguf").touch()
    with pytest.raises(ModelError) as caught:
        _fetch(reference, tmp_path)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_texts_come_from_paths_and_from_the_package(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("words", encoding="utf-8")
    assert fetch_text("mine.txt", recipe_dir=tmp_path, home=tmp_path) == (tmp_path / "mine.txt", "mine.txt")
    labels = ["packaged:calibration", "packaged:selection", "packaged:evaluation"]
    texts = [fetch_text(label, recipe_dir=tmp_path, home=tmp_path) for label in labels]
    assert [label for _, label in texts] == labels
    assert len({path.read_bytes() for path, _ in texts}) == 3


@pytest.mark.parametrize(
    ("reference", "where", "said"),
    [
        ("packaged:calibrasion", "hint", "calibration, code, dialogue, evaluation, languages, prose, selection"),
        ("mime.txt", "message", "perhaps 'mine.txt'"),
        ("https://somewhere/a.txt", "hint", "hf://datasets/OWNER/NAME/FILE"),
    ],
)
def test_what_is_no_text_is_said(tmp_path: Path, reference: str, where: str, said: str) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(FileError) as caught:
        fetch_text(reference, recipe_dir=tmp_path, home=tmp_path)
    assert said in getattr(caught.value, where)
