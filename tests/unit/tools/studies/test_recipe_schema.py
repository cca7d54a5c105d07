"""A comparison may name only columns, curves and rows that exist."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.base.errors import ParamsError
from pipeline.tools.studies.recipe_schema import COMMON_COLUMNS, CompareSection, FigureParams, is_param


def section(*columns: str, curve: str = "train/loss", row: str = "a") -> CompareSection:
    return CompareSection(columns=columns, figures=(FigureParams(title="f", curves=(curve,), rows=(row,)),))


def test_a_dotted_param_is_a_column_and_a_slip_is_not() -> None:
    for name in ("train.lr", "train.loss", "train.loss.gamma", "model.freeze.up_to", "split.near_duplicates.hash_bits"):
        assert is_param(name), name
    for name in ("train", "train.rate", "train.loss.gama", "trian.lr", "lr"):
        assert not is_param(name), name


def test_known_names_are_accepted() -> None:
    assert section(*COMMON_COLUMNS, "train.lr").check_names(["a"], Path("r.yaml")) is None  # does not raise


@pytest.mark.parametrize(
    ("compare", "message"),
    [
        (section("top_1"), "r.yaml: compare.columns: found 'top_1', which is not known; the nearest is 'top1'"),
        (
            section("top1", curve="train/los"),
            "r.yaml: compare.figures: f: curves: found 'train/los', which is not known",
        ),
        (
            section("top1", row="b"),
            "r.yaml: compare.figures: f: rows: found 'b', which is not known; the nearest is 'a'",
        ),
    ],
)
def test_an_unknown_name_is_refused_with_its_place_in_the_recipe(compare: CompareSection, message: str) -> None:
    with pytest.raises(ParamsError) as caught:
        compare.check_names(["a"], Path("r.yaml"))
    assert str(caught.value).startswith(message)
