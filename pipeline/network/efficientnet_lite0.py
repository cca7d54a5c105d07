"""EfficientNet-Lite0, the default network: made for edge devices and int8 (ReLU6, no squeeze-and-excitation).

The same network as timm's `tf_efficientnet_lite0`: its parameter names, its first weights and its arithmetic, bit by
bit (a test compares the two). It stands here because importing timm, and torchvision with it, costs every stage that
builds a network more than three seconds. Source: Tan and Le 2019 (arXiv:1905.11946) and tensorflow/tpu's
`efficientnet/lite`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional

CLASSES = 1000  # of ImageNet, whose weights are published
STEM_CHANNELS, FEATURE_CHANNELS = 32, 1280
EPSILON = 1e-3  # TensorFlow's, of batch norm


class BlockGroup(NamedTuple):
    """A row of the network's table: blocks of one shape, the first of which may halve the feature map."""

    n_blocks: int
    kernel: int  # side of the depthwise convolution, pixels
    stride: int  # of the first block
    expansion: int  # channels inside a block, as a multiple of those that enter it; 1 for none
    channels: int  # that leave the block


BLOCK_GROUPS = (
    BlockGroup(1, 3, 1, 1, 16),
    BlockGroup(2, 3, 2, 6, 24),
    BlockGroup(2, 5, 2, 6, 40),
    BlockGroup(3, 3, 2, 6, 80),
    BlockGroup(3, 5, 1, 6, 112),
    BlockGroup(4, 5, 2, 6, 192),
    BlockGroup(1, 3, 1, 6, 320),
)


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's padding: the output has input / stride pixels, rounded up."""

    def forward(self, input_nchw: Tensor) -> Tensor:
        """Input (batch, channels, h, w) to (batch, channels', h / stride, w / stride)."""
        height, width = (self._padding(side, axis) for axis, side in enumerate(input_nchw.shape[-2:]))
        sides = (width // 2, width - width // 2, height // 2, height - height // 2)
        padded = functional.pad(input_nchw, sides, value=0)  # the value is in the exported graph, as in timm's
        return functional.conv2d(padded, self.weight, self.bias, self.stride, (0, 0), self.dilation, self.groups)

    def _padding(self, side: int, axis: int) -> int:
        stride, kernel = self.stride[axis], self.kernel_size[axis]
        return max((math.ceil(side / stride) - 1) * stride + kernel - side, 0)


class BatchNormReLU6(nn.BatchNorm2d):
    """Batch norm with the ReLU6 that follows it, or with none, as timm holds the two."""

    def __init__(self, channels: int, *, has_activation: bool = True) -> None:
        super().__init__(channels, eps=EPSILON)
        self.act = nn.ReLU6(inplace=True) if has_activation else nn.Identity()

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # torch's name
        """(batch, channels, h, w) to the same shape."""
        output: Tensor = self.act(super().forward(input))
        return output


class SeparableBlock(nn.Module):
    """A depthwise convolution and a pointwise one; the first block of the network."""

    def __init__(self, channels: int, group: BlockGroup) -> None:
        super().__init__()
        self.conv_dw = _depthwise(channels, group.kernel, group.stride)
        self.bn1 = BatchNormReLU6(channels)
        self.conv_pw = _pointwise(channels, group.channels)
        self.bn2 = BatchNormReLU6(group.channels, has_activation=False)

    def forward(self, input_nchw: Tensor) -> Tensor:
        """(batch, channels, h, w) to (batch, channels', h', w')."""
        output: Tensor = self.bn2(self.conv_pw(self.bn1(self.conv_dw(input_nchw))))
        return output


class InvertedResidual(nn.Module):
    """Expands the channels, filters each by itself, projects them back; the input is added where the shapes agree."""

    def __init__(self, channels: int, group: BlockGroup, stride: int) -> None:
        super().__init__()
        inside = channels * group.expansion
        self.has_skip = stride == 1 and channels == group.channels
        self.conv_pw = _pointwise(channels, inside)
        self.bn1 = BatchNormReLU6(inside)
        self.conv_dw = _depthwise(inside, group.kernel, stride)
        self.bn2 = BatchNormReLU6(inside)
        self.conv_pwl = _pointwise(inside, group.channels)
        self.bn3 = BatchNormReLU6(group.channels, has_activation=False)

    def forward(self, input_nchw: Tensor) -> Tensor:
        """(batch, channels, h, w) to (batch, channels', h', w')."""
        expanded = self.bn1(self.conv_pw(input_nchw))
        output: Tensor = self.bn3(self.conv_pwl(self.bn2(self.conv_dw(expanded))))
        return output + input_nchw if self.has_skip else output


class EfficientNetLite0(nn.Module):
    """The whole classifier: input (batch, 3, h, w) to logits (batch, 1000)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem = SameConv2d(3, STEM_CHANNELS, 3, 2, bias=False)
        # timm tries an attention layer of two convolutions here and drops it; drawn too, so that seeds mean the same.
        nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)
        self.bn1 = BatchNormReLU6(STEM_CHANNELS)
        self.blocks = nn.Sequential(*_block_groups())
        self.conv_head = _pointwise(BLOCK_GROUPS[-1].channels, FEATURE_CHANNELS)
        self.bn2 = BatchNormReLU6(FEATURE_CHANNELS)
        self.global_pool: nn.Module = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier: nn.Module = nn.Linear(FEATURE_CHANNELS, CLASSES)
        self.apply(_first_weights)

    def forward(self, input_nchw: Tensor) -> Tensor:
        """Input (batch, 3, h, w) to logits (batch, 1000), or to what `global_pool` and `classifier` leave of it."""
        features = self.bn2(self.conv_head(self.blocks(self.bn1(self.conv_stem(input_nchw)))))
        logits: Tensor = self.classifier(self.global_pool(features))
        return logits


def _block_groups() -> list[nn.Sequential]:
    groups, channels = [], STEM_CHANNELS
    for group in BLOCK_GROUPS:
        blocks: list[nn.Module] = []
        for index in range(group.n_blocks):
            stride = group.stride if index == 0 else 1
            is_first = group.expansion == 1
            blocks.append(SeparableBlock(channels, group) if is_first else InvertedResidual(channels, group, stride))
            channels = group.channels
        groups.append(nn.Sequential(*blocks))
    return groups


def _pointwise(channels: int, channels_out: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels_out, 1, bias=False)


def _depthwise(channels: int, kernel: int, stride: int) -> nn.Conv2d:
    if stride == 1:
        return nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels, bias=False)
    return SameConv2d(channels, channels, kernel, stride, groups=channels, bias=False)


def _first_weights(module: nn.Module) -> None:
    """The random weights that a training from scratch starts with, as the published network's code draws them."""
    if isinstance(module, nn.Conv2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
        nn.init.normal_(module.weight, 0, math.sqrt(2 / fan_out))
    elif isinstance(module, nn.Linear):
        limit = 1 / math.sqrt(module.weight.shape[0])
        nn.init.uniform_(module.weight, -limit, limit)
        nn.init.zeros_(module.bias)
