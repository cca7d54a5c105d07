"""Our EfficientNet-Lite0 is timm's: names, first weights, logits and gradients are the same bits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pipeline.network.architectures import architecture_of
from pipeline.network.efficientnet_lite0 import EfficientNetLite0, SameConv2d

TIMM = "timm:tf_efficientnet_lite0"


def both() -> tuple[nn.Module, nn.Module]:
    """Ours and timm's, each drawn from the same seed."""
    networks = []
    for build in (EfficientNetLite0, architecture_of(TIMM).build):
        torch.manual_seed(0)
        networks.append(build())
    return networks[0], networks[1]


def pictures(size: int) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


def test_a_seed_gives_the_same_first_weights_under_the_same_names_and_leaves_the_same_random_state() -> None:
    states = []
    for build in (EfficientNetLite0, architecture_of(TIMM).build):
        torch.manual_seed(0)
        state = build().state_dict()
        states.append((list(state), torch.cat([value.flatten().double() for value in state.values()]), torch.rand(1)))
    (our_names, ours, our_next), (their_names, theirs, their_next) = states
    assert our_names == their_names
    assert torch.equal(ours, theirs)
    assert torch.equal(our_next, their_next)


@pytest.mark.parametrize("size", [224, 150, 97])  # even, and odd at several depths: the padding differs
def test_the_logits_are_the_same_bits(size: int) -> None:
    ours, theirs = both()
    with torch.inference_mode():
        assert torch.equal(ours.eval()(pictures(size)), theirs.eval()(pictures(size)))


def test_the_gradients_are_the_same_bits() -> None:
    ours, theirs = both()
    for network in (ours, theirs):
        network.train()(pictures(64)).square().sum().backward()
    pairs = list(zip(ours.parameters(), theirs.parameters(), strict=True))
    assert all(torch.equal(our.grad, their.grad) for our, their in pairs if our.grad is not None is not their.grad)
    assert len(pairs) > 100


def test_another_padding_would_be_seen() -> None:
    ours, theirs = both()
    stem = ours.get_submodule("conv_stem")
    assert isinstance(stem, SameConv2d)
    symmetric = nn.Conv2d(3, 32, 3, 2, padding=1, bias=False)
    symmetric.load_state_dict(stem.state_dict())
    ours.set_submodule("conv_stem", symmetric)
    with torch.inference_mode():
        assert not torch.equal(ours.eval()(pictures(64)), theirs.eval()(pictures(64)))  # the negative control


@pytest.mark.parametrize(("kernel", "groups"), [(3, 1), (5, 4)])
def test_a_padded_convolution_is_exported_as_timms_is(kernel: int, groups: int) -> None:
    from timm.layers.conv2d_same import Conv2dSame

    picture_nchw = torch.zeros(1, 4, 11, 12)
    graphs = []
    for convolution in (SameConv2d, Conv2dSame):
        module = convolution(4, 4, kernel, 2, groups=groups, bias=False)
        graphs.append(str(torch.export.export(module, (picture_nchw,)).graph))
    ours, theirs = graphs
    assert ours.replace("input_nchw", "x") == theirs  # but for the name of the argument
