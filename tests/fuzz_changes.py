"""Changes to a sound input: of its bytes, its lines, its JSON, or the parts of a GGUF."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final

from tests.crafted_ggufs import Parts

_NUMBERS: Final = (
    0,
    1,
    -1,
    2,
    127,
    255,
    1 << 16,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
    1 << 40,
    1 << 62,
    (1 << 63) - 1,
)
_ODD: Final[tuple[Any, ...]] = (
    None, True, False, 0, -1, 1 << 63, 10**400, 1.5, float("nan"), float("inf"), "", "\0", "\ud800", "x" * 3000,
    "../../x", [], {}, [[]], [None], {"": None}, "2", "nan", "\u202e", "é",
)  # fmt: skip
_WORDS: Final = (
    b"\0", b"\n", b"\r", b'"', b"{", b"[", b"]", b",", b"\t", b"\xff", b"\xef\xbb\xbf", b"nan", b"inf", b"-1", b"1e999",
    b"=", b"'''", b"#", b"_", b"%", b"[1]", b"9" * 5000, b"[" * 5000,
)  # fmt: skip

Change = Callable[[random.Random, bytes], bytes]


def of_bytes(chance: random.Random, data: bytes) -> bytes:
    """A few bytes changed, cut, doubled, or replaced by a word or a number."""
    at = chance.randrange(len(data) + 1)
    to = min(len(data), at + chance.choice((1, 4, 8, 30, 200)))
    what = chance.randrange(7)
    if what == 0:
        return data[:at]
    if what == 1:
        return data[:at] + data[to:]
    if what == 2:
        return data[:to] + data[at:]
    if what == 3:
        return data[:at] + chance.choice(_WORDS) + data[at:]
    if what == 4:
        return data[:at] + chance.choice(_WORDS) + data[to:]
    if what == 5:
        code = chance.choice(("<i", "<q", "<I", "<Q"))
        size = struct.calcsize(code)
        number = struct.pack(code.upper(), chance.choice(_NUMBERS) % (1 << (8 * size)))
        return data[:at] + number + data[at + size :]
    return data[:at] + bytes(chance.randrange(256) for _ in data[at:to]) + data[to:]


def of_gguf(sound: Parts) -> Change:
    """One key, one tensor's entry or one count changed, and the whole put together again."""

    def change(chance: random.Random, _: bytes) -> bytes:
        kv, tensors = list(sound.kv), list(sound.tensors)
        group = kv if chance.random() < 0.6 else tensors
        i = chance.randrange(len(group))
        what = chance.randrange(4)
        if what == 0:
            group[i] = of_bytes(chance, group[i])
        elif what == 1:
            group.insert(chance.randrange(len(group)), group[i])
        elif what == 2:
            del group[i]
        else:
            chance.shuffle(group)
        counts = {"n_kv": chance.choice(_NUMBERS)} if chance.random() < 0.1 else {}
        return replace(sound, kv=tuple(kv), tensors=tuple(tensors), **counts).whole()

    return change


def of_json(chance: random.Random, data: bytes) -> bytes:
    """One node replaced, removed, doubled, renamed, or wrapped in many lists."""
    try:
        whole = deepcopy(_loaded(data))
    except (ValueError, RecursionError):
        return of_bytes(chance, data)
    places = list(_nodes(whole))
    if not places:
        return json.dumps(chance.choice(_ODD)).encode()
    owner, key = chance.choice(places)
    what = chance.randrange(5)
    if what == 0:
        del owner[key]
    elif what == 1:
        other, name = chance.choice(places)
        owner[key] = deepcopy(other[name])
    elif what == 2 and isinstance(owner, dict):
        owner[str(chance.choice(_ODD))[:50]] = owner.pop(key)
    elif what == 3:
        marker = "\x01deep\x01"
        owner[key] = marker
        n = chance.choice((3, 900, 2000))
        return json.dumps(whole).encode().replace(json.dumps(marker).encode(), b"[" * n + b"]" * n)
    else:
        owner[key] = deepcopy(chance.choice(_ODD))
    with suppress(ValueError, RecursionError):  # more digits, or deeper, than is written
        return json.dumps(whole, ensure_ascii=chance.random() < 0.8).encode("utf-8", "surrogatepass")
    return data


@lru_cache(maxsize=32)
def _loaded(data: bytes) -> Any:
    return json.loads(data)


def of_one_each(data: bytes, is_sound: Callable[[bytes], bool]) -> bytes:
    """A smaller input: of every list that may, the first item alone."""
    whole = json.loads(data)
    for owner, key in list(_nodes(whole)):
        value = owner[key]
        if isinstance(value, list) and len(value) > 1:
            owner[key] = value[:1]
            if not is_sound(json.dumps(whole).encode()):
                owner[key] = value
    return json.dumps(whole, ensure_ascii=False).encode()


def _nodes(value: Any) -> Iterator[tuple[Any, Any]]:
    pairs: Sequence[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        pairs = list(value.items())
    elif isinstance(value, list):
        pairs = list(enumerate(value))
    for key, inner in pairs:
        yield value, key
        yield from _nodes(inner)


def of_lines(chance: random.Random, data: bytes) -> bytes:
    """One line changed, as JSON where it is any; or lines doubled, dropped, shuffled."""
    lines = data.split(b"\n")
    i = chance.randrange(len(lines))
    what = chance.randrange(5)
    if what == 0:
        del lines[i]
    elif what == 1:
        lines.insert(i, chance.choice(lines))
    elif what == 2:
        chance.shuffle(lines)
    else:
        lines[i] = (of_json if lines[i][:1] in (b"{", b"[") else of_bytes)(chance, lines[i])
    return b"\n".join(lines)


def of_safetensors(chance: random.Random, data: bytes) -> bytes:
    """Its header changed as JSON; the length before it true."""
    n = int.from_bytes(data[:8], "little")
    head = of_json(chance, data[8 : 8 + n])
    return len(head).to_bytes(8, "little") + head + data[8 + n :]
