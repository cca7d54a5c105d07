from __future__ import annotations

from pipeline.base.words import counted


def test_one_is_singular_and_every_other_number_is_plural() -> None:
    assert [counted(number, "clip") for number in (0, 1, 2, 1000)] == ["0 clips", "1 clip", "2 clips", "1000 clips"]
    assert [counted(number, "copy", "copies") for number in (0, 1, 2)] == ["0 copies", "1 copy", "2 copies"]
