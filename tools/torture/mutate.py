"""Hostile versions of valid bytes, deterministic in a random.Random."""

from __future__ import annotations

import json
import random
import struct
from typing import Any

HOSTILE: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2**31, 2**63, 10**400, 1e308, float("nan"), float("-inf"), "", "\x00", "\ud83d", "é" * 300,
    "<image>", "../../outside.png", "/etc/passwd", "a" * 70_000, [], [[]], [None], {}, {"": None}, {"\ud800": 1},
    "<|im_end|>", "NaN",
)  # fmt: skip


def bytes_of(content: bytes, rng: random.Random) -> bytes:
    """One to four faults at random places: bits, cuts, copies, foreign numbers."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4))):
        if not data:
            return bytes(data)
        at, length = rng.randrange(len(data)), rng.choice((1, 2, 4, 8, 64, len(data) // 3 + 1))
        fault = rng.randrange(8)
        if fault == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif fault == 1:
            del data[at:]
        elif fault == 2:
            del data[at : at + length]
        elif fault == 3:
            data[at:at] = data[at : at + length] * rng.choice((1, 2, 50))
        elif fault == 4:
            data[at : at + length] = rng.randbytes(length)
        elif fault == 5:
            number = rng.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000, 30_000))
            data[at : at + 4] = struct.pack(rng.choice((">I", "<I")), number)
        elif fault == 6:
            data[at : at + length] = bytes(length)
        else:
            data[at:at] = rng.choice(
                (b"\xff\xfe", b"\xed\xa0\x80", b"\x00", b'"', b"[" * 100_000, b"{}", b"\n", b"1e999")
            )
    return bytes(data)


def json_of(value: Any, rng: random.Random) -> Any:
    """The JSON value with one to three nodes replaced, removed, renamed or wrapped."""
    value = json.loads(json.dumps(value))
    for _ in range(rng.choice((1, 1, 2, 3))):
        places = list(_places(value))
        if not places:
            return rng.choice(HOSTILE)
        holder, key = rng.choice(places)
        fault = rng.randrange(5)
        if fault <= 2:
            holder[key] = rng.choice(HOSTILE)
        elif fault == 3 and isinstance(holder, dict):
            holder[str(rng.choice(HOSTILE))] = holder.pop(key)
        elif fault == 3:
            del holder[key]
        else:
            wrapped: Any = holder[key]
            for _ in range(rng.choice((1, 5, 400))):
                wrapped = [wrapped] if rng.random() < 0.5 else {"x": wrapped}
            holder[key] = wrapped
    return value


def text_of(value: Any, rng: random.Random) -> bytes:
    """A mutated JSON value as text; now and then nested beyond any parser's stack, or damaged as bytes too."""
    if rng.random() < 0.03:
        depth = rng.choice((1000, 100_000))
        return b'{"a":' * depth + b"1" + b"}" * depth if rng.random() < 0.5 else b"[" * depth + b"]" * depth
    text = json.dumps(json_of(value, rng), ensure_ascii=rng.random() < 0.7).encode("utf-8", "surrogatepass")
    return bytes_of(text, rng) if rng.random() < 0.3 else text


def _places(value: Any):
    """Every (container, key) in a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items):
        yield value, key
        yield from _places(inner)
