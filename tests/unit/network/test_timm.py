"""Networks of timm: they end as published, are built for the pictures' size, and say where `head: plain` is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from pipeline.base.errors import DataError, ParamsError
from pipeline.network.network import Network, build_network
from pipeline.network.params import ModelParams
from pipeline.params import read_params
from tests.support.command import ROOT

DEFAULTS = read_params(ROOT / "params.yaml").model.model_dump()
SIZE = 64


def _network(size: int = SIZE, **changed: Any) -> Network:
    model = ModelParams.model_validate(DEFAULTS | {"weights": "none"} | changed)
    return build_network(model, size, 3)


def _published(name: str, **options: Any) -> Any:
    """A network as timm builds it, with random weights in every layer, norms too."""
    torch.manual_seed(0)
    network = timm.create_model(name, **options).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1 + 0.3 * torch.randn_like(parameter))
    return network


def _saved(network: nn.Module, path: Path) -> str:
    torch.save(network.state_dict(), path)
    return str(path)


def _error(found: Tensor, expected: Tensor) -> float:
    """The largest difference, as a share of the largest expected number."""
    return ((found - expected).abs().max() / expected.abs().max()).item()


PICTURES = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
OFF_BEFORE = ("convnext_atto", "edgenext_xx_small", "mobilenetv3_small_050", "mobilenetv4_conv_small_035")


@pytest.mark.parametrize(
    "name", [*OFF_BEFORE, "test_resnet", "test_efficientnet", "test_nfnet", "test_byobnet", "lcnet_035", "ghostnet_050"]
)
def test_a_linear_head_gets_what_the_published_classifier_gets(name: str, tmp_path: Path) -> None:
    published = _published(name)
    network = _network(arch=f"timm:{name}", weights=_saved(published, tmp_path / "w.pth")).eval()
    with torch.no_grad():
        expected = published.forward_head(published.forward_features(PICTURES), pre_logits=True)
        assert network.embed(PICTURES).shape == expected.shape
        assert _error(network.embed(PICTURES), expected) < 1e-5


@pytest.mark.parametrize("name", OFF_BEFORE)
def test_a_mean_over_the_last_map_is_something_else(name: str) -> None:
    """The way of checkpoints up to format 5: without pooling every layer behind it sees each cell alone."""
    published = _published(name)
    with torch.no_grad():
        expected = published.forward_head(published.forward_features(PICTURES), pre_logits=True)
        published.reset_classifier(0, "")
        assert _error(published(PICTURES).mean(dim=(2, 3)), expected) > 0.05


def test_hidden_layers_follow_the_published_pooling() -> None:
    network = _network(arch="timm:convnext_atto", head="fc", fc_widths=[8], fc_dropouts=[0.0])
    assert [layer.in_features for layer in network.head.modules() if isinstance(layer, nn.Linear)] == [320, 8]


def test_flattening_keeps_the_cells_apart() -> None:
    network = _network(arch="timm:convnext_atto", pooling="flatten")
    assert network.backbone(PICTURES).shape == (2, 320, 2, 2)
    assert network.embed(PICTURES).shape == (2, 320 * 2 * 2)


def test_a_frozen_backbone_includes_the_layers_behind_its_map() -> None:
    network = _network(arch="timm:convnext_atto", freeze="all")
    assert not any(parameter.requires_grad for parameter in network.backbone.parameters())
    assert "head.norm.weight" in dict(network.backbone.named_parameters())
    assert _network(arch="timm:convnext_atto", freeze="none").backbone.get_parameter("head.norm.weight").requires_grad


@pytest.mark.parametrize(
    ("name", "pooling", "reason"),
    [
        ("efficientvit_b0", "average", "fully connected layers behind its pooling"),
        ("inception_next_atto", "flatten", "fully connected layers behind its pooling"),
        ("crossvit_tiny_240", "average", "several outputs and no feature map"),
        ("coat_lite_tiny", "average", "no feature map but (1, 50, 320)"),
        ("coat_lite_tiny", "flatten", "no feature map"),
        ("test_vit", "average", "no feature map but (1, 226, 64)"),
    ],
)
def test_a_network_without_a_map_to_pool_names_the_plain_head(name: str, pooling: str, reason: str) -> None:
    with torch.device("meta"), pytest.raises(ParamsError) as caught:
        _network(240, arch=f"timm:{name}", pooling=pooling)
    message = str(caught.value)
    assert message.startswith(f"model.head: timm:{name} has {reason}")
    assert message.endswith("; use head: plain")
    assert "\n" not in message


@pytest.mark.parametrize("name", ["inception_next_atto", "coat_lite_tiny"])
def test_the_plain_head_serves_them(name: str) -> None:
    with torch.device("meta"):
        network = _network(240, arch=f"timm:{name}", head="plain")
        assert network(torch.zeros(2, 3, 240, 240)).shape == (2, 3)


def test_a_transformer_is_built_for_the_size_of_the_pictures() -> None:
    with torch.device("meta"):
        pictures = torch.zeros(1, 3, 224, 224)
        network = _network(224, arch="timm:vit_small_patch14_dinov2", head="plain")
        assert network(pictures).shape == (1, 3)
        with pytest.raises(AssertionError, match="518"):  # timm's own size
            timm.create_model("vit_small_patch14_dinov2")(pictures)


@pytest.mark.parametrize(
    ("arch", "size", "words"),
    [
        ("timm:test_vit", 65, "cannot take pictures of 65 x 65"),
        ("timm:nest_tiny_jx", 225, "cannot be built for 225 x 225"),
    ],
)
def test_a_size_that_is_no_multiple_of_the_patches_is_one_line(arch: str, size: int, words: str) -> None:
    with torch.device("meta"), pytest.raises(ParamsError, match=rf"^image.size: {arch} {words}.*$"):
        _network(size, arch=arch, head="plain")


def test_position_embeddings_of_a_file_are_resampled_for_the_pictures(tmp_path: Path) -> None:
    published = _published("test_vit")  # for pictures of 160 pixels
    network = _network(96, arch="timm:test_vit", head="plain", weights=_saved(published, tmp_path / "w.pth"))
    resampled = resample_abs_pos_embed(published.pos_embed, [6, 6], num_prefix_tokens=1)
    state = network.backbone.state_dict()
    assert torch.equal(state["pos_embed"], resampled)
    others = [name for name in state if name != "pos_embed"]
    assert others
    assert all(torch.equal(state[name], published.state_dict()[name]) for name in others)


def test_a_file_with_another_shape_beside_its_embeddings_is_refused(tmp_path: Path) -> None:
    state = _published("test_vit").state_dict()
    torch.save(state | {"blocks.0.norm1.weight": torch.zeros(3)}, tmp_path / "w.pth")
    with pytest.raises(DataError, match=r"blocks\.0\.norm1\.weight \(3,\) instead of \(64,\)"):
        _network(96, arch="timm:test_vit", head="plain", weights=str(tmp_path / "w.pth"))
