from __future__ import annotations

import urllib.error
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pipeline.backbones import ARCHITECTURES, build_backbone, read_state
from pipeline.errors import DataError


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_backbone_gives_a_feature_map_of_its_channels(arch: str) -> None:
    features = build_backbone(arch, "none").eval()(torch.zeros(2, 3, 64, 64))
    assert features.shape == (2, ARCHITECTURES[arch].channels, 2, 2)


def test_the_packaged_imagenet_weights_load_completely() -> None:
    pretrained = build_backbone("efficientnet_lite0", "imagenet").state_dict()
    random = build_backbone("efficientnet_lite0", "none").state_dict()
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
    loaded = build_backbone("mobilenet_v2", str(path)).state_dict()
    assert all(torch.equal(loaded[name], published[name]) for name in loaded)


def test_every_missing_unknown_and_mismatching_key_is_listed(tmp_path: Path) -> None:
    state = build_backbone("resnet18", "none").state_dict()
    del state["layer1.0.conv1.weight"]
    state["layer9.weight"] = torch.zeros(1)
    state["conv1.weight"] = torch.zeros(1, 2)
    path = tmp_path / "weights.pt"
    torch.save(state, path)
    with pytest.raises(DataError, match=r"layer1\.0\.conv1\.weight.*layer9\.weight.*conv1\.weight \(1, 2\) instead of"):
        build_backbone("resnet18", str(path))


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    class Planted:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (str(tmp_path / "planted"),))

    path = tmp_path / "weights.pt"
    torch.save({"conv1.weight": Planted()}, path)
    with pytest.raises(DataError, match="not a file of plain tensors"):
        read_state(path)
    assert not (tmp_path / "planted").exists()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("absent.pt", None, "no such file"),
        ("weights.bin", b"x", "suffix '.bin'"),
        ("weights.pt", b"no weights", "not a file of plain tensors"),
        ("weights.safetensors", b"no weights", "not a readable safetensors file"),
    ],
)
def test_a_bad_weights_file_is_one_clear_line(tmp_path: Path, name: str, content: bytes | None, said: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        read_state(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_a_network_the_line_says_which_file_to_put_where(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise urllib.error.URLError("unreachable")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", unreachable)
    with pytest.raises(DataError, match=r"put resnet18-\w+\.pth into .*checkpoints"):
        build_backbone("resnet18", "imagenet")


def test_the_shared_mobilenet_weights_fit(shared: Path) -> None:
    weights = shared / "weights" / "mobilenet_v2-imagenet-features.safetensors"
    features = build_backbone("mobilenet_v2", str(weights)).eval()(torch.zeros(1, 3, 64, 64))
    assert torch.isfinite(features).all()
