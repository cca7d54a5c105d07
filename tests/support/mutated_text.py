"""Changes of bytes and of JSON."""

from __future__ import annotations

import json
import random
from typing import Any

DAMAGES = ("flipped", "truncated", "spliced")


def damaged(chance: random.Random, content: bytes) -> bytes:
    """Flip some bytes, cut the end off, or leave out, repeat or replace a piece."""
    how, data = chance.choice(DAMAGES), bytearray(content)
    if how == "truncated" or not data:
        return bytes(data[: chance.randrange(len(data) + 1)])
    if how == "flipped":
        for _ in range(chance.choice((1, 1, 2, 8))):
            data[chance.randrange(len(data))] ^= chance.randrange(1, 256)
        return bytes(data)
    start = chance.randrange(len(data))
    end = min(len(data), start + chance.choice((1, 4, 64, 4096)))
    data[start:end] = chance.choice((b"", bytes(data[start:end]) * 2, chance.randbytes(end - start), b"\xff" * 10))
    return bytes(data)


def changed_json(chance: random.Random, text: bytes, root: str) -> bytes:
    """Replace, remove or double one value anywhere in the JSON, or damage the text itself."""
    if chance.random() < 0.2:
        return damaged(chance, text)
    values = json.loads(text)
    holder, key = _somewhere(chance, values)
    what = chance.random()
    if what < 0.1:
        del holder[key]
    elif what < 0.2 and isinstance(holder, dict):
        holder[key + "x"] = holder[key]
    elif what < 0.3 and isinstance(holder, list):
        holder.append(holder[key])
    else:
        holder[key] = chance.choice(_absurd(root))
    changed = json.dumps(values, ensure_ascii=False).encode("utf-8", "surrogatepass")
    if what > 0.95:
        return changed.replace(b"{", b'{"format_version": 1, ', 1)  # a repeated key
    return changed


def _somewhere(chance: random.Random, values: Any) -> tuple[Any, Any]:
    holder = values
    while True:
        key = chance.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
        inner = holder[key]
        if not isinstance(inner, dict | list) or not inner or chance.random() < 0.2:
            return holder, key
        holder = inner


def _absurd(root: str) -> list[Any]:
    deep: list[Any] = []
    for _ in range(900):
        deep = [deep]
    numbers = [True, -1, 0, 1, 2, 0.5, 2**63, 10**400, 1e308, -1e-308, float("nan"), float("inf")]
    names = ["", "x" * 100_000, "../escaped", f"{root}/escaped", "model.onnx", "golden.json", "fp32", "\ud800", "蓝色"]
    return [None, *numbers, *names, [], {}, [[]] * 1000, deep, {"a": 1}]
