"""Damaged and hostile texts in place of `params.yaml`: the same number and seed give the same text."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import yaml

from tests.support.mutated_text import damaged

HOLE = "HOLE-IN-THE-TEXT"
SCALARS = (
    "true", "false", "yes", "null", "~", "''", "0", "-1", "-0.0", "0.5", "1e-3", "1e400", "-1e400", ".inf", "-.inf",
    ".nan", "2147483647", "2147483648", "9223372036854775808", "1" + "0" * 400, "1" + "0" * 5000, "0x7fffffff",
    "0o17", "017", "0b11", "1_000", "1e3", "'7'", '"0.5"', "12:30:45", "2001-01-01", "2001-13-45",
    "2001-01-01T25:00:00", "text", "蓝色", "[]", "{}", "[1]", "[1, 2, 3]", "[true, true]", "{a: 1}", "{name: nothing}",
    "{name: [1]}", "[[[[1]]]]", "[,]", "&a 1", "'../../etc/passwd'", "'/dev/zero'", '"\\u001b[31mred"', '"\\0"',
    '"\\ud800"', '"a\\nb"', "'(((((((((((((((((a+)+)+)+)+$'", "!!str 5", "!!int '7'", "!!float '0.5'",
    "!!binary aGFsbG8=", "!!set {a, b}", "!!python/object/apply:os.getpid []", "!mine 3", "!!timestamp '2001-01-01'",
    "!!omap [a: 1]", "!!null x", "!!bool maybe", "|\n    block", "? complex\n    : key",
)  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """A text in place of a sound one."""

    kind: str
    content: bytes
    section: str = ""  # that holds the change, where one does


def mutant(number: int, sound: str, seed: int = 0) -> Mutant:
    """Make a mutant of `params.yaml`.

    Args:
        number: which mutant; its kind follows from the number.
        sound: the sound text.
        seed: another seed gives other mutants.
    """
    chance = random.Random(f"{seed} {number}")
    return KINDS[number % len(KINDS)](chance, sound)


def _bytes(chance: random.Random, sound: str) -> Mutant:
    return Mutant("bytes flipped, cut or spliced", damaged(chance, sound.encode()))


def _scalar(chance: random.Random, sound: str) -> Mutant:
    values = yaml.safe_load(sound)
    holder, key, section = _somewhere(chance, values)
    holder[key] = HOLE
    return Mutant("another value", _dumped(values).replace(HOLE, chance.choice(SCALARS)).encode(), section)


def _keys(chance: random.Random, sound: str) -> Mutant:
    values = yaml.safe_load(sound)
    holder, key, section = _somewhere(chance, values)
    while not isinstance(holder, dict):
        holder, key, section = _somewhere(chance, values)
    how = chance.randrange(5)
    if how == 0:
        del holder[key]
    elif how == 1:
        holder[chance.choice((f"{key}x", "", " ", 1, None, True, 1.5, "a.b", "\x1b[31m", "__class__"))] = holder[key]
    else:
        holder["HOLE"] = 1
    raw = chance.choice(
        (str(key), f"'{key}'", f'"{key}"', f"? {key}\n  ", "<<", "[a, b]", "{a: 1}", "!!str " + str(key))
    )
    return Mutant("a key twice, gone, unknown or no text", _dumped(values).replace("HOLE", raw).encode(), section)


def _encoding(chance: random.Random, sound: str) -> Mutant:
    encodings = ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252", "utf-7")
    how = chance.randrange(10)
    if how < len(encodings):
        return Mutant(
            "another encoding", f"# Größe\n{sound.encode('ascii', 'replace').decode()}".encode(encodings[how])
        )
    place = chance.randrange(len(sound))
    letter = ("\0", "\x07", "\u2028", "\x85", "\ufeff", "\t", "\r", "\x7f")[chance.randrange(8)]
    if how == 7:
        return Mutant("another encoding", sound.replace("\n", "\r\n").encode())
    return Mutant("another encoding", (sound[:place] + letter + sound[place:]).encode())


def _aliases(chance: random.Random, sound: str) -> Mutant:
    bomb = "a: &a [1,1,1,1,1,1,1,1,1]\n"
    for upper, lower in zip("bcdefghi", "abcdefgh", strict=True):
        bomb += f"{upper}: &{upper} [{','.join([f'*{lower}'] * 9)}]\n"
    texts = (
        sound + "\nmore:\n" + "".join(f"  {line}\n" for line in bomb.splitlines()),
        sound + "\nself: &self [*self]\n",
        sound.replace("split:\n", "split: &split\n", 1) + "\nmore: *split\n",
        sound + "\nmore: {<<: {a: 1}, b: 2}\n",
        sound + "\nmore: *nowhere\n",
        sound.replace("split:\n", "split: &split\n", 1),
    )
    return Mutant("aliases", chance.choice(texts).encode())


def _shape(chance: random.Random, sound: str) -> Mutant:
    depth = chance.choice((39, 41, 1000, 100_000))
    texts: tuple[Callable[[], str], ...] = (
        lambda: f"{sound}\nmore: {'[' * depth}{']' * depth}\n",
        lambda: f"{sound}\nmore: {'{a: ' * depth}1{'}' * depth}\n",
        lambda: sound + "\nmore:\n" + "".join(f"{' ' * (n + 1)}a:\n" for n in range(min(depth, 1000))),
        lambda: f"{sound}\nmore: {'- ' * depth}\n",
        lambda: f"{sound}\n#{'x' * chance.choice((1000, 2_000_000))}\n",
        lambda: f"{sound}\nmore: '{'x' * chance.choice((1000, 900_000))}'\n",
        lambda: f"{sound}\nmore: [{'1,' * chance.choice((1000, 400_000))}]\n",
        lambda: f"{sound}\n---\n{sound}",
        lambda: f"%YAML {chance.choice(('1.1', '1.2', '9.9'))}\n---\n{sound}",
        lambda: f"%TAG ! tag:example.org,2000:\n---\n{sound}",
        lambda: chance.choice(
            ("", "[]", "5", "---", "...", "null", "text", "- a", "? a", "extract: 5", "extract:", "&a *a")
        ),
        lambda: f"{sound}\nmore: {'?' * depth}\n",
    )
    return Mutant("depth, size and shape", chance.choice(texts)().encode())


KINDS = (_scalar, _bytes, _scalar, _keys, _scalar, _encoding, _scalar, _aliases, _scalar, _shape)


def _somewhere(chance: random.Random, values: dict[str, Any]) -> tuple[Any, Any, str]:
    """A random place: what holds it, its key, and the name of its section."""
    section = chance.choice(list(values))
    holder: Any = values[section]
    while True:
        key = chance.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
        inner = holder[key]
        if not isinstance(inner, (dict, list)) or not inner or chance.random() < 0.2:
            return holder, key, section
        holder = inner


def _dumped(values: dict[str, Any]) -> str:
    return str(yaml.safe_dump(values, allow_unicode=True, sort_keys=False))
