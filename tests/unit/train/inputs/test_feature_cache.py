from __future__ import annotations

import copy
import dataclasses
import shutil
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline.base.errors import DataError
from pipeline.base.project import Project
from pipeline.network import backbones, embeddings
from pipeline.network.network import Network, build_network
from pipeline.network.params import ModelParams
from pipeline.params import read_params
from pipeline.train.inputs import feature_cache as module
from pipeline.train.inputs.batches import exact, pictures, prefetch
from pipeline.train.inputs.feature_cache import (
    CachedFeatures,
    FeaturesOnDisk,
    exact_features,
    fold_batch_norm,
    view_features,
)
from pipeline.train.inputs.frame_cache import FrameCache
from tests.support.code_copy import copy_of_the_code
from tests.support.command import ROOT
from tests.support.small_project import small_project
from tests.support.training_images import (
    CHANNELS,
    CLASSES,
    CPU,
    CROP,
    FLIP,
    PREPROCESS,
    images_of,
    params_with,
    tiny_network,
)

ONLINE = (CROP, FLIP)


@pytest.fixture
def small(tmp_path: Path) -> Project:
    return small_project(tmp_path / "project")


@pytest.fixture
def network(small: Project) -> Network:
    return tiny_network(small)


def _views(
    small: Project, network: Network, *online: Any, precision: torch.dtype = torch.float32, **changed: Any
) -> CachedFeatures:
    return view_features(network, images_of(small, "train"), params_with(small, *online, **changed), precision, CPU)


def _keys(small: Project) -> set[str]:
    return {path.name for path in (small.cache / "features").iterdir() if path.is_dir()}


def test_the_features_are_what_the_backbone_gives_for_every_view(small: Project, network: Network) -> None:
    cached = _views(small, network, *ONLINE, cached_views=3)
    source = pictures(images_of(small, "train"), params_with(small, *ONLINE))
    assert cached.features.shape == (len(source), 3, CHANNELS)
    everything = range(len(source))
    for view in range(3):
        with torch.inference_mode():
            expected = network.eval().embed(source.batch(everything, view, CPU)[0])
        assert torch.allclose(cached.features[:, view], expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(cached.features[:, 0], cached.features[:, 1], atol=1e-2)


def test_consecutive_epochs_see_every_view_once_in_an_order_of_each_image_own(small: Project, network: Network) -> None:
    cached = _views(small, network, *ONLINE, cached_views=4)
    marked = dataclasses.replace(cached, features=torch.arange(4.0).expand(len(cached), 4)[..., None])
    everything = range(len(cached))
    seen = torch.cat([marked.batch(everything, epoch, CPU)[0] for epoch in range(9)], dim=1)
    for start in range(5):
        assert (seen[:, start : start + 4].sort(dim=1).values == torch.arange(4)).all()
    assert len({tuple(line) for line in seen[:, :4].tolist()}) > 4
    again = dataclasses.replace(_views(small, network, *ONLINE, cached_views=4), features=marked.features)
    assert torch.equal(again.batch(everything, 2, CPU)[0], seen[:, 2:3])
    assert not torch.equal(_views(small, network, *ONLINE, cached_views=4, seed=1).order, cached.order)


def test_a_batch_has_the_features_and_labels_of_its_images(small: Project, network: Network) -> None:
    cached = _views(small, network)
    (features, labels), *_ = prefetch(cached, [[5, 2]], 9, CPU)
    assert cached.features.shape[1] == 1
    assert torch.equal(features, cached.features[[5, 2], 0])
    assert labels.tolist() == [CLASSES.index(images_of(small, "train").rows[i].label) for i in (5, 2)]
    assert (features.dtype, labels.dtype) == (torch.float32, torch.int64)


def test_features_in_bf16_are_kept_in_bf16_and_returned_as_float32(small: Project, network: Network) -> None:
    whole = _views(small, network)
    half = _views(small, network, precision=torch.bfloat16)
    assert half.features.dtype == torch.bfloat16
    assert half.batch([0], 0, CPU)[0].dtype == torch.float32
    span = float(whole.features.max() - whole.features.min())
    difference = float((half.features.float() - whole.features).abs().max())
    assert 0 < difference < 0.05 * span
    again = _views(small, network, precision=torch.bfloat16)
    assert torch.equal(again.features.view(torch.int16), half.features.view(torch.int16))


def test_features_are_computed_once_and_then_need_no_decoded_frames(
    small: Project, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _views(small, network, *ONLINE, cached_views=2)
    held_out = exact_features(network, images_of(small, "val"), 4)
    monkeypatch.setattr(module, "prefetch", lambda *_, **__: pytest.fail("computed again"))
    monkeypatch.setattr(embeddings, "embed", lambda *_, **__: pytest.fail("computed again"))
    monkeypatch.setattr(FrameCache, "decode", lambda _: pytest.fail("decoded again"))
    assert torch.equal(_views(small, network, *ONLINE, cached_views=2).features, first.features)
    assert torch.equal(exact_features(network, images_of(small, "val"), 4).features, held_out.features)
    with pytest.raises(pytest.fail.Exception, match="decoded again"):
        _views(small, network, *ONLINE, cached_views=3)


def test_the_key_depends_on_backbone_views_seed_precision_and_normalisation_and_not_on_the_head(
    small: Project, network: Network
) -> None:
    base: dict[str, Any] = {"cached_views": 2}
    _views(small, network, *ONLINE, **base)
    other_head = copy.deepcopy(network)
    other_head.head = torch.nn.Linear(CHANNELS, 7)
    _views(small, other_head, *ONLINE, **base, epochs=99, lr=0.5)
    assert len(_keys(small)) == 1
    _views(small, network, CROP, **base)
    _views(small, network, *ONLINE, cached_views=1)
    _views(small, network, *ONLINE, **base, seed=1)
    _views(small, network, *ONLINE, **base, precision=torch.bfloat16)
    assert len(_keys(small)) == 5
    other_mean = dataclasses.replace(
        images_of(small, "train"), preprocess=dataclasses.replace(PREPROCESS, mean=(0.0,) * 3)
    )
    view_features(network, other_mean, params_with(small, *ONLINE, **base), torch.float32, CPU)
    _views(small, network, *ONLINE, **base, batch_size=3)
    _views(small, tiny_network(small, seed=1), *ONLINE, **base)
    other_shape = copy.deepcopy(network)
    other_shape.backbone = torch.nn.Sequential(*list(network.backbone)[:2], torch.nn.ReLU6())
    _views(small, other_shape, *ONLINE, **base)
    assert len(_keys(small)) == 9


def test_changed_code_or_another_torch_computes_features_anew(
    small: Project, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    def n_keys() -> tuple[int, int]:
        """The features that train alone computes, and those that other stages read too."""
        _views(small, network, *ONLINE, cached_views=1)
        exact_features(network, images_of(small, "val"), 4)
        return len(_keys(small)), len([path for path in (small.cache / "embeddings").iterdir() if path.is_dir()])

    assert n_keys() == (1, 1)
    code = copy_of_the_code(small.root / "code", monkeypatch)
    fixed = code / "train" / "a_sub_room" / "views.py"
    fixed.parent.mkdir(parents=True)
    fixed.write_text("# views")
    assert n_keys() == (2, 1)
    fixed.write_text("# a bug was fixed here")
    assert n_keys() == (3, 1)
    (code / "tools" / "add.py").write_text("# training does not run this")
    assert n_keys() == (3, 1)
    (code / "network" / "preprocess.py").write_text("# a bug was fixed here")
    assert n_keys() == (4, 2)
    known = metadata.version
    monkeypatch.setattr(backbones.metadata, "version", lambda name: "0.0.0" if name == "torch" else known(name))
    assert n_keys() == (5, 3)


def test_only_new_images_are_embedded_whatever_their_order(
    small: Project, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = images_of(small, "train")
    embedded = list[int]()

    def fill(embedder: Any, empty: Any, source: Any) -> None:
        embedded.append(len(source))
        assert len(empty) == len(source)
        really(embedder, empty, source)

    really = module._Embedder.fill
    monkeypatch.setattr(module._Embedder, "fill", fill)
    params = params_with(small, *ONLINE, cached_views=2)
    for chosen in (range(3, 9), range(8, 2, -1), range(2, 11), range(16)):
        some = dataclasses.replace(images, rows=[images.rows[i] for i in chosen], labels=images.labels[list(chosen)])
        view_features(network, some, params, torch.float32, CPU)
    assert embedded == [6, 3, 7]


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_features_are_the_same_in_whatever_order_the_cache_was_filled(small: Project, precision: torch.dtype) -> None:
    """A published network of many kinds of layers, in batches that new images fill up by half."""
    network = _with_batch_norm("mobilenet_v2")
    network.size = 64
    preprocess = dataclasses.replace(PREPROCESS, size=64)
    images = dataclasses.replace(images_of(small, "train"), preprocess=preprocess)
    params = params_with(small, FLIP, cached_views=2, batch_size=8)

    def features(*parts: Sequence[int]) -> list[torch.Tensor]:
        shutil.rmtree(small.cache)
        for part in parts:
            some = dataclasses.replace(images, rows=[images.rows[i] for i in part], labels=images.labels[list(part)])
            views = view_features(network, some, params, precision, CPU)
            exact_ones = exact_features(network, some, 8)
        return [views.features.float(), exact_ones.features]

    everything = range(len(images.rows))
    _views(small, network)
    at_once, in_parts = features(everything), features([9, 2, 5], range(14, 4, -1), everything)
    assert torch.equal(at_once[0], in_parts[0])
    assert torch.equal(at_once[1], in_parts[1])


def test_maps_stay_on_disk_and_are_those_of_their_views(small: Project, network: Network) -> None:
    maps = copy.deepcopy(network)
    maps.pool = nn.Identity()
    cached = _views(small, maps, *ONLINE, cached_views=3)
    assert isinstance(cached.features, FeaturesOnDisk)
    indices, order = [7, 0, 7], cached.order
    source = pictures(images_of(small, "train"), params_with(small, *ONLINE))
    features, _ = cached.batch(indices, 4, CPU)
    for index, of_image in zip(indices, features, strict=True):
        with torch.inference_mode():
            view = int(order[index, 1])
            expected = maps.eval().embed(source.batch([index], view, CPU)[0])[0]
        assert torch.allclose(of_image, expected, rtol=1e-4, atol=1e-4)
    held_out = exact_features(maps, images_of(small, "val"), 4)
    assert held_out.batch([0, 3], 9, CPU)[0].shape == (2, *features.shape[1:])


def test_features_of_many_images_stay_on_disk_and_are_the_same(
    small: Project, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    def batches() -> list[torch.Tensor]:
        views = _views(small, network, *ONLINE, cached_views=3, precision=torch.bfloat16)
        held_out = exact_features(network, images_of(small, "val"), 4)
        assert all(isinstance(source.features, kind) for source in (views, held_out))
        first = torch.from_numpy(held_out.first_views([2, 0]))
        return [views.batch([3, 0, 3], 1, CPU)[0], held_out.batch([1], 0, CPU)[0], first]

    kind: type = torch.Tensor
    in_memory = batches()
    monkeypatch.setattr(module, "MOST_BYTES", 0)
    kind = FeaturesOnDisk
    assert all(torch.equal(one, other) for one, other in zip(batches(), in_memory, strict=True))


def test_without_random_views_seeds_share_their_features(small: Project, network: Network) -> None:
    for seed in (0, 1):
        _views(small, network, seed=seed, cached_views=5)
    assert len(_keys(small)) == 1


def test_held_out_features_are_exact(small: Project, network: Network) -> None:
    images = images_of(small, "val")
    cached = exact_features(network, images, 3)
    source = exact(images)
    with torch.inference_mode():
        expected = network.eval().embed(source.batch(range(len(source)), 0, CPU)[0])
    assert torch.allclose(cached.batch(range(len(source)), 4, CPU)[0], expected, rtol=1e-5, atol=1e-5)


def test_the_network_is_left_as_it_was(small: Project, network: Network) -> None:
    network.train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    _views(small, network)
    exact_features(network, images_of(small, "val"), 4)
    assert network.training
    assert network.backbone.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_broken_frame_leaves_no_features(small: Project, network: Network) -> None:
    rows = images_of(small, "train").rows
    (small.root / rows[1].path).write_bytes(b"no picture")
    with pytest.raises(DataError, match=Path(rows[1].path).name):
        _views(small, network)
    assert not list((small.cache / "features").rglob("*.records"))


# Batch norm folded into the convolution before it

MODEL_DEFAULTS = read_params(ROOT / "params.yaml").model.model_dump()


def _with_batch_norm(arch: str, **changed: Any) -> Network:
    torch.manual_seed(0)
    network = build_network(
        ModelParams.model_validate(MODEL_DEFAULTS | {"weights": "none", "arch": arch} | changed), 64, 3
    )
    for part in network.modules():
        if isinstance(part, _BatchNorm):  # as if trained: fresh batch norm changes nothing
            nn.init.uniform_(part.running_mean, -0.1, 0.1)
            nn.init.uniform_(part.running_var, 0.5, 1.5)
            nn.init.uniform_(part.bias, -0.1, 0.1)
    return network.eval()


def _n_norms(module: nn.Module) -> int:
    return sum(isinstance(part, _BatchNorm) for part in module.modules())


def _difference(module: nn.Module, folded: nn.Module) -> float:
    """The largest difference of the outputs, as a share of their range."""
    input_nchw = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected: Tensor = module(input_nchw)
        actual: Tensor = folded(input_nchw)
    return float((actual - expected).abs().max() / (expected.max() - expected.min()))


@pytest.mark.parametrize(
    ("arch", "n_left"),
    [("resnet18", 0), ("mobilenet_v2", 0), ("efficientnet_lite0", 0), ("densenet121", 62), ("vgg16", 0)],
)
def test_the_folded_copy_gives_the_same_features(arch: str, n_left: int) -> None:
    network = _with_batch_norm(arch)
    names, before = list(network.state_dict()), _n_norms(network)
    folded = fold_batch_norm(network.backbone)
    assert _n_norms(folded) == n_left  # DenseNet's norms of several layers' features have no convolution before them
    assert _difference(network.backbone, folded) < 1e-4
    assert list(network.state_dict()) == names
    assert _n_norms(network) == before


def test_a_wrong_fold_is_noticed() -> None:
    network = _with_batch_norm("resnet18")
    folded = fold_batch_norm(network.backbone)
    with torch.no_grad():
        next(folded.parameters()).mul_(1.01)
    assert _difference(network.backbone, folded) > 1e-4


def test_batch_norm_that_learns_stays() -> None:
    network = _with_batch_norm("resnet18", freeze={"up_to": "layer3"})
    folded = fold_batch_norm(network.backbone)
    assert _n_norms(folded) == _n_norms(network.backbone.get_submodule("layer4")) == 5
    assert _difference(network.backbone, folded) < 1e-4


class _UsedTwice(nn.Module):
    """A convolution whose output is used beside its batch norm too."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        nn.init.uniform_(self.norm.weight)

    def forward(self, input_nchw: Tensor) -> Tensor:
        convolved = self.convolution(input_nchw)
        normed: Tensor = self.norm(convolved)
        return normed + convolved


class _DecidesByValues(nn.Module):
    """A forward pass that cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, input_nchw: Tensor) -> Tensor:
        normed: Tensor = self.norm(self.convolution(input_nchw))
        return normed if normed.sum() > 0 else -normed


@pytest.mark.parametrize("kind", [_UsedTwice, _DecidesByValues])
def test_a_module_that_must_not_or_cannot_be_folded_is_copied_unchanged(kind: type[nn.Module]) -> None:
    original = kind().eval().requires_grad_(False)
    folded = fold_batch_norm(original)
    assert folded is not original
    assert _n_norms(folded) == 1
    assert _difference(original, folded) == 0
