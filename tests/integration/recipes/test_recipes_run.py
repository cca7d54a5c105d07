"""Each recipe goes from photos to a judged network, by the same steps in reduced size.

`recipes/small.yaml` lies over the row, as in `pipe study graphite --small`. Graphite's VGG16 with its
published head is left out: 134 million parameters at any picture size need more than 2 GB with gradients and moments.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.augment.stage import augment
from pipeline.base import manifest
from pipeline.base.errors import DataError
from pipeline.base.files import read_json
from pipeline.base.project import Project
from pipeline.evaluate.stage import evaluate
from pipeline.network.checkpoint import read_checkpoint
from pipeline.params import Params, read_params
from pipeline.split.stage import split
from pipeline.tools.studies.recipe import apply_recipe
from pipeline.train.stage import train
from tests.support.small_project import ROOT, photo_project

LABELS = {
    "graphite": ("鳞片石墨", "膨胀石墨", "人造石墨", "炭黑"),
    "cub": tuple(f"{number:03}.bird" for number in range(6)),
    "pothole": ("normal", "potholes"),
    "catsdogs": ("cat", "dog"),
}
N_PHOTOS = {"pothole": 10, "catsdogs": 10}  # of each class; of the others 5
ROWS = [  # `tests/trials/every_row.py` runs all
    ("graphite", "I-MobileNet V2 + FL"),  # frozen, hidden layers, focal
    ("cub", "MobileNetV2, Joint Loss"),  # joint, several steps of the rate
    ("pothole", "ResNet-18, 10 epochs"),  # the best epoch on the test side
    ("catsdogs", "small CNN + augmentation"),  # one sigmoid unit, flattened
]


@pytest.fixture(autouse=True)
def _at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def in_small(project: Project, study: str, row: str) -> Params:
    """The params of a row with the overlay on top."""
    shutil.copytree(ROOT / "recipes", project.recipes)
    yaml = YAML()
    rows = yaml.load(project.recipes / f"{study}.yaml")["rows"]
    yaml.dump({"params": rows[row]}, project.recipes / "row.yaml")
    for name in (study, "row", "small"):
        apply_recipe(name, project)
    return read_params(project.params_yaml)


@pytest.mark.parametrize(("study", "row"), ROWS)
def test_a_row_trains_and_is_judged(tmp_path: Path, study: str, row: str) -> None:
    project = photo_project(tmp_path / "project", LABELS[study], N_PHOTOS.get(study, 5))
    params = in_small(project, study, row)
    augment(params.augment, project)
    split(params.split, project)
    train(params.train, params.model, params.image, project)
    judged = evaluate(params.evaluate, project)

    sides = {row.split for row in manifest.read_split(project.split_csv)}
    assert sides >= ({"train", "val", "test"} if study == "catsdogs" else {"train", "test"})
    value = read_json(project.evaluate_json)
    assert value["n_frames"] >= 2
    assert 0 <= judged.frames.top1 <= 1
    assert (value["top5"] is None) == (len(LABELS[study]) < 6)
    assert judged.optimistic is not None
    is_open = "photos of one object may be on both sides" in judged.optimistic  # nobody confirmed their groups
    assert is_open == (params.split.protocol == "grouped")
    assert ("chosen on the test frames" in judged.optimistic) == (params.train.keep == "best_test")
    network = read_json(project.train_reports / "network.json")
    assert (network["n_trained_parameters"] == network["n_parameters"]) == (params.model.freeze == "none")
    checkpoint = read_checkpoint(project.checkpoint)
    assert checkpoint.model == params.model
    assert not [name for name in checkpoint.state_dict if "centre" in name]
    curves = json.loads((project.train_reports / "metrics.json").read_text(encoding="utf-8"))
    assert ("test" in curves) == params.train.watch_test
    assert ("val" in curves) == ("val" in sides)


def test_without_the_overlay_a_handful_of_photos_is_too_few_for_the_numbers_of_the_text(tmp_path: Path) -> None:
    project = photo_project(tmp_path / "project", LABELS["catsdogs"], 10)
    params = in_small(project, "catsdogs", "small CNN")
    apply_recipe("catsdogs", project)
    augment(params.augment, project)
    with pytest.raises(DataError, match=r"has 10 images with kept frames; split\.counts asks for 2000"):
        split(read_params(project.params_yaml).split, project)
