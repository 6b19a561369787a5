"""A place in the bytes of a GGUF and what can be read there: numbers, names, texts, a key, a tensor's entry.

Nothing is made whose size only the file announces: big arrays (a vocabulary of 150,000 tokens) are measured and
skipped, and what no model comes near is refused.

Source: ggml/src/gguf.cpp, ``gguf_init_from_reader``, at the pinned commit.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from lwq.errors import ModelError
from lwq.gguf.types import GGML_TYPES, TensorInfo, type_name

AGAIN: Final = "fetch the file again and compare its size and sha256 with the publisher's"
MAX_DIMS: Final = 4
MAX_NAME: Final = 63  # bytes of a tensor name (GGML_MAX_NAME without its NUL)
MAX_KEY: Final = 65535  # bytes of a key, by the format's description
SMALL_ARRAY: Final = 2048  # longer arrays stay in the file, and so do
SMALL_BYTES: Final = 1 << 20  # larger ones
# No model comes near these; what announces more is refused before anything of that size is made.
MAX_TEXT_BYTES: Final = 1 << 26  # of all strings that are not in arrays which stay in the file
MAX_ITEMS: Final = 1 << 21  # of an array of strings
MAX_ARRAY_BYTES: Final = 1 << 27

# number in the file -> (name, struct format)
SCALARS: Final[dict[int, tuple[str, str]]] = {
    0: ("uint8", "B"), 1: ("int8", "b"), 2: ("uint16", "H"), 3: ("int16", "h"), 4: ("uint32", "I"),
    5: ("int32", "i"), 6: ("float32", "f"), 7: ("bool", "?"), 10: ("uint64", "Q"), 11: ("int64", "q"),
    12: ("float64", "d"),
}  # fmt: skip
STRING: Final = 8
ARRAY: Final = 9
TYPE_NAMES: Final = {**{number: name for number, (name, _) in SCALARS.items()}, STRING: "string"}

_SHOWN: Final = 80
Scalar: TypeAlias = bool | int | float | str


@dataclass(frozen=True, slots=True, kw_only=True)
class BigArray:
    """A long metadata array left in the file; ``gguf.header.read_array`` builds it."""

    item_type: str
    n_items: int
    offset: int
    """Of the first item, from the start of the file."""
    n_bytes: int


MetaValue: TypeAlias = Scalar | tuple[Scalar, ...] | BigArray


@dataclass(frozen=True, slots=True, kw_only=True)
class MetaEntry:
    """One key of the metadata and the bytes it takes in the file, key and type included."""

    key: str
    value_type: str
    """``uint32``, ``string``, …; of an array ``array[string]``."""
    value: MetaValue
    offset: int
    """From the start of the file."""
    n_bytes: int


def shown(value: object) -> str:
    """A value out of a file as a message may show it: in quotes, no longer than a line."""
    text = repr(value[:_SHOWN] if isinstance(value, str | bytes | tuple) else value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


class GgufReader:
    """A place in the bytes of one file; every read is checked against the file's end."""

    def __init__(self, path: Path, data: bytes | memoryview, at: int = 0, text_bytes: int = MAX_TEXT_BYTES) -> None:
        self.path = path
        self.data = data
        self.size = len(data)
        self.at = at
        self.text_bytes = text_bytes
        """How many more bytes of text may be taken into memory."""

    def broken(self, what: str, hint: str = AGAIN) -> ModelError:
        return ModelError(f"{self.path}: {what}", hint=hint)

    def skip(self, n_bytes: int, what: str) -> int:
        """Where those bytes start; the reader stands behind them."""
        start, end = self.at, self.at + n_bytes
        if end > self.size:
            raise self.broken(f"truncated in {what}: needs {end} bytes, has {self.size}")
        self.at = end
        return start

    def number(self, code: str, what: str) -> int:
        start = self.skip(struct.calcsize(code), what)
        value: int = struct.unpack_from("<" + code, self.data, start)[0]
        return value

    def string(self, what: str) -> str:
        """The next string; bytes that are not UTF-8 are written as escapes (llama.cpp takes any)."""
        return self.raw_string(what).decode("utf-8", "backslashreplace")

    def raw_string(self, what: str, most: int | None = None) -> bytes:
        n_bytes = self.number("Q", what)
        start = self.skip(n_bytes, what)
        if most is not None and not 0 < n_bytes <= most:
            raise self.broken(f"{what}: a name of {n_bytes} bytes, expected 1 to {most}")
        self.text_bytes -= n_bytes
        if self.text_bytes < 0:
            raise self.broken(f"{what}: a text of {n_bytes} bytes, {MAX_TEXT_BYTES} in all are the most that are read")
        return bytes(self.data[start : start + n_bytes])

    def name(self, what: str, most: int, barred: str = "") -> str:
        """The next string as a name: not empty, UTF-8, no control characters and none of the barred ones."""
        raw = self.raw_string(what, most)
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            raise self.broken(f"{what}: the name {shown(raw)} is not UTF-8") from None
        if not text.isprintable() or any(character in barred for character in text):
            raise self.broken(f"{what}: the name {shown(text)} has characters that no name has")
        return text

    def skip_strings(self, n_items: int, what: str) -> None:
        """Stands behind ``n_items`` strings without building them."""
        if n_items > MAX_ITEMS:
            raise self.broken(f"{what} announces {n_items} strings, {MAX_ITEMS} are the most that are read")
        length_of, data, at, last = struct.Struct("<Q").unpack_from, self.data, self.at, self.size - 8
        for _ in range(n_items):
            if at > last:
                break
            at += 8 + length_of(data, at)[0]
        else:
            self.at = at
        if at > self.size or self.at != at:
            raise self.broken(f"truncated in {what}: {n_items} strings do not fit in {self.size} bytes")

    def items(self, kind: int, n_items: int, what: str) -> tuple[Scalar, ...]:
        """The next ``n_items`` values of that type."""
        if kind == STRING:
            return tuple(self._strings(n_items, what))
        code = f"{n_items}{SCALARS[kind][1]}"
        start = self.skip(struct.calcsize("<" + code), what)
        return struct.unpack_from("<" + code, self.data, start)

    def _strings(self, n_items: int, what: str) -> Iterator[str]:
        """As ``string``, in a loop of its own: a vocabulary has hundreds of thousands."""
        length_of, data, last = struct.Struct("<Q").unpack_from, self.data, self.size - 8
        for _ in range(n_items):
            n_bytes = length_of(data, self.at)[0] if self.at <= last else 0
            end = self.at + 8 + n_bytes
            if end > self.size or n_bytes > self.text_bytes:
                yield self.string(what)  # which says what is wrong
                continue
            self.text_bytes -= n_bytes
            yield str(data[self.at + 8 : end], "utf-8", "backslashreplace")
            self.at = end

    def entry(self) -> MetaEntry:
        start = self.at
        key = self.name("the metadata's keys", MAX_KEY)
        what = f"metadata {shown(key)}"
        kind = self.number("i", what)
        if kind == ARRAY:
            return self._array(key, what, start)
        name, (value,) = self._type(kind, what), self.items(kind, 1, what)
        return MetaEntry(key=key, value_type=name, value=value, offset=start, n_bytes=self.at - start)

    def _type(self, kind: int, what: str) -> str:
        if kind not in TYPE_NAMES:
            raise self.broken(f"{what} has value type {kind}, expected one of {', '.join(TYPE_NAMES.values())}")
        return TYPE_NAMES[kind]

    def _array(self, key: str, what: str, start: int) -> MetaEntry:
        """An array, built where it is small."""
        kind, n_items = self.number("i", what), self.number("Q", what)
        name, first = self._type(kind, what), self.at
        if kind == STRING:
            self.skip_strings(n_items, what)
        else:
            self.skip(n_items * struct.calcsize(SCALARS[kind][1]), what)
        n_bytes = self.at - first
        if n_bytes > MAX_ARRAY_BYTES:
            raise self.broken(f"{what} has {n_bytes} bytes, {MAX_ARRAY_BYTES} are the most that are read")
        value: MetaValue = BigArray(item_type=name, n_items=n_items, offset=first, n_bytes=n_bytes)
        if n_items <= SMALL_ARRAY and n_bytes <= SMALL_BYTES:
            self.at = first
            value = self.items(kind, n_items, what)
        return MetaEntry(key=key, value_type=f"array[{name}]", value=value, offset=start, n_bytes=self.at - start)

    def tensor(self) -> TensorInfo:
        """The next tensor's name, shape, type and offset; sizes are checked later, in order."""
        name = self.name("the tensors' names", MAX_NAME, barred="/\\")
        what = f"tensor {name!r}"
        n_dims = self.number("I", what)
        if not 0 < n_dims <= MAX_DIMS:
            raise self.broken(f"{what} has {n_dims} dimensions, expected 1 to {MAX_DIMS}")
        ne = tuple(self.number("q", what) for _ in range(n_dims))
        number = self.number("i", what)
        ggml_type = type_name(number)
        if ggml_type is None:
            raise self.broken(
                f"{what} has ggml type {number}, which the pinned llama.cpp does not know",
                f"known are {', '.join(GGML_TYPES)}; take a file of one of these types",
            )
        n_weights = GGML_TYPES[ggml_type][1]
        if min(ne) < 1 or ne[0] % n_weights:
            raise self.broken(f"{what} of shape {ne} cannot be {ggml_type} (quant blocks of {n_weights})")
        if math.prod(ne) >= 1 << 63:
            raise self.broken(f"{what} of shape {ne} has more elements than 63 bits can count")
        return TensorInfo(name=name, ne=ne, ggml_type=ggml_type, offset=self.number("Q", what))
