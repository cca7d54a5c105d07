from __future__ import annotations

import urllib.error
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pipeline.base.errors import DataError
from pipeline.network.backbones import build_body, read_state
from pipeline.network.network import dry_run
from tests.support.planted_pickle import MakesAFile

CHANNELS = {
    "efficientnet_lite0": 1280, "mobilenet_v2": 1280, "resnet18": 512, "resnet34": 512, "resnet50": 2048,
    "resnet101": 2048, "resnet152": 2048, "vgg16": 512, "vgg19": 512,
}  # fmt: skip


@pytest.mark.parametrize("arch", CHANNELS)
def test_a_backbone_gives_a_feature_map_of_its_channels(arch: str) -> None:
    with torch.device("meta"):
        assert dry_run(build_body(arch, "none", plain=False).backbone, 64).shape == (1, CHANNELS[arch], 2, 2)


def test_the_packaged_imagenet_weights_load_completely() -> None:
    pretrained = build_body("efficientnet_lite0", "imagenet", plain=False).backbone.state_dict()
    random = build_body("efficientnet_lite0", "none", plain=False).backbone.state_dict()
    assert not any(torch.equal(pretrained[name], random[name]) for name in random if name.endswith("conv_stem.weight"))
    assert pretrained["bn1.running_mean"].abs().sum() > 0


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
@pytest.mark.parametrize("part", ["full", "features"])
def test_weights_from_a_path_load_full_or_features_only(tmp_path: Path, suffix: str, part: str) -> None:
    import torchvision

    torch.manual_seed(1)
    published = torchvision.models.mobilenet_v2(weights=None).state_dict()
    state = {name: value for name, value in published.items() if part == "full" or name.startswith("features.")}
    path = tmp_path / f"weights{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    loaded = build_body("mobilenet_v2", str(path), plain=False).backbone.state_dict()
    assert all(torch.equal(loaded[name], published[name]) for name in loaded)


def _vgg11(*kept: str) -> dict[str, torch.Tensor]:
    """Return those of VGG11's published weights whose names begin so, all ones, with little memory."""
    import torchvision

    with torch.device("meta"):
        names = torchvision.models.vgg11().state_dict()
    return {name: torch.ones(()).expand(value.shape) for name, value in names.items() if name.startswith(kept)}


def _plain_vgg11(tmp_path: Path, state: dict[str, torch.Tensor]) -> nn.Sequential:
    path = tmp_path / "weights.pt"
    torch.save(state, path)
    return build_body("vgg11", str(path), plain=True).hidden


def test_a_plain_network_takes_the_published_hidden_layers_and_never_the_last(tmp_path: Path) -> None:
    hidden = _plain_vgg11(tmp_path, _vgg11("features.", "classifier."))
    assert [tuple(layer.weight.shape) for layer in hidden if isinstance(layer, nn.Linear)] == [
        (4096, 25088),
        (4096, 4096),
    ]
    assert all(bool((value == 1).all()) for value in hidden.parameters())


def test_from_a_file_of_features_the_hidden_layers_start_at_random(tmp_path: Path) -> None:
    assert not any(bool((value == 1).all()) for value in _plain_vgg11(tmp_path, _vgg11("features.")).parameters())


def test_half_of_the_hidden_layers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"2 missing: classifier\.3\.weight, classifier\.3\.bias"):
        _plain_vgg11(tmp_path, _vgg11("features.", "classifier.0"))


def test_every_missing_unknown_and_mismatching_key_is_listed(tmp_path: Path) -> None:
    state = build_body("resnet18", "none", plain=False).backbone.state_dict()
    del state["layer1.0.conv1.weight"]
    state["layer9.weight"] = torch.zeros(1)
    state["conv1.weight"] = torch.zeros(1, 2)
    path = tmp_path / "weights.pt"
    torch.save(state, path)
    with pytest.raises(DataError, match=r"layer1\.0\.conv1\.weight.*layer9\.weight.*conv1\.weight \(1, 2\) instead of"):
        build_body("resnet18", str(path), plain=False)


@pytest.mark.parametrize("content", [b"", b"no weights", "code"])
def test_published_weights_that_were_put_there_by_hand_are_not_trusted_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | str
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    path = tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    path.parent.mkdir(parents=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save({"conv1.weight": MakesAFile(tmp_path / "planted")}, path)
    with pytest.raises(DataError, match=r"resnet18-f37072fd\.pth: not a file of plain tensors") as caught:
        build_body("resnet18", "imagenet", plain=False)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "planted").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.pt", None, "no such file"),
        ("weights.bin", b"x", "suffix '.bin'"),
        ("weights.pt", b"no weights", "not a file of plain tensors"),
        ("weights.safetensors", b"no weights", "not a readable safetensors file"),
    ],
)
def test_a_bad_weights_file_is_one_clear_line(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_state(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_a_connection_the_line_says_which_file_to_put_where(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise urllib.error.URLError("unreachable")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", unreachable)
    with pytest.raises(DataError, match=r"put resnet18-\w+\.pth into .*checkpoints"):
        build_body("resnet18", "imagenet", plain=False)


def test_the_shared_mobilenet_weights_fit(shared: Path) -> None:
    weights = shared / "weights" / "mobilenet_v2-imagenet-features.safetensors"
    features = build_body("mobilenet_v2", str(weights), plain=False).backbone.eval()(torch.zeros(1, 3, 64, 64))
    assert torch.isfinite(features).all()
