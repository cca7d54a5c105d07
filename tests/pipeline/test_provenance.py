"""What a training run writes of its origins."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline.files import Project, read_json, sha256_of
from pipeline.provenance import weights_licence


def test_training_writes_its_data_settings_and_versions(exported: Project) -> None:
    found = read_json(exported.train_reports / "provenance.json")
    assert found["git"] is None  # the folder is no repository
    assert found["data"] == sha256_of(exported.split_csv)
    assert found["params"]["model"]["arch"] == "resnet18"
    assert found["params"]["train"]["epochs"] == 3
    assert found["versions"]["torch"] == str(torch.__version__).split("+")[0]


@pytest.mark.parametrize(
    ("arch", "weights", "said"),
    [
        ("resnet18", "none", "random weights"),
        ("resnet18", str(Path("somewhere") / "mine.pt"), "not known here: it started from the file mine.pt"),
        ("efficientnet_lite0", "imagenet", "Apache-2.0"),
        ("timm:tf_efficientnet_lite0", "imagenet", "apache-2.0"),
        ("resnet18", "imagenet", "not stated"),
        ("vit_h_14", "imagenet", "SWAG"),  # torchvision's, of which some may not be used for business
    ],
)
def test_the_licence_of_the_first_weights_is_told_or_said_not_to_be_known(arch: str, weights: str, said: str) -> None:
    assert said in weights_licence(arch, weights)
