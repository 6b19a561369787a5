"""A Hugging Face folder is read before anything runs, and each thing that is wrong with one is named."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from lwq.errors import ModelError
from lwq.gguf.hf_folder import ModelFolder, check_known, read_folder
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


def stating(folder: Path, **more: Any) -> ModelFolder:
    (folder / "config.json").write_text(json.dumps({**CONFIG, **more}))
    return read_folder(folder)


def test_layers_are_counted_by_the_first_key_that_holds_a_number_of_them(folder: Path) -> None:
    for key in ("num_hidden_layers", "n_layer", "n_layers", "num_layers"):
        assert stating(folder, **{"num_hidden_layers": None, key: 7}).n_layer == 7
    assert stating(folder, num_hidden_layers=True, n_layer="7", n_layers=-1, num_layers=0).n_layer == 0
    assert stating(folder, n_layer=9).n_layer == 2
    for part in ("text_config", "llm_config"):
        assert stating(folder, **{part: {"n_layer": 5}}).n_layer == 5
    assert stating(folder, text_config={"n_layer": 5}, llm_config={"n_layer": 6}).n_layer == 5
    assert stating(folder, text_config="x").n_layer == 2


@pytest.mark.parametrize("key", ["vision_config", "audio_config", "vision_tower"])
def test_a_tower_has_a_part_of_the_configuration(folder: Path, key: str) -> None:
    assert stating(folder, **{key: {}}).has_tower
    assert not stating(folder, **{key: "name"}).has_tower
    assert not stating(folder).has_tower


def test_the_method_of_quantization_stands_in_the_configuration_or_in_that_of_the_text(folder: Path) -> None:
    assert stating(folder, quantization_config={"quant_method": "fp8"}).quantized_as == "fp8"
    assert stating(folder, text_config={"quantization_config": {"quant_method": "mxfp4"}}).quantized_as == "mxfp4"
    assert stating(folder, quantization_config="fp8").quantized_as == ""
    (folder / "config.json").write_text(json.dumps({**CONFIG, "quantization_config": {"bits": 4}}))
    assert "quantized by an unnamed method, which the converter does not turn back / take the original" in told(folder)
    (folder / "model.safetensors").write_bytes(stored({"a.weight": ("F32", (4, 4))}))
    assert stating(folder, quantization_config={"quant_method": "fp8"}).outtype == "auto"


def test_vectors_of_f32_do_not_make_a_model_of_f32(folder: Path) -> None:
    assert read_folder(folder).outtype == "auto"  # its norm is F32
    (folder / "more.safetensors").write_bytes(stored({"b.weight": ("F32", (4, 4))}))
    assert read_folder(folder).outtype == "f32"


def test_a_consolidated_copy_of_the_weights_is_not_read(folder: Path) -> None:
    before = read_folder(folder).tensors
    (folder / "consolidated.safetensors").write_bytes(b"whatever")
    assert read_folder(folder).tensors == before
    (folder / "a.safetensors").write_bytes(stored({"a.weight": ("F16", (4, 4))}))
    assert [t.name for t in read_folder(folder).tensors] == ["a.weight", *(t.name for t in before)]


@pytest.mark.parametrize(
    "name", ["tokenizer.json", "tokenizer.model", "tekken.json", "vocab.json", "vocab.txt", "spiece.model"]
)
def test_any_file_of_a_tokenizer_is_one(folder: Path, name: str) -> None:
    (folder / "tokenizer.json").rename(folder / name)
    assert read_folder(folder).architecture == "LlamaForCausalLM"


def test_a_folder_without_safetensors_is_told_what_it_has(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert "has no *.safetensors / fetch the model's files into it" in told(folder)
    for name in ("b.GGUF", "a.gguf"):
        (folder / name).write_bytes(b"")
    assert told(folder).endswith("has no *.safetensors / name one of its files: a.gguf, b.GGUF")
    (folder / "pytorch_model-00001-of-00002.bin").write_bytes(b"")
    assert "its weights are PyTorch pickles" in told(folder)


def test_a_configuration_that_was_not_fetched_is_told_as_such(folder: Path) -> None:
    config = folder / "config.json"
    config.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")
    assert told(folder).endswith("is it a Git LFS pointer? `git lfs pull`")
    config.write_text("{")
    assert told(folder).endswith("/ fetch it again")
    config.write_text("5")
    assert "config.json: is no object" in told(folder)
    with config.open("wb") as file:
        file.truncate((1 << 26) + 1)
    assert "config.json: is not JSON: it has more than 67,108,864 bytes" in told(folder)
    config.write_text("[" * 200_000)
    assert "it is nested too deep" in told(folder)


def test_what_an_index_names_and_no_shard_holds_is_told_with_how_much_more(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"

    def stated(weight_map: dict[str, str]) -> str:
        index.write_text(json.dumps({"weight_map": weight_map}))
        return told(folder).split(" / ")[0].removeprefix(f"{folder}: ")

    shards = {f"t{i}": f"model-{i}.safetensors" for i in range(4)}
    listed = "model-0.safetensors, model-1.safetensors, model-2.safetensors"
    assert stated(shards) == f"lacks {listed} and 1 more, which model.safetensors.index.json names"
    del shards["t3"]
    assert stated(shards) == f"lacks {listed}, which model.safetensors.index.json names"
    lost = dict.fromkeys(("b", "a", "c"), "model.safetensors")
    assert stated(lost) == "a and 2 more tensors of model.safetensors.index.json are in no shard"
    assert stated({"b": "model.safetensors"}) == "b of model.safetensors.index.json are in no shard"
    assert "which is no file of this folder" in stated({"b": "x" * 201})
    assert "lacks " in stated({"b": "x" * 200})
    index.write_text(json.dumps({"weight_map": {"model.norm.weight": "model.safetensors"}}))
    assert read_folder(folder).n_layer == 2  # a shard may hold more than the index names


def test_a_folder_of_mistral_gets_the_files_that_the_converter_wants_of_a_tower(folder: Path) -> None:
    assert read_folder(folder).beside_a_tower() == {}
    tokens = [{"rank": 3, "token_str": "[A]", "is_control": True}, {"rank": 7, "token_str": "[B]"}]
    (folder / "tekken.json").write_text(json.dumps({"special_tokens": tokens}))
    images = {"image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}
    added = {"added_tokens_decoder": {"3": {"content": "[A]"}, "7": {"content": "[B]"}}}
    model = read_folder(folder)
    assert model.beside_a_tower() == {"preprocessor_config.json": images, "tokenizer_config.json": added}
    (folder / "tekken.json").write_text("{}")
    older = {"added_tokens_decoder": {"10": {"content": "[IMG]"}, "12": {"content": "[IMG_BREAK]"}}}
    assert model.beside_a_tower()["tokenizer_config.json"] == older
    (folder / "preprocessor_config.json").write_text("{}")
    assert model.beside_a_tower() == {"tokenizer_config.json": older}
    (folder / "tekken.json").write_text('{"special_tokens": [5]}')
    with pytest.raises(ModelError, match=r"tekken.json: cannot be read"):
        model.beside_a_tower()
    (folder / "tokenizer_config.json").write_text("{}")
    assert model.beside_a_tower() == {}


def test_an_architecture_is_looked_for_among_texts_alone(folder: Path, tmp_path: Path) -> None:
    (source := tmp_path / "llama.cpp" / "conversion").mkdir(parents=True)
    (source / "__init__.py").write_text(LISTED.replace('"LlavaForConditionalGeneration": "llama",', ""))
    (folder / "config.json").write_text(json.dumps({**CONFIG, "architectures": ["LlavaForConditionalGeneration"]}))
    with pytest.raises(ModelError, match="1 architectures are known"):
        check_known(read_folder(folder), source.parent)
    (folder / "config.json").write_text(json.dumps({"architectures": []}))
    with pytest.raises(ModelError, match="converts no model without architectures") as caught:
        check_known(read_folder(folder), source.parent)
    assert caught.value.hint == "a newer lwq may pin a llama.cpp that does"
    (source / "__init__.py").write_text("TEXT_MODELS = {}\n")  # written in another way: nothing is known
    check_known(read_folder(folder), source.parent)


@pytest.mark.tools
def test_no_class_of_a_language_model_is_taken_for_another() -> None:
    """Every class that the pinned converter lists, and that ends like one that predicts text."""
    listed = (script().parent / "conversion" / "__init__.py").read_text(encoding="utf-8")
    names = re.findall(r'^    "(\w+(?:ForCausalLM|LMHeadModel|ForConditionalGeneration))"', listed, re.MULTILINE)
    assert len(names) > 100
    others = [name for name in names if not re.search("T5|TTS|Assistant|DSpark|Eagle3", name)]
    for name in others:
        check_class(Path("folder"), name)
