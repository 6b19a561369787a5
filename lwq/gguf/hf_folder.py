"""A Hugging Face folder, read before anything runs: what it is, and whether the converter can take it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from lwq.errors import ModelError
from lwq.gguf.hf_tokenizer import as_before_5
from lwq.gguf.reader import shown
from lwq.gguf.safetensors import StoredTensor, read_safetensors
from lwq.gguf.usable import check_class

_TOKENIZERS: Final = ("tokenizer.json", "tokenizer.model", "tekken.json", "vocab.json", "vocab.txt", "spiece.model")
_DEQUANTIZED: Final = ("bitnet", "fp8", "gptq", "compressed-tensors", "modelopt", "mxfp4")
"""What the converter turns back into floats. Source: conversion/base.py ``dequant_model``."""
_OLDER_TOKENS: Final = ({"rank": 10, "token_str": "[IMG]"}, {"rank": 12, "token_str": "[IMG_BREAK]"})
"""Of tekken files that do not list theirs. Source: mistral-common, ``Tekkenizer.DEPRECATED_SPECIAL_TOKENS``."""
_PIXTRAL_IMAGES: Final = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
"""How mistral-common normalizes images. Source: conversion/base.py, ``_MISTRAL_COMMON_DATASET_MEAN`` and ``_STD``."""
_MOST_BYTES: Final = 1 << 26
_INDEX: Final = "model.safetensors.index.json"
_MAP: Final = re.compile(r"^(TEXT|MMPROJ)_MODEL_MAP.*?^\}", re.MULTILINE | re.DOTALL)
_PAIR: Final = re.compile(r'^    "(\w+)": "\w+",$', re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFolder:
    """What a folder's configuration and the headers of its safetensors files say."""

    path: Path
    config: Mapping[str, Any]
    tensors: tuple[StoredTensor, ...]

    @property
    def architecture(self) -> str:
        """The class in ``transformers``, by which the converter tells models apart."""
        return _class_of(self.config)

    @property
    def text_config(self) -> Mapping[str, Any]:
        """Of the language model: the configuration itself, or its part where there are towers."""
        part = self.config.get("text_config") or self.config.get("llm_config")
        return part if isinstance(part, dict) else self.config

    @property
    def n_layer(self) -> int:
        """Layers of the language model, or 0 where the configuration does not say."""
        keys = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
        return next((n for key in keys if type(n := self.text_config.get(key)) is int and n >= 0), 0)

    @property
    def has_tower(self) -> bool:
        """Whether images or sound enter by a part of their own."""
        return any(isinstance(self.config.get(key), dict) for key in ("vision_config", "audio_config", "vision_tower"))

    @property
    def quantized_as(self) -> str:
        """By which method the publisher quantized it; empty where it holds floats."""
        stated = self.config.get("quantization_config") or self.text_config.get("quantization_config")
        return str(stated.get("quant_method") or "an unnamed method") if isinstance(stated, dict) else ""

    @property
    def stored(self) -> Counter[str]:
        """dtype → bytes of tensors."""
        counts: Counter[str] = Counter()
        for tensor in self.tensors:
            counts[tensor.dtype] += tensor.n_bytes
        return counts

    @property
    def outtype(self) -> str:
        """What the converter must write so that no value is rounded: ``auto`` makes F16 of F32."""
        matrices = {t.dtype for t in self.tensors if len(t.shape) > 1}
        return "f32" if "F32" in matrices and not self.quantized_as else "auto"

    def beside_a_tower(self) -> dict[str, Any]:
        """Files that the converter wants of a tower and a folder lacks, or has in a newer form: name → what JSON."""
        tekken, files = self.path / "tekken.json", as_before_5(self.path)
        if not tekken.is_file():
            return files
        if not (self.path / "preprocessor_config.json").is_file():
            files["preprocessor_config.json"] = _PIXTRAL_IMAGES
        if not (self.path / "tokenizer_config.json").is_file():
            try:
                stated = _json(tekken).get("special_tokens") or _OLDER_TOKENS
                added = {str(entry["rank"]): {"content": str(entry["token_str"])} for entry in stated}
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                raise ModelError(f"{tekken}: cannot be read: {error}", hint="fetch it again") from None
            files["tokenizer_config.json"] = {"added_tokens_decoder": added}
        return files


def read_folder(path: Path) -> ModelFolder:
    """A folder that a model can be converted from, as far as its files tell.

    Raises:
        ModelError: something is missing, cut short, or of a kind that the converter does not take.
    """
    if (path / "adapter_config.json").is_file():
        raise ModelError(
            f"{path}: a LoRA adapter (adapter_config.json), expected a model",
            hint="merge it into its base model first (peft's merge_and_unload), and name the merged folder",
        )
    config = _config(path)
    check_class(path, _class_of(config))
    files = sorted(p for p in path.glob("*.safetensors") if not p.name.startswith("consolidated"))
    if not files:
        raise ModelError(f"{path}: has no *.safetensors", hint=_without_safetensors(path))
    tensors = tuple(t for file in files for t in read_safetensors(file))
    _check_index(path, {t.name for t in tensors})
    folder = ModelFolder(path=path, config=config, tensors=tensors)
    if not any((path / name).is_file() for name in _TOKENIZERS):
        raise ModelError(
            f"{path}: has no tokenizer ({', '.join(_TOKENIZERS[:3])} …)", hint="fetch the tokenizer's files into it"
        )
    if (method := folder.quantized_as) and method not in _DEQUANTIZED:
        raise ModelError(
            f"{path}: its weights are quantized by {method}, which the converter does not turn back",
            hint=f"take the original in 16 bits; of quantized ones it takes {', '.join(_DEQUANTIZED)}",
        )
    return folder


def _class_of(config: Mapping[str, Any]) -> str:
    listed = config.get("architectures")
    return next((name for name in listed if isinstance(name, str)), "") if isinstance(listed, list) else ""


def _config(path: Path) -> Mapping[str, Any]:
    file = path / "config.json"
    try:
        config = _json(file)
    except FileNotFoundError:
        raise ModelError(f"{path}: has no config.json", hint="name a folder as Hugging Face has it") from None
    except (OSError, ValueError) as error:
        hint = "is it a Git LFS pointer? `git lfs pull`" if _is_pointer(file) else "fetch it again"
        raise ModelError(f"{file}: is not JSON: {error}", hint=hint) from None
    if not isinstance(config, dict):
        raise ModelError(f"{file}: is no object", hint="fetch it again")
    return config


def _json(file: Path) -> Any:
    """What a JSON file says.

    Raises:
        OSError, ValueError: it cannot be read, or is no JSON that anybody would write.
    """
    if file.stat().st_size > _MOST_BYTES:
        raise ValueError(f"it has more than {_MOST_BYTES:,} bytes")
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _is_pointer(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            return opened.read(64).startswith(b"version https://git-lfs")
    except OSError:
        return False


def _without_safetensors(path: Path) -> str:
    if any(path.glob("pytorch_model*.bin")):
        return "its weights are PyTorch pickles (*.bin): save them as safetensors with transformers' save_pretrained"
    if ggufs := sorted(p.name for p in path.iterdir() if p.suffix.lower() == ".gguf"):
        return f"name one of its files: {', '.join(ggufs)}"
    return "fetch the model's files into it"


def _check_index(path: Path, names: set[str]) -> None:
    """Raises ModelError for shards or tensors that the index names and that are not here."""
    file = path / _INDEX
    if not file.is_file():
        return
    try:
        stated = _json(file)["weight_map"]
        shards = sorted(set(stated.values()))
        if outside := [name for name in shards if Path(name).name != name or name in ("", "..") or len(name) > 200]:
            raise ValueError(f"it names {shown(outside[0])}, which is no file of this folder")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{file}: cannot be read as an index: {error}", hint="fetch it again") from None
    if missing := [shard for shard in shards if not (path / shard).is_file()]:
        more = f" and {len(missing) - 3} more" if missing[3:] else ""
        raise ModelError(
            f"{path}: lacks {', '.join(missing[:3])}{more}, which {_INDEX} names", hint="fetch them into it"
        )
    if lost := sorted(set(stated) - names):
        more = f" and {len(lost) - 1} more tensors" if lost[1:] else ""
        raise ModelError(f"{path}: {lost[0]}{more} of {_INDEX} are in no shard", hint="fetch the shards again")


def check_known(folder: ModelFolder, source: Path) -> None:
    """Raises ModelError for an architecture that the pinned converter does not know; nothing where it is not here.

    Args:
        source: folder of llama.cpp's sources.
    """
    listed = source / "conversion" / "__init__.py"
    if not listed.is_file():
        return
    known = set(_listed(listed.read_text(encoding="utf-8"), "TEXT"))
    if known and folder.architecture not in known:
        near = get_close_matches(folder.architecture, sorted(known), 3)
        raise ModelError(
            f"{folder.path}: the pinned llama.cpp converts no {folder.architecture or 'model without architectures'}"
            f" ({len(known)} architectures are known)",
            hint=f"near: {', '.join(near)}" if near else "a newer lwq may pin a llama.cpp that does",
        )


def _listed(text: str, kind: str) -> Iterator[str]:
    for block in _MAP.finditer(text):
        if block[1] == kind:
            yield from _PAIR.findall(block[0])
