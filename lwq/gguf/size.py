"""What llama-quantize will write, known before it runs: tensors in its order, bytes of the whole file.

Source: src/llama-quant.cpp ``llama_model_quantize_impl``, tools/quantize/quantize.cpp ``main`` and
ggml/src/gguf.cpp ``gguf_write_out`` at the pinned commit; tests compare with its real output.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from lwq.errors import ModelError
from lwq.gguf.header import GgufHeader, read_array
from lwq.gguf.reader import BigArray, MetaEntry, Scalar
from lwq.gguf.types import GGUF_ALIGNMENT, TensorInfo, padded, renumber, split_name

QUANTIZATION_VERSION: Final = 2
SPLIT_KEYS: Final = ("split.no", "split.count", "split.tensors.count")
MAX_STRING: Final = 127  # bytes of a string given by --override-kv


def imatrix_kv(file_name: str, datasets: Sequence[str], *, n_entries: int, n_chunks: int) -> dict[str, Scalar]:
    """The keys that ``llama-quantize --imatrix`` adds to its output.

    Args:
        file_name: the path as given on the command line.
        datasets: of the imatrix; the tool keeps the first, and 127 bytes of it.
    """
    kv: dict[str, Scalar] = {"quantize.imatrix.file": _cut(file_name)}
    if datasets:
        kv["quantize.imatrix.dataset"] = _cut(datasets[0])
    kv["quantize.imatrix.entries_count"] = n_entries
    if n_chunks > 0:
        kv["quantize.imatrix.chunks_count"] = n_chunks
    return kv


def planned_tensors(
    header: GgufHeader, *, types: Mapping[str, str], pruned: Iterable[int] = ()
) -> tuple[TensorInfo, ...]:
    """The tensors that llama-quantize writes, in its order, with their offsets.

    Args:
        types: new name → ggml type as really written (fallbacks applied); others keep their type.
        pruned: layers that go, by their old numbers.

    Raises:
        ValueError: a type for a tensor that is not there, or rows that do not fit a type.
    """
    gone = tuple(pruned)
    kept = [(t, name) for t in header.tensors if (name := renumber(t.name, gone)) is not None]
    unknown = sorted(set(types) - {name for _, name in kept})
    if unknown:
        raise ValueError(f"types for tensors that will not be written: {', '.join(unknown[:5])}")
    planned, offset = [], 0
    for source, name in sorted(kept, key=lambda pair: _tool_order(pair[0].name)):
        ggml_type = types.get(name, source.ggml_type)
        tensor = TensorInfo(name=name, ne=_written_ne(source.ne), ggml_type=ggml_type, offset=offset)
        planned.append(tensor)
        offset += padded(tensor.n_bytes)
    return tuple(planned)


def predicted_file_bytes(
    header: GgufHeader,
    *,
    types: Mapping[str, str],
    pruned: Iterable[int] = (),
    set_kv: Mapping[str, Scalar] | None = None,
) -> int:
    """Bytes of the file that llama-quantize writes, exact.

    Args:
        types: as in ``planned_tensors``.
        set_kv: what ``--override-kv`` and ``--imatrix`` (``imatrix_kv``) set.

    Raises:
        ModelError: a model whose general.alignment llama-quantize would not keep to.
    """
    gone = tuple(pruned)
    tensors = planned_tensors(header, types=types, pruned=gone)
    kv = _written_kv(header, gone, set_kv or {})
    head = 4 + 4 + 8 + 8 + sum(kv.values()) + sum(_tensor_entry_bytes(t) for t in tensors)
    return padded(head) + sum(padded(t.n_bytes) for t in tensors)


def _written_kv(header: GgufHeader, pruned: tuple[int, ...], set_kv: Mapping[str, Scalar]) -> dict[str, int]:
    """Key → bytes: the source's keys, less split keys, plus those that the tool sets."""
    alignment = set_kv.get("general.alignment", header.alignment)
    if alignment != GGUF_ALIGNMENT:
        raise ModelError(
            f"{header.path}: general.alignment is {alignment}; llama-quantize writes {GGUF_ALIGNMENT}"
            " and keeps the key, so the output could not be read",
            hint=f"add --override-kv general.alignment=int:{GGUF_ALIGNMENT}",
        )
    kv = {entry.key: _rewritten_bytes(header, entry) for entry in header.entries}
    kv["general.quantization_version"] = _value_bytes("general.quantization_version", QUANTIZATION_VERSION)
    kv["general.file_type"] = _value_bytes("general.file_type", 0)
    for key in SPLIT_KEYS:
        kv.pop(key, None)
    kv.update({key: _value_bytes(key, value) for key, value in set_kv.items()})
    if pruned:
        kv[f"{header.architecture}.block_count"] = _value_bytes(f"{header.architecture}.block_count", 0)
    return kv


def _value_bytes(key: str, value: Scalar) -> int:
    """Bytes of a key that the tool sets: bool 1, int (as uint32) and float (as float32) 4, or a string."""
    head = 8 + _n_utf8(key) + 4
    if isinstance(value, str):
        n_bytes = _n_utf8(value)
        if n_bytes > MAX_STRING:
            raise ValueError(f"{key}: {n_bytes} bytes; llama-quantize takes strings up to {MAX_STRING}")
        return head + 8 + n_bytes
    return head + (1 if isinstance(value, bool) else 4)


def _rewritten_bytes(header: GgufHeader, entry: MetaEntry) -> int:
    """Bytes of a copied key; strings pass through C and end at their first NUL."""
    if not entry.value_type.endswith(("string", "string]")):
        return entry.n_bytes
    value = entry.value
    if isinstance(value, BigArray):
        value = read_array(header, entry.key)
    strings = value if isinstance(value, tuple) else (value,)
    lost = sum(_lost_to_nul(text) for text in strings if isinstance(text, str))
    return entry.n_bytes - lost


def _lost_to_nul(text: str) -> int:
    at = text.find("\0")
    return 0 if at < 0 else _n_utf8(text[at:])


def _tensor_entry_bytes(tensor: TensorInfo) -> int:
    return 8 + _n_utf8(tensor.name) + 4 + 8 * len(tensor.ne) + 4 + 8


def _written_ne(ne: tuple[int, ...]) -> tuple[int, ...]:
    """The dimensions as ggml counts them: trailing ones are dropped."""
    n_dims = max((i for i, n in enumerate(ne, 1) if n > 1), default=1)
    return ne[:n_dims]


def _tool_order(name: str) -> tuple[int, bytes]:
    """Sort key of llama-quantize: tensors outside of layers, then layer by layer, by name."""
    layer = split_name(name)[0]
    return (-1 if layer is None else layer, name.encode("utf-8", "surrogateescape"))


def _n_utf8(text: str) -> int:
    return len(text.encode("utf-8", "surrogateescape"))


def _cut(text: str) -> str:
    return text.encode("utf-8", "surrogateescape")[:MAX_STRING].decode("utf-8", "surrogateescape")
