"""A Hugging Face folder is read before anything runs, and each thing that is wrong with one is named."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from lwq.errors import ModelError
from lwq.gguf.hf_folder import check_known, read_folder
from lwq.gguf.safetensors import read_safetensors
from lwq.gguf.usable import check_class
from lwq.llama.converter import script

CONFIG: dict[str, Any] = {"architectures": ["LlamaForCausalLM"], "num_hidden_layers": 2}
LISTED = """TEXT_MODEL_MAP: dict[str, str] = {
    "LlamaForCausalLM": "llama",
    "LlavaForConditionalGeneration": "llama",
}


MMPROJ_MODEL_MAP: dict[str, str] = {
    "LlavaForConditionalGeneration": "llava",
}
"""


def stored(shapes: dict[str, tuple[str, tuple[int, ...]]], cut: int = 0) -> bytes:
    sizes = {"F32": 4, "BF16": 2, "F16": 2, "F8_E4M3": 1}
    at, header = 0, {}
    for name, (dtype, shape) in shapes.items():
        n = sizes[dtype]
        for side in shape:
            n *= side
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + n]}
        at += n
    raw = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    return len(raw).to_bytes(8, "little") + raw + bytes(at - cut)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    path.mkdir()
    (path / "config.json").write_text(json.dumps(CONFIG))
    (path / "tokenizer.json").write_text("{}")
    weights = {"model.embed_tokens.weight": ("BF16", (8, 4)), "model.norm.weight": ("F32", (4,))}
    (path / "model.safetensors").write_bytes(stored(weights))
    return path


def told(folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        read_folder(folder)
    assert caught.value.hint
    return f"{caught.value.message} / {caught.value.hint}"


def test_a_whole_folder_is_read(folder: Path) -> None:
    read = read_folder(folder)
    assert (read.architecture, read.n_layer, read.outtype, read.quantized_as) == ("LlamaForCausalLM", 2, "auto", "")
    assert read.stored == {"BF16": 64, "F32": 16}
    assert [(t.name, t.n_elements) for t in read.tensors] == [
        ("model.embed_tokens.weight", 32),
        ("model.norm.weight", 4),
    ]


def test_matrices_of_f32_stay_f32(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(stored({"a.weight": ("F32", (4, 4))}))
    assert read_folder(folder).outtype == "f32"


def test_layers_of_the_language_model_are_counted_where_there_is_a_tower(folder: Path) -> None:
    config = {
        "architectures": ["X"],
        "text_config": {"num_hidden_layers": 7},
        "vision_config": {"num_hidden_layers": 3},
    }
    (folder / "config.json").write_text(json.dumps(config))
    read = read_folder(folder)
    assert (read.n_layer, read.has_tower) == (7, True)


def test_what_is_missing_is_named(folder: Path) -> None:
    (folder / "tokenizer.json").rename(folder / "other.json")
    assert "has no tokenizer" in told(folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "has no *.safetensors / its weights are PyTorch pickles" in told(folder)
    (folder / "config.json").write_text("{")
    assert "config.json: is not JSON" in told(folder)
    (folder / "config.json").unlink()
    assert "has no config.json" in told(folder)


def test_an_adapter_is_no_model(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")
    assert "a LoRA adapter (adapter_config.json)" in told(folder)


@pytest.mark.parametrize(
    ("method", "is_taken"), [("fp8", True), ("gptq", True), ("awq", False), ("bitsandbytes", False)]
)
def test_a_quantized_original_is_told_or_refused(folder: Path, method: str, is_taken: bool) -> None:
    (folder / "config.json").write_text(json.dumps({**CONFIG, "quantization_config": {"quant_method": method}}))
    if is_taken:
        assert read_folder(folder).quantized_as == method
    else:
        assert f"quantized by {method}, which the converter does not turn back" in told(folder)


def test_an_index_is_held_against_its_shards(folder: Path) -> None:
    weight_map = {
        "model.norm.weight": "model.safetensors",
        "model.embed_tokens.weight": "model-00002-of-00002.safetensors",
    }
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    assert "lacks model-00002-of-00002.safetensors, which model.safetensors.index.json names" in told(folder)
    index.write_text(json.dumps({"weight_map": {"model.lost.weight": "model.safetensors"}}))
    assert "model.lost.weight of model.safetensors.index.json are in no shard" in told(folder)
    index.write_text("[]")
    assert "cannot be read as an index" in told(folder)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n", "a Git LFS pointer.*git lfs pull"),
        (stored({"a.weight": ("F16", (4, 4))}, cut=5), "cut short: its tensors need 32 bytes, 27 are there"),
        (stored({"a.weight": ("F16", (4, 4))})[:40], "no safetensors file, or cut short"),
        (b"", "no safetensors file"),
        (b"\x10\0\0\0\0\0\0\0" + b"x" * 40, "not of the safetensors format"),
        (b"\x02\0\0\0\0\0\0\0[]", "not of the safetensors format"),
    ],
)
def test_damaged_shards_are_told(folder: Path, raw: bytes, said: str) -> None:
    (folder / "model.safetensors").write_bytes(raw)
    assert re.search(said, told(folder))
    with pytest.raises(ModelError):
        read_safetensors(folder / "model.safetensors")


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "sub/model.safetensors", "..", ""])
def test_a_shard_outside_of_the_folder_is_refused(folder: Path, name: str) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    assert "which is no file of this folder" in told(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json"])
@pytest.mark.parametrize("content", ["[" * 200_000, "5", "[]", '{"weight_map": 5}', '{"weight_map": {"a": 5}}', "\x00"])
def test_json_that_nobody_writes_is_refused(folder: Path, name: str, content: str) -> None:
    (folder / name).write_text(content)
    if name == "config.json" and content.startswith("{"):
        assert read_folder(folder).architecture == ""
    else:
        assert name in told(folder)


@pytest.mark.parametrize("value", [5, 1.5, True, "LlamaForCausalLM", {"a": 1}, [5], None])
def test_an_architecture_that_is_no_name_is_none(folder: Path, value: object) -> None:
    (folder / "config.json").write_text(json.dumps({**CONFIG, "architectures": value, "num_hidden_layers": -1}))
    assert (read_folder(folder).architecture, read_folder(folder).n_layer) == ("", 0)


def test_an_architecture_that_the_converter_does_not_list_is_refused(folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "llama.cpp"
    check_known(read_folder(folder), source)  # its sources are not here yet: the converter itself will tell
    (source / "conversion").mkdir(parents=True)
    (source / "conversion" / "__init__.py").write_text(LISTED)
    check_known(read_folder(folder), source)
    (folder / "config.json").write_text(json.dumps({**CONFIG, "architectures": ["LlamaNextForCausalLM"]}))
    with pytest.raises(ModelError, match="converts no LlamaNextForCausalLM .2 architectures are known.") as caught:
        check_known(read_folder(folder), source)
    assert "near: LlamaForCausalLM" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("BertModel", "'BertModel' is an encoder, which makes embeddings and predicts no text"),
        ("BertForMaskedLM", "is an encoder"),
        ("XLMRobertaModel", "is an encoder"),
        ("NomicBertModel", "is an encoder"),
        ("JinaBertForMaskedLM", "is an encoder"),
        ("ModernBertModel", "is an encoder"),
        ("NeoBERT", "is an encoder"),
        ("Gemma3TextModel", "is an encoder"),
        ("LlamaBidirectionalModel", "is an encoder"),
        ("T5EncoderModel", "is an encoder, which"),
        ("T5ForConditionalGeneration", "is an encoder with a decoder"),
        ("UMT5Model", "is an encoder with a decoder"),
        ("XLMRobertaForSequenceClassification", "is a classifier"),
        ("LLaDAModelLM", "is a diffusion model"),
        ("LlamaForCausalLMEagle3", "is a draft model"),
        ("WavTokenizerDec", "is a model of sound"),
    ],
)
def test_what_predicts_no_next_token_is_named_before_it_is_converted(folder: Path, name: str, said: str) -> None:
    (folder / "config.json").write_text(json.dumps({**CONFIG, "architectures": [name]}))
    assert said in told(folder)


@pytest.mark.tools
def test_no_class_of_a_language_model_is_taken_for_another() -> None:
    """Every class that the pinned converter lists, and that ends like one that predicts text."""
    listed = (script().parent / "conversion" / "__init__.py").read_text(encoding="utf-8")
    names = re.findall(r'^    "(\w+(?:ForCausalLM|LMHeadModel|ForConditionalGeneration))"', listed, re.MULTILINE)
    assert len(names) > 100
    others = [name for name in names if not re.search("T5|TTS|Assistant|DSpark|Eagle3", name)]
    for name in others:
        check_class(Path("folder"), name)
