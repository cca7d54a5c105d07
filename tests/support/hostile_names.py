"""Hostile names of classes and files: the same number and seed give the same name, as the bytes of a file system."""

from __future__ import annotations

import random
from dataclasses import dataclass

PIECES = {
    "terminal escapes": (
        b"\x1b[31m",
        b"\x1b]0;title\x07",
        b"\x1b[2J",
        b"\x07",
        b"\x08\x08",
        b"\x9b1m",
        "\x9b1m".encode(),
        b"\r",
    ),
    "ends of lines": (b"\n", b"\r\n", "\u2028".encode(), "\u2029".encode(), b"\x0b", "\x85".encode()),
    "formula starts": (
        b"=1+1",
        b"+1",
        b"-1",
        b"@SUM(A1)",
        b"=cmd|' /C calc'!A0",
        b"'=1",
        b"''+1",
        b"\t=1",
        b"-",
        b"--help",
        b"-rf",
    ),
    "bidi and zero width": tuple(
        text.encode()
        for text in ("\u202e", "\u2066", "\u200b", "\u200d", "\ufeff", "\u061c", "\u00ad", "\u3164", "\U000e0041")
    ),
    "markup": (
        b"<script>alert(1)</script>",
        b"&amp;",
        b'"onload="x',
        b"{{7*7}}",
        b"[red]",
        b"%s%n",
        b"$(id)",
        b"`id`",
        b"'; --",
        b"${x}",
    ),
    "bytes that are no UTF-8": (b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xc0\xaf"),
    "names of Windows": (b"CON", b"nul", b"com1", b"LPT9.x", b"aux", b"a:b", b"a\\b", b"a|b", b"a*b?", b"CONIN$"),
    "blanks and dots": (b" ", b"a ", b" a", b"a.", b"a..", b"...", b"a . ", "\u00a0a".encode(), "\u3000".encode()),
    "length": (b"x" * 200, b"x" * 219, b"x" * 221, b"x" * 250, "砾".encode() * 73, "e\u0301".encode() * 60),
    "Unicode": tuple(
        text.encode()
        for text in ("é", "e\u0301", "ﬁ", "Ａ", "ß", "İ", "🪨", "👩‍👩‍👧", "क्षि", "\U0001f1e9\U0001f1ea", "𝒜")
    ),
    "meaning of our own": (
        b"train",
        b"test",
        b"_",
        b".hidden",
        b"__pycache__",
        b"none of the classes",
        b"null",
        b"0",
        b"nan",
        b"1e5",
        b"label",
        b"._a",
        b"Thumbs.db",
        b"~",
        b"#",
        b"%20",
    ),
}
_SUFFIXES = ("", "a", "flake", "7", "b.c")


@dataclass(frozen=True)
class Name:
    """A name that somebody may give to a folder or file."""

    kind: str
    content: bytes


def hostile_name(number: int, seed: int = 0) -> Name:
    """Make a name: one hostile piece, or several, with plain letters around them.

    Args:
        number: which name; its kind follows from the number.
        seed: another seed gives other names.
    """
    chance = random.Random(f"{seed} {number}")
    kind = list(PIECES)[number % len(PIECES)]
    pieces = chance.choices(PIECES[kind], k=chance.choice((1, 1, 2)))
    if chance.random() < 0.2:
        pieces.append(chance.choice(PIECES[chance.choice(list(PIECES))]))
    before, after = (chance.choice(_SUFFIXES).encode() for _ in range(2))
    if kind in ("formula starts", "names of Windows", "meaning of our own"):
        before = b""
    content = (before + b"".join(pieces) + after).replace(b"/", b"").replace(b"\0", b"")[:250]
    return Name(kind, b"x" if content in (b"", b".", b"..") else content)
