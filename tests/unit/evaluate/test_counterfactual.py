"""The counterfactual: large where frames of a group are alike, nothing where every frame is its own group."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from pipeline.evaluate.counterfactual import Floats, counterfactual
from pipeline.network.backbones import build_body


def _frames(n_groups: int, per_group: int, *, shared: float) -> tuple[Floats, list[str], list[str]]:
    """Features of two classes: a weak sign of the class, and a part of size `shared` that frames of a group share."""
    generator = np.random.default_rng(0)
    groups = [f"{label}{index}" for label in "ab" for index in range(n_groups) for _ in range(per_group)]
    of_group = {group: generator.normal(0, shared, 40) + 0.15 * (group[0] == "a") for group in sorted(set(groups))}
    features = np.array([of_group[group] + generator.normal(0, 1, 40) for group in groups], np.float32)
    return features, [group[0] for group in groups], groups


def test_frames_that_resemble_their_clip_make_the_shuffle_claim_too_much() -> None:
    result = counterfactual(*_frames(8, 15, shared=2.0)).value
    assert result is not None
    assert result.difference > 0.2
    assert result.shuffled - result.grouped == pytest.approx(result.difference)
    sentence = result.to_json()["sentence"]
    assert f"{result.shuffled:.1%}" in sentence
    assert f"{result.grouped:.1%}" in sentence


def test_frames_that_share_nothing_show_no_difference() -> None:
    result = counterfactual(*_frames(120, 1, shared=0.0)).value
    assert result is not None
    assert abs(result.difference) <= max(result.spread, 0.02)


def test_too_few_clips_give_no_number_but_a_reason() -> None:
    result = counterfactual(*_frames(2, 10, shared=1.0))
    assert result.value is None
    assert "at least 3 clips" in (result.reason or "")


@pytest.mark.parametrize("per_group", [3, 20])  # fewer frames than features, and more
def test_equal_features_say_nothing_either_way(per_group: int) -> None:
    features, labels, groups = _frames(5, per_group, shared=1.0)
    result = counterfactual(np.full_like(features, 0.1234567), labels, groups).value
    assert result is not None
    assert (result.shuffled, result.grouped) == (0.5, 0.5)


def _embed(paths: list[Path], weights: Path) -> Floats:
    backbone = build_body("mobilenet_v2", str(weights), plain=False).backbone.eval()
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    embeddings = []
    for path in paths:
        small_hwc = cv2.resize(cv2.imread(str(path))[:, :, ::-1], (224, 224), interpolation=cv2.INTER_AREA)
        input_nchw = torch.from_numpy(((small_hwc / 255 - mean) / std).transpose(2, 0, 1)[np.newaxis]).float()
        with torch.inference_mode():
            embeddings.append(backbone(input_nchw).mean(dim=(2, 3))[0].numpy())
    return np.array(embeddings)


@pytest.mark.trial
def test_on_tracked_fish_a_shuffle_claims_ten_points_too_much_and_on_photos_nothing(shared: Path) -> None:
    weights = shared / "weights" / "mobilenet_v2-imagenet-features.safetensors"
    fish = sorted((shared / "data" / "fish").glob("*/*.png"))
    tracks = [path.name.split("_frame")[0] for path in fish]
    result = counterfactual(_embed(fish, weights), [path.parent.name for path in fish], tracks).value
    assert result is not None
    assert result.difference >= 0.1
    photos = sorted((shared / "data" / "cats_dogs").glob("*/*.jpg"))
    names = [str(path) for path in photos]
    result = counterfactual(_embed(photos, weights), [path.parent.name for path in photos], names).value
    assert result is not None
    assert abs(result.difference) <= max(result.spread, 0.02)
