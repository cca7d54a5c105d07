"""Words of messages that depend on a number."""

from __future__ import annotations


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return the number with its noun: 1 clip, 2 clips.

    Args:
        number: how many.
        noun: in the singular.
        plural: of a noun whose plural does more than add s.
    """
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"
