"""Class names that a person cannot tell apart: two such folders are one class by mistake, or will be taken for it."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from pipeline.base.errors import DataError

_INVISIBLE_CATEGORIES = frozenset({"Cc", "Cf", "Zl", "Zp", "Zs"})
# Letters that are drawn as nothing although their category does not say so: joiners, fillers and variation selectors.
_INVISIBLE_LETTERS = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0"
    + "".join(map(chr, [*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)]))
)


def refuse_similar_names(names: Iterable[str], where: str) -> None:
    """Refuse class names of which two differ only in case, width, blanks, invisible letters or Unicode spelling.

    `where` is the folder or file that holds them, for the message.

    Raises:
        DataError: two names are alike. The message has the first two, with escapes for what cannot be seen.
    """
    first_with: dict[str, str] = {}
    for name in sorted(set(names)):
        earlier = first_with.setdefault(_what_is_read(name), name)
        if earlier != name:
            earlier_shown, name_shown = _visibly_different(earlier, name)
            raise DataError(
                f"{where}: the classes '{earlier_shown}' and '{name_shown}' differ only in case, width, blanks, "
                "invisible letters or Unicode spelling; make them one class, or rename one"
            )


def _what_is_read(name: str) -> str:
    """What is left of a name without case, width, blanks and invisible letters, in one Unicode spelling."""
    usual_width = "".join(map(_at_usual_width, unicodedata.normalize("NFC", name)))
    seen = "".join(letter for letter in usual_width if not _is_invisible(letter))
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", seen).casefold())


def _at_usual_width(letter: str) -> str:
    width, _, code = unicodedata.decomposition(letter).partition(" ")
    return chr(int(code, 16)) if width in ("<wide>", "<narrow>") else letter


def _is_invisible(letter: str) -> bool:
    return unicodedata.category(letter) in _INVISIBLE_CATEGORIES or letter in _INVISIBLE_LETTERS


def _visibly_different(first: str, second: str) -> tuple[str, str]:
    """The two names, with escapes for what cannot be seen: invisible letters, or the Unicode spelling."""
    if unicodedata.normalize("NFC", first) == unicodedata.normalize("NFC", second):
        return ascii(first)[1:-1], ascii(second)[1:-1]
    return _escaped(first), _escaped(second)


def _escaped(name: str) -> str:
    return "".join(ascii(letter)[1:-1] if _is_invisible(letter) and letter != " " else letter for letter in name)
