"""Damaged and hostile files of weights: the same number and seed give the same file.

A file is bytes that `torch.save` did not write so, or a sound archive of values that no training leaves.
"""

from __future__ import annotations

import copy
import io
import json
import math
import pickle
import random
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.support.mutated_text import damaged
from tests.support.planted_pickle import MakesAFile

BOMB_BYTES = 400 * 2**20
HUGE = 2**40  # numbers that a tensor of a terabyte or more would have


@dataclass(frozen=True)
class Mutant:
    """A file in place of a sound one."""

    kind: str
    content: bytes
    says_so: bool = True  # False: a sound file of other finite weights, which nothing in it tells from the right ones


def mutant(number: int, sound: bytes, suffix: str, marker: Path, seed: int = 0) -> Mutant:
    """Make a mutant of a file of weights.

    Args:
        number: which mutant; its kind follows from the number.
        sound: the bytes of the sound file.
        suffix: .pt, or .safetensors.
        marker: a file that code from the mutant would make.
        seed: another seed gives other mutants.
    """
    chance = random.Random(f"{seed} {number} {suffix}")
    kinds = SAFETENSORS if suffix == ".safetensors" else TORCH
    kind = list(kinds)[number % len(kinds)]
    return kinds[kind](chance, sound, marker)


def _bytes(chance: random.Random, sound: bytes, _: Path) -> Mutant:
    return Mutant("bytes flipped, cut or spliced", damaged(chance, sound))


def _values(chance: random.Random, sound: bytes, _: Path) -> Mutant:
    values = _loaded(sound)
    holder, key = _somewhere(chance, values)
    if chance.random() < 0.15:
        del holder[key]
    else:
        holder[key] = chance.choice(_absurd_values())
    return Mutant("a value replaced or removed", _saved(values))


def _tensors(chance: random.Random, sound: bytes, _: Path) -> Mutant:
    values = _loaded(sound)
    holder, key = chance.choice(list(_tensors_in(values)))
    name = chance.choice(list(TENSOR_CHANGES))
    holder[key] = TENSOR_CHANGES[name](holder[key])
    return Mutant("a tensor of another type, shape or kind", _saved(values), says_so=name not in SAME_OR_FINITE)


def _calibration(chance: random.Random, sound: bytes, marker: Path) -> Mutant:
    values = _loaded(sound)
    holders = [value for value in _mappings_in(values) if "temperature" in value]
    number = chance.choice([0, 0.0, -1.0, -0.0, math.nan, math.inf, -math.inf, True, "1", None, [1.0], 10**400])
    if not holders:  # a file of bare weights
        return _tensors(chance, sound, marker)
    holder = chance.choice(holders)
    name = "temperature" if chance.random() < 0.5 else chance.choice(("frame", "clip", "false_alarms"))
    if name == "temperature":
        holder |= {"temperature": number, "temperature_reason": None}
    else:
        unknown = {"frame": 1.0, "clip": 1.0, "false_alarms": 0.1} | {name: number}
        holder |= {"unknown": unknown, "unknown_reason": None}
    can_be = name in ("frame", "clip") and type(number) in (int, float) and -1 <= number <= 0  # a score may be so low
    return Mutant("a temperature or threshold that cannot be", _saved(values), says_so=not can_be)


def _code(chance: random.Random, sound: bytes, marker: Path) -> Mutant:
    values: Any = {**_loaded(sound), "more": MakesAFile(marker)}
    how = chance.randrange(4)
    if how == 0:
        content = pickle.dumps(MakesAFile(marker))
    elif how == 1:
        content = _saved(values)
    elif how == 2:
        content = _saved(values, _use_new_zipfile_serialization=False)
    else:
        content = _repacked(sound, {"data.pkl": pickle.dumps(MakesAFile(marker), protocol=2)})
    return Mutant("code in a pickle", content)


def _claims(chance: random.Random, sound: bytes, _: Path) -> Mutant:
    """A small file that claims, or unpacks to, much more than it has."""
    how = chance.randrange(5)
    if how == 0:
        content = _repacked(sound, {}, zipfile.ZIP_DEFLATED)
    elif how == 1:
        content = _repacked(sound, {"data/9": bytes(BOMB_BYTES)}, zipfile.ZIP_DEFLATED)
    elif how == 2:
        wide = _loaded(sound)
        holder, key = chance.choice(list(_tensors_in(wide)))
        holder[key] = torch.zeros(1, dtype=holder[key].dtype).expand(HUGE)
        content = _saved(wide)
    elif how == 3:  # a size in the central directory
        data = bytearray(sound)
        place = data.rindex(b"PK\x01\x02")
        data[place + 20 : place + 28] = struct.pack("<II", *[chance.choice((0, 2**31, 2**32 - 2))] * 2)
        content = bytes(data)
    else:
        content = _with_huge_storage(sound)
    return Mutant("claims of more than the file has", content)


def _foreign(chance: random.Random, sound: bytes, _: Path) -> Mutant:
    values = _loaded(sound)
    contents: list[Callable[[], bytes]] = [
        lambda: b"",
        lambda: b"\x7fELF" + chance.randbytes(4000),
        lambda: chance.randbytes(100_000),
        lambda: json.dumps({"a": 1}).encode(),
        lambda: pickle.dumps({"a": 1}),
        lambda: b"PK\x05\x06" + bytes(18),  # a zip of nothing
        lambda: _saved([1, 2, 3]),
        lambda: _saved(None),
        lambda: _saved(torch.zeros(3)),
        lambda: _saved({1: 2}),
        lambda: sound + sound,
        lambda: chance.randbytes(50) + sound,
        lambda: sound[:-1],
        lambda: _saved(values, _use_new_zipfile_serialization=False),  # the older format, whole
        lambda: _saved(values, _use_new_zipfile_serialization=False)[: len(sound) // 2],
        lambda: _repacked(sound, {"version": b"99999\n"}),
        lambda: _repacked(sound, {"byteorder": b"big"}),
        lambda: _repacked(sound, {"data.pkl": _deep_pickle()}),
    ]
    return Mutant("a file of another kind, or packed otherwise", chance.choice(contents)())


def _header(chance: random.Random, sound: bytes, _: Path) -> Mutant:
    """A `.safetensors` file whose header lies."""
    length = struct.unpack("<Q", sound[:8])[0]
    header, data = json.loads(sound[8 : 8 + length]), sound[8 + length :]
    name = chance.choice([name for name in header if name != "__metadata__"])
    how = chance.randrange(9)
    entry = header[name]
    if how == 0:
        return Mutant(
            "a header that lies", struct.pack("<Q", chance.choice((0, 1, 2**31, 2**63, 2**64 - 1))) + sound[8:]
        )
    if how == 1:
        entry["shape"] = [HUGE, 2**30]
    elif how == 2:
        entry["data_offsets"] = [0, 2**62]
    elif how == 3:
        entry["dtype"] = chance.choice(("F64", "I32", "BOOL", "F9", "", None, 7))
    elif how == 4:
        entry["shape"] = chance.choice(([], [-1], [2.5], "x", [0], entry["shape"] + [1]))
    elif how == 5:
        del header[name]
    elif how == 6:
        header[name + "\x1b[31m"] = header.pop(name)
    elif how == 7:
        entry["data_offsets"] = entry["data_offsets"][::-1]
    else:
        header["more"] = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    text = json.dumps(header).encode()
    return Mutant("a header that lies", struct.pack("<Q", len(text)) + text + data)


def _header_or_bytes(chance: random.Random, sound: bytes, _: Path) -> Mutant:
    content = damaged(chance, sound)
    length = struct.unpack("<Q", sound[:8])[0]
    # The format has no checksum: changed numbers of the same length are other numbers.
    same = len(content) == len(sound) and content[: 8 + length] == sound[: 8 + length]
    return Mutant("bytes flipped, cut or spliced", content, says_so=not same)


def _safe_tensors(chance: random.Random, sound: bytes, _: Path) -> Mutant:
    from safetensors.torch import load, save

    values = load(sound)
    name = chance.choice(list(values))
    change = chance.choice([change for change in TENSOR_CHANGES if change not in NOT_IN_SAFETENSORS])
    values[name] = TENSOR_CHANGES[change](values[name]).contiguous()
    return Mutant("a tensor of another type, shape or kind", save(values), says_so=change not in SAME_OR_FINITE)


def _safe_foreign(chance: random.Random, sound: bytes, marker: Path) -> Mutant:
    contents = (
        b"",
        b"{}",
        bytes(8),
        chance.randbytes(5000),
        pickle.dumps(MakesAFile(marker)),
        sound + b"x",
        sound[:-1],
    )
    return Mutant("a file of another kind, or packed otherwise", chance.choice(contents))


Maker = Callable[[random.Random, bytes, Path], Mutant]
TORCH: dict[str, Maker] = {
    "bytes": _bytes, "values": _values, "tensors": _tensors, "calibration": _calibration, "code": _code,
    "claims": _claims, "foreign": _foreign,
}  # fmt: skip
SAFETENSORS: dict[str, Maker] = {
    "bytes": _header_or_bytes, "header": _header, "tensors": _safe_tensors, "foreign": _safe_foreign
}  # fmt: skip

TENSOR_CHANGES: dict[str, Callable[[Tensor], Any]] = {
    "int64": lambda tensor: tensor.to(torch.int64),
    "bool": lambda tensor: tensor.to(torch.bool),
    "complex": lambda tensor: tensor.to(torch.complex64) * (1 + 1j),
    "uint8": lambda tensor: tensor.to(torch.uint8),
    "half": lambda tensor: tensor.half(),
    "bfloat16": lambda tensor: tensor.bfloat16(),
    "double": lambda tensor: tensor.double(),
    "float8": lambda tensor: tensor.float().to(torch.float8_e4m3fn),
    "nan": lambda tensor: _with_first(tensor, math.nan),
    "infinity": lambda tensor: _with_first(tensor, math.inf),
    "too large for float32": lambda tensor: tensor.double() * 1e300 + 1e300,
    "other": lambda tensor: _with_first(tensor, 0.5),
    "longer": lambda tensor: torch.cat([tensor.flatten(), tensor.flatten()]),
    "flat": lambda tensor: tensor.flatten()[None],
    "empty": lambda tensor: tensor.flatten()[:0],
    "scalar": lambda tensor: tensor.flatten()[0].clone(),
    "not contiguous": lambda tensor: torch.stack([tensor, tensor], dim=-1)[..., 0],
    "gradient": lambda tensor: tensor.clone().float().requires_grad_(),
    "sparse": lambda tensor: tensor.to_sparse(),
    "on no device": lambda tensor: tensor.to("meta"),
    "quantised": lambda tensor: torch.quantize_per_tensor(tensor.float(), 0.1, 0, torch.qint8),
    "a list": lambda tensor: tensor.tolist(),
}
SAME_OR_FINITE = ("half", "bfloat16", "double", "other", "not contiguous", "gradient", "float8")
NOT_IN_SAFETENSORS = ("sparse", "on no device", "quantised", "a list", "gradient", "complex")


def _with_first(tensor: Tensor, value: float) -> Tensor:
    changed = tensor.clone()
    if changed.is_floating_point():
        changed.view(-1)[0] = value
    return changed


def _absurd_values() -> list[Any]:
    deep: list[Any] = []
    for _ in range(200):
        deep = [deep]
    numbers = [True, -1, 0, 1, 2, 0.5, 2**31, 2**63, 10**400, 1e308, -1e-308, math.nan, math.inf]
    names = ["", "x" * 100_000, "../escaped", "\x1b[31m", "\ud800", "蓝色", "squash", "imagenet"]
    return [None, *numbers, *names, [], {}, (), [[]] * 1000, deep, {"a": 1}, torch.zeros(3), b"bytes", 1j]


def _loaded(content: bytes) -> Any:
    return torch.load(io.BytesIO(content), weights_only=True)


def _saved(value: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, **options)
    return file.getvalue()


def _somewhere(chance: random.Random, values: Any) -> tuple[Any, Any]:
    """A random place below a value: what holds it, and its key."""
    holder = values
    while True:
        key = chance.choice(list(holder) if isinstance(holder, Mapping) else range(len(holder)))
        if isinstance(holder[key], tuple):
            holder[key] = list(holder[key])
        inner = holder[key]
        if not isinstance(inner, (Mapping, list)) or not inner or chance.random() < 0.15:
            return holder, key
        holder = inner


def _mappings_in(values: Any) -> list[Any]:
    inner = values.values() if isinstance(values, Mapping) else values if isinstance(values, list) else ()
    own = [values] if isinstance(values, Mapping) else []
    return own + [mapping for value in inner for mapping in _mappings_in(value)]


def _tensors_in(values: Any) -> list[tuple[Any, Any]]:
    return [
        (holder, key) for holder in _mappings_in(values) for key, value in holder.items() if isinstance(value, Tensor)
    ]


def _repacked(sound: bytes, changes: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """The same archive with parts changed or added, named below its top folder."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(sound)) as archive, zipfile.ZipFile(file, "w", compression) as changed:
        top = archive.namelist()[0].split("/")[0]
        parts = {name: archive.read(name) for name in archive.namelist()}
        for name, content in (parts | {f"{top}/{name}": content for name, content in changes.items()}).items():
            changed.writestr(name, content)
    return file.getvalue()


def _with_huge_storage(sound: bytes) -> bytes:
    """A tensor whose storage claims a terabyte of numbers."""
    values = copy.deepcopy(_loaded(sound))
    holder, key = _tensors_in(values)[0]
    holder[key] = torch.zeros(12_345, dtype=torch.float32)
    with zipfile.ZipFile(io.BytesIO(_saved(values))) as archive:
        name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        pickled = archive.read(name)
    claimed = pickled.replace(b"M" + struct.pack("<H", 12_345), b"\x8a\x06" + HUGE.to_bytes(6, "little"))
    return _repacked(_saved(values), {"data.pkl": claimed})


def _deep_pickle() -> bytes:
    return b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b"."
