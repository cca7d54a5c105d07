"""Patterns of filters whose preferred picture is known, and of dead filters."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pipeline.network.network import Network
from pipeline.network.preprocess import Preprocess
from pipeline.tools.explain.filter_patterns import GREY, NOISE, correlation, drawable_levels, patterns, starting_levels
from tests.support.explained_networks import network_of

PREPROCESS = Preprocess(32, "squash", 1.0, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
ACROSS, DOWN, DEAD = 0, 1, 2


def oriented() -> Network:
    """Filters for stripes that lie (0) and stand (1), four pixels wide, and one whose ReLU never opens (2)."""
    convolution = nn.Conv2d(3, 3, 8)
    stripes = torch.tensor([1.0, 1, 1, 1, -1, -1, -1, -1]).view(8, 1).expand(8, 8)
    with torch.no_grad():
        convolution.weight.copy_(torch.stack([stripes, stripes.T, stripes])[:, None].expand(3, 3, 8, 8) / 8)
        convolution.bias.copy_(torch.tensor([0.0, 0.0, -1000.0]))
    return network_of(nn.Sequential(convolution, nn.ReLU()), 3)


def changes(levels_chw: Tensor) -> tuple[float, float]:
    """How much a picture changes down its columns, and along its rows, away from its edges."""
    inner = levels_chw[:, 8:-8, 8:-8]
    return float(inner.diff(dim=1).square().mean()), float(inner.diff(dim=2).square().mean())


def test_an_oriented_filter_gives_stripes_of_its_own_direction() -> None:
    across, down = patterns(oriented(), PREPROCESS, "backbone.0", [ACROSS, DOWN])
    assert changes(across.levels_chw)[0] > 3 * changes(across.levels_chw)[1]
    assert changes(down.levels_chw)[1] > 3 * changes(down.levels_chw)[0]
    assert (across.filter_index, down.filter_index) == (ACROSS, DOWN)


def test_a_dead_filter_stays_the_noise_that_it_was_and_is_counted_and_a_live_one_is_not() -> None:
    live, dead = patterns(oriented(), PREPROCESS, "backbone.0", [ACROSS, DEAD])
    assert torch.equal(dead.levels_chw, starting_levels(32)[0])
    assert (dead.stays_noise, dead.noise_correlation) == (True, pytest.approx(1.0))
    assert not live.stays_noise


def test_the_filters_output_rises() -> None:
    network = oriented()
    (pattern,) = patterns(network, PREPROCESS, "backbone.0", [ACROSS])
    means = [
        float(network.backbone(PREPROCESS.normalised(levels.permute(0, 2, 3, 1)))[0, ACROSS].mean())
        for levels in (starting_levels(32), pattern.levels_chw[None])
    ]
    assert means[1] > 5 * means[0]


def test_a_filter_has_the_same_pattern_alone_and_among_others() -> None:
    alone = patterns(oriented(), PREPROCESS, "backbone.0", [DOWN])[0]
    among = patterns(oriented(), PREPROCESS, "backbone.0", [ACROSS, DEAD] * 5 + [DOWN])[-1]
    assert torch.allclose(alone.levels_chw, among.levels_chw, atol=1e-3)


def test_the_start_is_grey_with_noise_of_twenty_levels() -> None:
    start_nchw = starting_levels(64)
    assert GREY <= float(start_nchw.min()) < GREY + 0.1
    assert GREY + NOISE - 0.1 < float(start_nchw.max()) <= GREY + NOISE
    assert torch.equal(start_nchw, starting_levels(64))


def test_the_correlation_is_1_for_the_same_picture_and_0_for_a_flat_one() -> None:
    start_chw = starting_levels(16)[0]
    assert correlation(3 * start_chw + 5, start_chw) == pytest.approx(1.0)
    assert correlation(-start_chw, start_chw) == pytest.approx(-1.0)
    assert abs(correlation(torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(1)), start_chw)) < 0.15
    assert correlation(torch.zeros(3, 16, 16), start_chw) == 0


def test_a_pattern_is_drawn_about_the_middle_of_the_range() -> None:
    drawn_hwc = drawable_levels(starting_levels(32)[0] * 1000)
    assert drawn_hwc.dtype == torch.uint8
    assert float(drawn_hwc.float().mean()) == pytest.approx(127.5, abs=1)
    assert float(drawn_hwc.float().std()) == pytest.approx(25.5, abs=1)
