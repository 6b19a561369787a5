"""How the types whose codes lie side by side are laid out: bytes into codes, scales and mins, and back.

Source: ggml/src/ggml-common.h (``block_*``) and ggml-quants.c (``dequantize_row_*``) at the pin.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from lwq.gguf.types import GGML_TYPES
from lwq.metrics.arrays import Bytes, Floats
from lwq.values.codes import GRIDS, Coded, Codes, Integers


def decoded(data: Bytes, ggml_type: str) -> Coded:
    """Codes of stored rows: uint8 of shape (rows, bytes of a row)."""
    grid, (_, block, n_bytes) = GRIDS[ggml_type], GGML_TYPES[ggml_type]
    n_rows = len(data)
    blocks = np.ascontiguousarray(data).reshape(-1, n_bytes)
    codes, scales, mins, d, m = _LAYOUTS[ggml_type][0](blocks)
    n_subs = block // grid.sub
    return Coded(
        codes=np.ascontiguousarray(codes, np.uint8).reshape(n_rows, -1),
        scales=_integers(scales, len(blocks), n_subs).reshape(n_rows, -1),
        mins=_integers(mins, len(blocks), n_subs).reshape(n_rows, -1),
        d=np.ascontiguousarray(d, np.float32).reshape(n_rows, -1),
        m=np.ascontiguousarray(m, np.float32).reshape(n_rows, -1),
    )


def encoded(coded: Coded, ggml_type: str) -> Bytes:
    """The bytes that hold these codes: uint8 of shape (rows, bytes of a row)."""
    grid, (_, block, n_bytes) = GRIDS[ggml_type], GGML_TYPES[ggml_type]
    n_rows = len(coded.codes)
    n_subs = block // grid.sub
    blocks = np.zeros((coded.codes.size // block, n_bytes), np.uint8)
    _LAYOUTS[ggml_type][1](
        blocks,
        coded.codes.reshape(-1, block),
        coded.scales.reshape(-1, n_subs),
        coded.mins.reshape(-1, n_subs),
        coded.d.reshape(-1, 1),
        coded.m.reshape(-1, 1),
    )
    return blocks.reshape(n_rows, -1)


def _integers(given: Any, n_blocks: int, n_subs: int) -> Integers:
    return np.array(np.broadcast_to(given, (n_blocks, n_subs)), np.int16)


# parts that layouts share


def _half(blocks: Bytes, at: int) -> Floats:
    return np.ascontiguousarray(blocks[:, at : at + 2]).view(np.float16).astype(np.float32)


def _put_half(blocks: Bytes, at: int, values: Floats) -> None:
    blocks[:, at : at + 2] = np.ascontiguousarray(values, np.float32).astype(np.float16).view(np.uint8)


def _nibbles(packed: Bytes, width: int) -> Codes:
    """Low nibbles of ``width`` bytes, then their high ones, and so on."""
    groups = packed.reshape(len(packed), -1, width)
    return np.stack((groups & 15, groups >> 4), axis=2).reshape(len(packed), -1)


def _packed(codes: Codes, width: int) -> Codes:
    groups = codes.reshape(len(codes), -1, 2, width)
    out: Codes = (groups[:, :, 0] | (groups[:, :, 1] << 4)).reshape(len(codes), -1)
    return out


def _bits(packed: Bytes, n: int) -> Codes:
    """Bit k of each byte, k by k: (blocks, n, bytes)."""
    return (packed[:, None] >> np.arange(n, dtype=np.uint8)[:, None]) & 1


def _from_bits(bits: Codes) -> Codes:
    out: Codes = np.bitwise_or.reduce(bits << np.arange(bits.shape[1], dtype=np.uint8)[:, None], axis=1)
    return out


def _quarters(packed: Bytes) -> Codes:
    """Two bits of 32 bytes, then the next two, four times; then the next 32 bytes."""
    groups = packed.reshape(len(packed), -1, 1, 32) >> np.array([[0], [2], [4], [6]], np.uint8)
    return (groups & 3).reshape(len(packed), -1)


def _packed_quarters(codes: Codes) -> Codes:
    groups = codes.reshape(len(codes), -1, 4, 32) << np.array([[0], [2], [4], [6]], np.uint8)
    out: Codes = np.bitwise_or.reduce(groups, axis=2).reshape(len(codes), -1)
    return out


def _high_bits(packed: Bytes) -> Codes:
    """The fifth bits of 32 weights from four bytes, least first."""
    return np.unpackbits(packed, axis=1, bitorder="little")


# one type each: bytes → (codes, scales, mins, d, m), and back


def _one_or_two(b: Bytes, n_floats: int) -> tuple[Any, ...]:
    """(scale, min, d, m) of types with one scale: a factor, and a min where two float16 come first."""
    m = -_half(b, 2) if n_floats == 2 else np.zeros((len(b), 1), np.float32)
    return 1, n_floats - 1, _half(b, 0), m


def _put_one_or_two(b: Bytes, n_floats: int, d: Floats, m: Floats) -> None:
    _put_half(b, 0, d)
    if n_floats == 2:
        _put_half(b, 2, -m)


def _decode_q4(b: Bytes) -> tuple[Any, ...]:
    return _nibbles(b[:, -16:], 16), *_one_or_two(b, (b.shape[1] - 16) // 2)


def _encode_q4(b: Bytes, codes: Codes, scales: Integers, mins: Integers, d: Floats, m: Floats) -> None:
    _put_one_or_two(b, (b.shape[1] - 16) // 2, d, m)
    b[:, -16:] = _packed(codes, 16)


def _decode_q5(b: Bytes) -> tuple[Any, ...]:
    codes = _nibbles(b[:, -16:], 16) | (_high_bits(b[:, -20:-16]) << 4)
    return codes, *_one_or_two(b, (b.shape[1] - 20) // 2)


def _encode_q5(b: Bytes, codes: Codes, scales: Integers, mins: Integers, d: Floats, m: Floats) -> None:
    _put_one_or_two(b, (b.shape[1] - 20) // 2, d, m)
    b[:, -20:-16] = np.packbits(codes >> 4, axis=1, bitorder="little")
    b[:, -16:] = _packed(codes & 15, 16)


def _decode_q8_0(b: Bytes) -> tuple[Any, ...]:
    return b[:, 2:] ^ 128, 1, 0, _half(b, 0), np.zeros((len(b), 1), np.float32)


def _encode_q8_0(b: Bytes, codes: Codes, scales: Integers, mins: Integers, d: Floats, m: Floats) -> None:
    _put_half(b, 0, d)
    b[:, 2:] = codes ^ 128


def _decode_q2(b: Bytes) -> tuple[Any, ...]:
    return _quarters(b[:, 16:80]), b[:, :16] & 15, b[:, :16] >> 4, _half(b, 80), _half(b, 82)


def _encode_q2(b: Bytes, codes: Codes, scales: Integers, mins: Integers, d: Floats, m: Floats) -> None:
    b[:, :16] = scales | (mins << 4)
    b[:, 16:80] = _packed_quarters(codes)
    _put_half(b, 80, d)
    _put_half(b, 82, m)


def _decode_q3(b: Bytes) -> tuple[Any, ...]:
    codes = _quarters(b[:, 32:96]) | (_bits(b[:, :32], 8).reshape(len(b), -1) << 2)
    packed = b[:, 96:108]
    low = np.concatenate((packed[:, :8] & 15, packed[:, :8] >> 4), axis=1)
    high = (packed[:, None, 8:] >> np.array([[0], [2], [4], [6]], np.uint8)) & 3
    scales = (low | (high.reshape(len(b), 16) << 4)).astype(np.int16) - 32
    return codes, scales, 0, _half(b, 108), np.zeros((len(b), 1), np.float32)


def _encode_q3(b: Bytes, codes: Codes, scales: Integers, mins: Integers, d: Floats, m: Floats) -> None:
    b[:, :32] = _from_bits((codes >> 2).reshape(len(b), 8, 32))
    b[:, 32:96] = _packed_quarters(codes & 3)
    six = (scales + 32).astype(np.uint8)
    b[:, 96:104] = (six[:, :8] & 15) | ((six[:, 8:] & 15) << 4)
    high = (six >> 4).reshape(len(b), 4, 4) << np.array([[0], [2], [4], [6]], np.uint8)
    b[:, 104:108] = np.bitwise_or.reduce(high, axis=1)
    _put_half(b, 108, d)


def _six_bits(b: Bytes) -> tuple[Codes, Codes]:
    """Eight scales and eight mins of 6 bits in 12 bytes (``get_scale_min_k4``)."""
    s = b[:, 4:16]
    scales = np.concatenate((s[:, :4] & 63, (s[:, 8:] & 15) | ((s[:, :4] >> 6) << 4)), axis=1)
    mins = np.concatenate((s[:, 4:8] & 63, (s[:, 8:] >> 4) | ((s[:, 4:8] >> 6) << 4)), axis=1)
    return scales, mins


def _put_six_bits(b: Bytes, scales: Integers, mins: Integers) -> None:
    s, m = scales.astype(np.uint8), mins.astype(np.uint8)
    b[:, 4:8] = s[:, :4] | ((s[:, 4:] >> 4) << 6)
    b[:, 8:12] = m[:, :4] | ((m[:, 4:] >> 4) << 6)
    b[:, 12:16] = (s[:, 4:] & 15) | ((m[:, 4:] & 15) << 4)


def _decode_q4_k(b: Bytes) -> tuple[Any, ...]:
    return _nibbles(b[:, 16:], 32), *_six_bits(b), _half(b, 0), _half(b, 2)


def _encode_q4_k(b: Bytes, codes: Codes, scales: Integers, mins: Integers, d: Floats, m: Floats) -> None:
    _put_half(b, 0, d)
    _put_half(b, 2, m)
    _put_six_bits(b, scales, mins)
    b[:, 16:] = _packed(codes, 32)


def _decode_q5_k(b: Bytes) -> tuple[Any, ...]:
    codes = _nibbles(b[:, 48:], 32) | (_bits(b[:, 16:48], 8).reshape(len(b), -1) << 4)
    return codes, *_six_bits(b), _half(b, 0), _half(b, 2)


def _encode_q5_k(b: Bytes, codes: Codes, scales: Integers, mins: Integers, d: Floats, m: Floats) -> None:
    _put_half(b, 0, d)
    _put_half(b, 2, m)
    _put_six_bits(b, scales, mins)
    b[:, 16:48] = _from_bits((codes >> 4).reshape(len(b), 8, 32))
    b[:, 48:] = _packed(codes & 15, 32)


def _decode_q6(b: Bytes) -> tuple[Any, ...]:
    codes = _nibbles(b[:, :128], 64) | (_quarters(b[:, 128:192]) << 4)
    scales = np.ascontiguousarray(b[:, 192:208]).view(np.int8)
    return codes, scales, 0, _half(b, 208), np.zeros((len(b), 1), np.float32)


def _encode_q6(b: Bytes, codes: Codes, scales: Integers, mins: Integers, d: Floats, m: Floats) -> None:
    b[:, :128] = _packed(codes & 15, 64)
    b[:, 128:192] = _packed_quarters(codes >> 4)
    b[:, 192:208] = scales.astype(np.int8).view(np.uint8)
    _put_half(b, 208, d)


def _decode_iq4_xs(b: Bytes) -> tuple[Any, ...]:
    low = np.stack((b[:, 4:8] & 15, b[:, 4:8] >> 4), axis=2).reshape(len(b), 8)
    high = np.ascontiguousarray(b[:, 2:4]).view("<u2") >> np.arange(0, 16, 2, dtype=np.uint16) & 3
    scales = (low | (high << 4)).astype(np.int16) - 32
    return _nibbles(b[:, 8:], 16), scales, 0, _half(b, 0), np.zeros((len(b), 1), np.float32)


def _encode_iq4_xs(b: Bytes, codes: Codes, scales: Integers, mins: Integers, d: Floats, m: Floats) -> None:
    six = (scales + 32).astype(np.uint16)
    _put_half(b, 0, d)
    high = np.bitwise_or.reduce((six >> 4) << np.arange(0, 16, 2, dtype=np.uint16), axis=1)
    b[:, 2:4] = high.astype("<u2")[:, None].view(np.uint8)
    b[:, 4:8] = (six[:, ::2] & 15) | ((six[:, 1::2] & 15) << 4)
    b[:, 8:] = _packed(codes, 16)


_LAYOUTS: Final[dict[str, tuple[Callable[[Bytes], tuple[Any, ...]], Callable[..., None]]]] = {
    "q4_0": (_decode_q4, _encode_q4),
    "q4_1": (_decode_q4, _encode_q4),
    "q5_0": (_decode_q5, _encode_q5),
    "q5_1": (_decode_q5, _encode_q5),
    "q8_0": (_decode_q8_0, _encode_q8_0),
    "q2_K": (_decode_q2, _encode_q2),
    "q3_K": (_decode_q3, _encode_q3),
    "q4_K": (_decode_q4_k, _encode_q4_k),
    "q5_K": (_decode_q5_k, _encode_q5_k),
    "q6_K": (_decode_q6, _encode_q6),
    "iq4_nl": (_decode_q4, _encode_q4),
    "iq4_xs": (_decode_iq4_xs, _encode_iq4_xs),
}
