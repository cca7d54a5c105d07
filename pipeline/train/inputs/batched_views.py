"""Random views of a whole batch at once, for a GPU: those that `random_views` draws, within one level of 255.

One picture at a time, a GPU waits for Python. Here a crop is two products of matrices for all pictures of a batch, and
every other transform one operation on all of them. The random numbers are drawn in the order of `random_views`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad
from torchvision.transforms.v2 import functional as transforms

from pipeline.train.inputs.devices import to_device
from pipeline.train.inputs.random_views import (
    draw_affine,
    draw_box,
    draw_colour_changes,
    draw_offset,
    random_view,
    sample_affine,
)
from pipeline.train.params import (
    AffineView,
    ColourJitterView,
    GreyView,
    MirrorView,
    PaddedCropView,
    RandomResizedCropView,
    View,
)

MOST_LEVELS = 2**26  # of the pictures that are cut at once: 256 MB as float32

# torch resizes uint8 pictures on a CPU with weights of 16 bits, as many binary places as fit. With 16 places at most,
# the sum of 255 times all weights stays below 2^24. So float32 has no rounding error, in whatever order a GPU adds.
_LARGEST_WEIGHT = 2**15 - 0.5
_MOST_PLACES = 16

Generators = Sequence[np.random.Generator]
ViewOfSameSize = PaddedCropView | AffineView | ColourJitterView | MirrorView | GreyView


@dataclass(frozen=True)
class PaddedPictures:
    """Pictures of several sizes in one array: each lies at the top left, and what is beside it is never used."""

    pixels_nchw: Tensor  # uint8
    sides: Sequence[tuple[int, int]]  # height and width of each, pixels


def padded(pictures_hwc: Sequence[NDArray[np.uint8]], device: torch.device) -> PaddedPictures:
    """Put pictures on a device, in one transfer.

    Args:
        pictures_hwc: each (height, width, 3) uint8.
        device: where they are put.
    """
    sides = [(picture.shape[0], picture.shape[1]) for picture in pictures_hwc]
    height, width = (max(side) for side in zip(*sides, strict=True))
    is_cuda = device.type == "cuda"  # pinned memory is copied while Python goes on
    pixels_nhwc = torch.zeros((len(sides), height, width, 3), dtype=torch.uint8, pin_memory=is_cuda)
    for pixels_hwc, picture_hwc in zip(pixels_nhwc.numpy(), pictures_hwc, strict=True):
        pixels_hwc[: picture_hwc.shape[0], : picture_hwc.shape[1]] = picture_hwc
    return PaddedPictures(pixels_nhwc.to(device, non_blocking=True).permute(0, 3, 1, 2), sides)


def batched_views(pictures: PaddedPictures, views: Sequence[View], generators: Generators, size: int) -> Tensor:
    """Draw a view of each picture, as `random_views` does.

    Args:
        pictures: the batch.
        views: the transforms, in their order.
        generators: one per picture.
        size: height and width of the result, pixels.

    Returns:
        (batch, 3, size, size) uint8 on the same device, channels last in memory.
    """
    n_pictures = max(1, MOST_LEVELS // pictures.pixels_nchw[0].numel())
    blocks = [slice(start, start + n_pictures) for start in range(0, len(generators), n_pictures)]
    drawn = [
        _block(PaddedPictures(pictures.pixels_nchw[block], pictures.sides[block]), views, generators[block], size)
        for block in blocks
    ]
    return torch.cat(drawn).contiguous(memory_format=torch.channels_last)


def _block(pictures: PaddedPictures, views: Sequence[View], generators: Generators, size: int) -> Tensor:
    for view in views:
        if isinstance(view, RandomResizedCropView):
            boxes = [
                draw_box(*side, view, generator) for side, generator in zip(pictures.sides, generators, strict=True)
            ]
            cut_nchw = cut_boxes(pictures.pixels_nchw, boxes, size)
            pictures = PaddedPictures(cut_nchw, [(size, size)] * len(generators))
        elif len(set(pictures.sides)) == 1:
            height, width = pictures.sides[0]
            whole_nchw = pictures.pixels_nchw[:, :, :height, :width]
            pictures = PaddedPictures(_changed(whole_nchw, view, generators), pictures.sides)
        else:
            pictures = _changed_one_by_one(pictures, view, generators)
    return pictures.pixels_nchw


def _changed(pixels_nchw: Tensor, view: ViewOfSameSize, generators: Generators) -> Tensor:
    """Apply a transform to pictures of one size."""
    match view:
        case PaddedCropView(padding_pixels=padding):
            return _padded_crops(pixels_nchw, padding, generators)
        case AffineView():
            height, width = pixels_nchw.shape[-2:]
            thetas = np.stack([draw_affine(height, width, view, generator) for generator in generators])
            return sample_affine(pixels_nchw, _sent(thetas.astype(np.float32), pixels_nchw), view)
        case ColourJitterView():
            return _colour_jitter(pixels_nchw, view, generators)
        case MirrorView(name=name):
            changed_nchw = pixels_nchw.flip(-1 if name == "mirror_left_right" else -2)
        case GreyView():
            changed_nchw = transforms.rgb_to_grayscale(pixels_nchw, num_output_channels=3)
    falls = np.array([generator.random() < view.probability for generator in generators])
    return torch.where(_sent(falls, pixels_nchw).view(-1, 1, 1, 1), changed_nchw, pixels_nchw)


def _changed_one_by_one(pictures: PaddedPictures, view: ViewOfSameSize, generators: Generators) -> PaddedPictures:
    """Apply a transform to pictures of several sizes."""
    changed_nchw = pictures.pixels_nchw.clone()
    for changed_chw, (height, width), generator in zip(changed_nchw, pictures.sides, generators, strict=True):
        box_chw = changed_chw[:, :height, :width]
        box_chw.copy_(random_view(box_chw, [view], generator, 0))
    return PaddedPictures(changed_nchw, pictures.sides)


def cut_boxes(pixels_nchw: Tensor, boxes: Sequence[tuple[int, int, int, int]], size: int) -> Tensor:
    """Cut out a box of each picture, and resize it (bilinear, antialiased), by two products of matrices.

    Columns are resized first, and rounded, as torch does it with uint8 pictures on a CPU.

    Args:
        pixels_nchw: (n, 3, height, width) uint8.
        boxes: top, left, height and width of each box, pixels.
        size: height and width of the result, pixels.
    """
    n, n_channels, height, width = pixels_nchw.shape
    tops, lefts, heights, widths = _sent(np.array(boxes, np.int64).T, pixels_nchw)
    of_columns, column_units = _weights(lefts, widths, width, size)
    of_rows, row_units = _weights(tops, heights, height, size)
    levels = pixels_nchw.reshape(n, n_channels * height, width).float()
    narrow = _rounded(torch.bmm(levels, of_columns.transpose(1, 2)), column_units)
    by_row = narrow.view(n, n_channels, height, size).transpose(1, 2).reshape(n, height, n_channels * size)
    small = _rounded(torch.bmm(of_rows, by_row), row_units)
    return small.view(n, size, n_channels, size).permute(0, 2, 1, 3).to(torch.uint8)


def _weights(starts: Tensor, lengths: Tensor, n_sources: int, size: int) -> tuple[Tensor, Tensor]:
    """Compute how much each pixel of a side adds to each pixel of its resized part, as torch does (antialiased).

    Args:
        starts: (n,) int64, where the part begins.
        lengths: (n,) int64, of the part.
        n_sources: pixels of the whole side.
        size: pixels of the resized part.

    Returns:
        (n, size, n_sources) float32 whole numbers, and (n, 1, 1) float32, the power of two that stands for 1.
    """
    scale = lengths.double().view(-1, 1, 1) / size
    support = scale.clamp(min=1)
    centre = scale * (torch.arange(size, device=starts.device, dtype=torch.float64).view(1, -1, 1) + 0.5)
    source = (torch.arange(n_sources, device=starts.device).view(1, 1, -1) - starts.view(-1, 1, 1)).double()
    first = (centre - support + 0.5).floor().clamp(min=0)
    end = torch.minimum((centre + support + 0.5).floor(), lengths.double().view(-1, 1, 1))
    weights = (1 - ((source - centre + 0.5) * (1 / support)).abs()).clamp(min=0)
    weights = weights * ((source >= first) & (source < end))
    weights = weights / weights.sum(dim=2, keepdim=True)
    places = (torch.log2(_LARGEST_WEIGHT / weights.amax(dim=(1, 2), keepdim=True)).ceil() - 1).clamp(max=_MOST_PLACES)
    units = torch.ones_like(places, dtype=torch.int64) << places.long()  # exp2 is not exact on every device
    return (weights * units + 0.5).floor().float(), units.float()


def _rounded(sums: Tensor, units: Tensor) -> Tensor:
    """Divide sums by the power of two that stands for 1, and round to whole levels."""
    return sums.add_(units / 2).div_(units).floor_().clamp_(0, 255)


def _padded_crops(pixels_nchw: Tensor, padding: int, generators: Generators) -> Tensor:
    height, width = pixels_nchw.shape[-2:]
    offsets = np.array([draw_offset(padding, generator) for generator in generators])
    tops, lefts = _sent(offsets.T, pixels_nchw)
    rows = tops[:, None, None] + torch.arange(height, device=tops.device)[None, :, None]
    columns = lefts[:, None, None] + torch.arange(width, device=tops.device)[None, None, :]
    pictures = torch.arange(len(tops), device=tops.device)[:, None, None]
    return pad(pixels_nchw, [padding] * 4)[pictures, :, rows, columns].permute(0, 3, 1, 2)


def _colour_jitter(pixels_nchw: Tensor, view: ColourJitterView, generators: Generators) -> Tensor:
    """Make each picture's changes in its own order: of every turn, the pictures with the same change together."""
    turns = [*zip(*(draw_colour_changes(view, generator) for generator in generators), strict=True)]
    if not turns:
        return pixels_nchw
    names = [[name for name, _ in turn] for turn in turns]
    orders = [sorted(range(len(generators)), key=names_of_turn.__getitem__) for names_of_turn in names]
    amounts = [[turn[i][1] for i in order] for turn, order in zip(turns, orders, strict=True)]
    sent_orders, sent_amounts = _sent(np.array(orders), pixels_nchw), _sent(np.array(amounts), pixels_nchw)
    changed_nchw = pixels_nchw.clone()
    for names_of_turn, order, positions, of_turn in zip(names, orders, sent_orders, sent_amounts, strict=True):
        done = 0
        for name, group in itertools.groupby(order, key=names_of_turn.__getitem__):
            some = slice(done, done + len([*group]))
            done = some.stop
            of_change = _COLOUR_CHANGES[name](changed_nchw[positions[some]], of_turn[some].view(-1, 1, 1, 1))
            changed_nchw.index_copy_(0, positions[some], of_change)
    return changed_nchw


def _brightness(pixels_nchw: Tensor, factors: Tensor) -> Tensor:
    return _truncated(pixels_nchw * factors.float())


def _contrast(pixels_nchw: Tensor, factors: Tensor) -> Tensor:
    luma_n1hw = transforms.rgb_to_grayscale(pixels_nchw).float()
    return _blended(pixels_nchw, luma_n1hw.mean(dim=(1, 2, 3), keepdim=True), factors)


def _saturation(pixels_nchw: Tensor, factors: Tensor) -> Tensor:
    return _blended(pixels_nchw, transforms.rgb_to_grayscale(pixels_nchw).float(), factors)


def _hue(pixels_nchw: Tensor, turns: Tensor) -> Tensor:
    """Turn every colour around the circle of hues (HSV), by a share of the circle."""
    levels_nchw = pixels_nchw.float() * (1 / 255)
    largest, smallest = levels_nchw.amax(dim=1, keepdim=True), levels_nchw.amin(dim=1, keepdim=True)
    span = largest - smallest
    red, green, blue = ((levels_nchw - smallest) / torch.where(span > 0, span, 1)).chunk(3, dim=1)
    of_green_or_blue = torch.where(green == 1, 2 + blue - red, 4 + red - green)
    sixths = torch.where(red == 1, green - blue, of_green_or_blue) + 6 * turns.float()
    channels = torch.tensor([5.0, 3.0, 1.0], device=pixels_nchw.device).view(1, 3, 1, 1)
    distance = (channels + sixths) % 6
    turned_nchw = largest - span * torch.minimum(distance, 4 - distance).clamp(0, 1)
    return (turned_nchw * 255.999).to(torch.uint8)  # as torchvision comes back to 8 bits


_COLOUR_CHANGES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "brightness": _brightness,
    "contrast": _contrast,
    "saturation": _saturation,
    "hue": _hue,
}


def _blended(pixels_nchw: Tensor, others: Tensor, factors: Tensor) -> Tensor:
    """Mix pictures with others, and round the products as torch does on a CPU, which fuses the second with the sum."""
    shares = pixels_nchw * factors.float()
    rests = others.double() * (1 - factors).float()
    return _truncated((shares + rests).float())


def _truncated(levels_nchw: Tensor) -> Tensor:
    """Cut levels to 8 bits as torchvision does, which does not round them."""
    return levels_nchw.clamp(0, 255).to(torch.uint8)


def _sent(values: NDArray[np.generic], beside: Tensor) -> Tensor:
    """Return values as a tensor on the device of another one; nothing waits for the copy."""
    return to_device(torch.from_numpy(np.ascontiguousarray(values)), beside.device)
