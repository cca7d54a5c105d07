"""Every number of the five studies' texts is in the recipes, and every number of the recipes is accounted for."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from ruamel.yaml import YAML

from pipeline.base.errors import ParamsError
from pipeline.base.manifest import Row
from pipeline.base.project import Project
from pipeline.params import Params, read_params
from pipeline.split.params import SplitParams
from pipeline.split.protocols import assign_sides
from pipeline.tools.studies.recipe import apply_recipe
from pipeline.train.optimizers import build_optimizer
from tests.support.recipes.lines import Table
from tests.support.recipes.tables import STUDIES
from tests.support.small_project import ROOT, without_search

ROWS = [(study, row) for study, (_, table) in STUDIES.items() for row in table if row != "*"]
COLUMNS = {
    "published_year", "published_parameters", "imagenet_top1",
    "parameters", "trained_parameters", "layers", "batch_norm", "residual", "top1", "top5", "group_top1",
    "group_top1_low", "group_top1_high", "auc", "mse", "nll",
    "train_loss", "test_loss", "minutes", "best_accuracy", "best_epoch", "stability_loss", "stability_acc",
}  # fmt: skip
CURVES = {f"{side}/{what}" for side in ("train", "val", "test") for what in ("loss", "accuracy", "mse")}
CURVES |= {"train/lr", "roc"}


def recipe(study: str) -> dict[str, Any]:
    return dict(YAML(typ="safe", pure=True).load((ROOT / "recipes" / f"{study}.yaml").read_text(encoding="utf-8")))


def compose(project: Project, *parts: dict[str, Any]) -> Params:
    """The params after each part was applied as a recipe."""
    project.recipes.mkdir(exist_ok=True)
    for part in parts:
        YAML().dump({"params": part}, project.recipes / "part.yaml")
        apply_recipe("part", project)
    return read_params(project.params_yaml)


def composed(project: Project, study: str, row: str) -> Params:
    values = recipe(study)
    return compose(project, values["params"], values["rows"][row])


def value_of(params: Params, name: str) -> Any:
    value: Any = params.model_dump(mode="json")
    for part in name.split("."):
        value = value[part]
    return value


def wrong_lines(params: Params, table: Table, row: str) -> list[str]:
    """The names whose value differs from the table's. An int and a float of the same value are equal."""
    return [name for name, value, _ in [*table["*"], *table[row]] if value_of(params, name) != value]


@pytest.mark.parametrize(("study", "row"), ROWS)
def test_a_row_says_what_its_text_says(project: Project, study: str, row: str) -> None:
    assert wrong_lines(composed(project, study, row), STUDIES[study][1], row) == []


@pytest.mark.parametrize(
    ("study", "row", "changed"),
    [
        ("graphite", "I-VGG16 + FL", {"train": {"loss": {"name": "focal", "gamma": 0.26, "alpha": None}}}),
        ("graphite", "VGG16", {"train": {"lr": 0.0003}}),
        ("fish", "ResNet34", {"split": {"rounding": "nearest"}}),
        ("lfw", "ResNet34, Joint Loss", {"train": {"loss": {"centre_lr": 0.6}}}),
        ("cub", "ResNet34, Joint Loss", {"train": {"schedule": {"at": [50, 150, 251]}}}),
        ("pothole", "ResNet-152, 10 epochs", {"image": {"std": [0.229, 0.224, 0.226]}}),
        ("catsdogs", "VGG19, block 5 open", {"model": {"freeze": {"open_convolutions": 3}}}),
    ],
)
def test_a_changed_number_is_seen(project: Project, study: str, row: str, changed: dict[str, Any]) -> None:
    composed(project, study, row)
    name = next(f"{section}.{key}" for section, values in changed.items() for key in values)
    wrong = wrong_lines(compose(project, changed), STUDIES[study][1], row)
    assert wrong
    assert all(line.startswith(name) for line in wrong)


@pytest.mark.parametrize("study", STUDIES)
def test_the_tables_know_every_row_and_every_value_of_a_recipe(study: str) -> None:
    values, table = recipe(study), STUDIES[study][1]
    assert {*values["rows"], "*"} == set(table)
    known = {row: {name for name, _, _ in lines} for row, lines in table.items()}
    in_every_row = set.intersection(*(known[row] for row in values["rows"]))
    assert _names(values["params"]) <= known["*"] | in_every_row
    for row, changed in values["rows"].items():
        assert _names(changed) <= known[row], row


def _names(values: dict[str, Any]) -> set[str]:
    return {f"{section}.{key}" for section, keys in values.items() for key in keys}


@pytest.mark.parametrize("study", STUDIES)
def test_a_recipe_means_the_same_after_any_other(tmp_path: Path, study: str) -> None:
    first_row = next(iter(recipe(study)["rows"]))
    params_of = []
    for others in ([], [other for other in STUDIES if other != study]):
        (tmp_path / str(len(others))).mkdir()
        project = Project(tmp_path / str(len(others)))
        shutil.copy(ROOT / "params.yaml", project.root)
        for other in others:
            composed(project, other, next(iter(recipe(other)["rows"])))
        params_of.append(_without_ineffective(composed(project, study, first_row)))
    assert params_of[0] == params_of[1]


def _without_ineffective(params: Params) -> dict[str, Any]:
    values = params.model_dump()
    values["extract"].pop("frames_per_second")  # four of the studies have photos
    if params.model.head != "fc":
        del values["model"]["fc_widths"], values["model"]["fc_dropouts"]
    if params.train.optimizer != "sgd":
        del values["train"]["momentum"], values["train"]["nesterov"]
    if params.train.optimizer != "rmsprop":
        del values["train"]["rmsprop_alpha"]
    if not params.train.watch_test:
        del values["train"]["test_called"]
    if params.image.crop == "squash":
        del values["image"]["center_fraction"]
    return values


@pytest.mark.parametrize("study", STUDIES)
def test_a_comparison_names_known_columns_curves_and_rows(study: str) -> None:
    values = recipe(study)
    assert {name for name in values["compare"]["columns"] if "." not in name} <= COLUMNS
    for figure in values["compare"]["figures"]:
        assert set(figure) - {"caption"} == {"title", "curves", "rows"}
        assert set(figure["curves"]) <= CURVES
        assert set(figure["rows"]) <= set(values["rows"])


def missing_words(text: str, table: Table) -> list[str]:
    """The words that a table quotes and the text lacks, whatever its line breaks."""
    bare = re.sub(r"\s", "", text)
    words = [words for lines in table.values() for _, _, words in lines if not words.startswith("ours")]
    return [quoted for quoted in words if re.sub(r"\s", "", quoted) not in bare]


@pytest.mark.parametrize("study", STUDIES)
def test_every_quotation_stands_in_the_text(shared: Path, study: str) -> None:
    number, table = STUDIES[study]
    text = next((shared / "seeds").glob(f"{number}_*.txt")).read_text(encoding="utf-8")
    assert missing_words(text, table) == []
    assert missing_words(text, {"*": [("train.lr", 1, "以 0.0003 为初始学习率")]})


def captions(study: str) -> list[str]:
    """The captions of a recipe's table and figures."""
    compared = recipe(study)["compare"]
    return [part["caption"] for part in (compared, *compared["figures"]) if "caption" in part]


@pytest.mark.parametrize("study", STUDIES)
def test_every_caption_stands_in_the_text(shared: Path, study: str) -> None:
    text = next((shared / "seeds").glob(f"{STUDIES[study][0]}_*.txt")).read_text(encoding="utf-8")
    table = {"*": [("caption", caption, caption) for caption in captions(study)]}
    assert table["*"]
    assert missing_words(text, table) == []
    assert missing_words(text, {"*": [("caption", "", captions(study)[0] + "之")]})


# The numbers of pictures, on generated rows


def sides(params: Params, sizes: dict[str, int], n_copies: int = 0) -> Counter[tuple[str, str]]:
    """How many pictures of each class are on each side; every picture is a photo of its own."""
    frames = [
        Row(f"{label}/{number}", label, f"raw/{label}/{number}", "", f"raw/{label}/{number}")
        for label, size in sizes.items()
        for number in range(size)
    ]
    copies = [
        Row(f"{frame.path}.{copy}", frame.label, frame.source, "", frame.group, parent=frame.path)
        for frame in frames
        for copy in range(n_copies)
    ]
    side_of = assign_sides(frames, copies, without_search(params.split), {}, Path("data/frames.csv"))
    return Counter((row.label, side_of[row.path]) for row in [*frames, *copies])


def test_table_1_of_the_graphite_study(project: Project) -> None:
    params = composed(project, "graphite", "VGG16")
    sizes = {"鳞片石墨": 204, "膨胀石墨": 193, "人造石墨": 143, "炭黑": 175}
    assert sum(sizes.values()) == 715  # 筛选后共得到 715 张样本图像
    counted = sides(params, sizes, n_copies=len(params.augment.copies))
    assert {label: counted[label, "train"] + counted[label, "test"] for label in sizes} == {
        "鳞片石墨": 1020, "膨胀石墨": 965, "人造石墨": 715, "炭黑": 875,
    }  # fmt: skip
    assert {label: (counted[label, "train"], counted[label, "test"]) for label in sizes} == {
        "鳞片石墨": (816, 204), "膨胀石墨": (772, 193), "人造石墨": (572, 143), "炭黑": (700, 175),
    }  # fmt: skip
    assert counted.total() == 3575  # 最终得到 3 575 张图像


def test_the_fish_study_has_1739_photos_and_178(project: Project) -> None:
    params = composed(project, "fish", "ResNet34")
    # 30 classes whose sizes are not given: these sum to 1,917, and rounding down is what makes 178 of them.
    sizes = {f"fish{number:02}": size for number, size in enumerate([69] * 13 + [62] * 10 + [60] * 5 + [50] * 2)}
    assert sum(sizes.values()) == 1917  # 样本集数量(1 917个)
    for split in (params, _with_split(params, rounding="nearest")):
        counted = sides(split, sizes, n_copies=len(params.augment.copies))
        n_test = sum(number for (_, side), number in counted.items() if side == "test")
        assert (n_test == 178) == (split is params)
        assert sum(counted[label, "train"] for label in sizes) == (1917 - n_test) * 3  # each with its two copies


def test_cats_and_dogs_are_1000_500_and_500_each(project: Project) -> None:
    params = composed(project, "catsdogs", "small CNN")
    sizes = {"cat": 12_500, "dog": 12_500}  # 两个类别都有 12500 张
    assert sides(params, sizes) == {
        (label, side): number
        for label in sizes
        for side, number in {"train": 1000, "val": 500, "test": 500, "unused": 10_500}.items()
    }
    # 整个数据集被分成了 20 个 batch, 每一个 batch 有 100 个样本
    assert 2 * 1000 / params.train.batch_size == 20


@pytest.mark.parametrize(("study", "n_classes"), [("lfw", 20), ("cub", 100)])
def test_faces_and_birds_are_divided_8_to_2_without_a_validation_side(
    project: Project, study: str, n_classes: int
) -> None:
    params = composed(project, study, "ResNet34, Joint Loss")
    sizes = {f"class{number:03}": 60 for number in range(n_classes)}
    counted = sides(params, sizes)
    assert {counted[label, "test"] for label in sizes} == {12}
    assert {counted[label, "train"] for label in sizes} == {48}
    assert {side for _, side in counted} == {"train", "test"}


def _with_split(params: Params, **changed: object) -> Params:
    split = SplitParams.model_validate(params.split.model_dump() | changed)
    return params.model_copy(update={"split": split})


# The meaning of names in the recipes


def test_adam_with_a_nesterov_momentum_of_0_9(project: Project) -> None:
    params = composed(project, "graphite", "VGG16").train  # 使用 Adam 优化器 … Nesterov 动量设为 0.9
    optimizer = build_optimizer(params, [("weight", torch.nn.Parameter(torch.zeros(1)))])
    assert isinstance(optimizer, torch.optim.NAdam)
    assert optimizer.defaults["betas"][0] == 0.9


def test_a_row_that_does_not_hold_together_is_refused(project: Project) -> None:
    with pytest.raises(ParamsError, match="gamma"):
        compose(project, {"train": {"loss": {"name": "focal", "alpha": None}}})
