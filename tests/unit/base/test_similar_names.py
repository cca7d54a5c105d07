"""Class names that read alike are refused with both names; names that a person can tell apart are not."""

from __future__ import annotations

import pytest

from pipeline.base.errors import DataError
from pipeline.base.similar_names import refuse_similar_names


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (("Brick", "brick"), "'Brick' and 'brick'"),
        (("STRASSE", "straße"), "'STRASSE' and 'straße'"),
        (("ＡＢ１", "ab1"), "'ab1' and 'ＡＢ１'"),
        (("ガラス", "ｶﾞﾗｽ"), "'ガラス' and 'ｶﾞﾗｽ'"),
        (("talking head", "talkinghead"), "'talking head' and 'talkinghead'"),
        (("wet sand", "wet\u3000sand"), r"'wet sand' and 'wet\u3000sand'"),
        (("brick", "brick "), "'brick' and 'brick '"),
        (("砾石", "砾\u200b石"), r"'砾\u200b石' and '砾石'"),
        (("brick", "bri\u00adck"), r"'brick' and 'bri\xadck'"),
        (("a\ufe0f", "a"), r"'a' and 'a\ufe0f'"),
        (("돌\u3164", "돌"), r"'돌' and '돌\u3164'"),
        (("café", "cafe\u0301"), r"'cafe\u0301' and 'caf\xe9'"),
    ],
)
def test_names_that_read_alike_are_refused_with_both(names: tuple[str, str], shown: str) -> None:
    for ordered in (names, names[::-1]):
        with pytest.raises(DataError) as caught:
            refuse_similar_names(["other", *ordered], "data/raw")
        assert str(caught.value).startswith(f"data/raw: the classes {shown} differ only in case, width, blanks, ")


def test_names_that_differ_in_a_letter_that_is_seen_are_fine() -> None:
    names = [
        "a",
        "b",
        "a1",
        "a_1",
        "m2",
        "m²",
        "砾石",
        "礫石",
        "cafe",
        "café",
        "ガラス",
        "カラス",
        "brick",
        "bricks",
        "a",
    ]
    assert refuse_similar_names(names, "data/raw") is None  # does not raise
