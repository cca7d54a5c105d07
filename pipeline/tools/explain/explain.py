"""Why the network answers as it does: evidence and activation maps of pictures, and what filters look for."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.base.errors import DataError, ParamsError
from pipeline.base.progress import track
from pipeline.base.project import Project
from pipeline.draw.sheets import Cell, sheet, write_png
from pipeline.media.photos import read_photo
from pipeline.network.checkpoint import Checkpoint, read_checkpoint
from pipeline.network.network import Network
from pipeline.tools.explain.activations import Maps, convolution_of, maps_of
from pipeline.tools.explain.filter_patterns import STAYS_NOISE, Pattern, drawable_levels, patterns
from pipeline.tools.explain.grad_cam import evidence
from runtime.errors import ImageError

GRID = 64  # maps or patterns of a layer at once
PICTURES_AT_ONCE = 100  # on a sheet of evidence
_MAP_COLUMNS, _MAP_SIDE = 16, 56  # of the activation maps; pixels
_PATTERN_COLUMNS, _PATTERN_SIDE = 8, 150
_PICTURE_COLUMNS, _PICTURE_SIDE = 4, 300  # of the evidence: a picture, and beside it the same with its evidence
_HEAT_SHARE = 0.5  # of the evidence's colours, over the picture


@dataclass(frozen=True)
class Filters:
    """Which filters of which convolution are drawn."""

    layer: str
    numbers: tuple[int, ...]


@dataclass(frozen=True)
class ExplainReport:
    """What was drawn."""

    n_pictures: int
    noise: tuple[tuple[str, int, int], ...]  # layer, how many of its filters stay noise, of how many
    folder: Path

    @property
    def headline(self) -> str:
        """One line: the pictures, and how many filters of each layer stay noise."""
        said = [f"{self.n_pictures} pictures explained"] if self.n_pictures else []
        said += [f"{layer}: {n} of {of} filters stay noise" for layer, n, of in self.noise]
        return f"{'; '.join(said)}; {self.folder}/"


def explain(
    images: Sequence[Path], filters: Sequence[str], out: Path | None, max_pixels: int, project: Project
) -> ExplainReport:
    """Draw into PNG files: `evidence.png` and `activations/<name>.png` of images, `filters_<layer>_<which>.png`.

    Args:
        images: photos; may be none.
        filters: convolutions, such as `backbone.features.conv1`, with `:5` or `:64-127` behind for some filters only.
        out: the folder; None: `reports/explain/`.
        max_pixels: of an image; larger ones are refused.
        project: whose checkpoint is explained.

    Raises:
        DataError: the checkpoint or an image is missing or broken, or the network cannot be explained.
        ParamsError: there is no such convolution or filter.
    """
    checkpoint = read_checkpoint(project.checkpoint)
    network = checkpoint.network()
    wanted = [_filters(network, each) for each in filters]
    folder = out or project.explanations
    _explain_pictures(images, network, checkpoint, max_pixels, folder)
    noise = []
    for each in wanted:
        found = patterns(network, checkpoint.preprocess, each.layer, each.numbers)
        for first in range(0, len(found), GRID):
            _write_patterns(found[first : first + GRID], each.layer, folder)
        noise.append((each.layer, sum(pattern.stays_noise for pattern in found), len(found)))
    return ExplainReport(len(images), tuple(noise), folder)


def _explain_pictures(
    images: Sequence[Path], network: Network, checkpoint: Checkpoint, max_pixels: int, folder: Path
) -> None:
    """A sheet of maps for each, and sheets of evidence with so many each."""
    named = zip(track(images, "pictures", len(images)), _names(images), strict=True)
    for number in range(1, -(-len(images) // PICTURES_AT_ONCE) + 1):
        cells: list[Cell] = []
        for path, name in itertools.islice(named, PICTURES_AT_ONCE):
            picture_nhwc = _read(path, max_pixels)
            write_png(
                _activations(network, checkpoint.preprocess(picture_nhwc), path.name),
                folder / "activations" / f"{name}.png",
            )
            cells += _evidence(network, checkpoint, picture_nhwc, path.name)
        heading = "where the network found the class that it answers (Grad-CAM): red where most"
        sheet_hwc = sheet(cells, heading, columns=_PICTURE_COLUMNS, side=_PICTURE_SIDE)
        write_png(sheet_hwc, folder / ("evidence.png" if number == 1 else f"evidence_{number}.png"))


def _filters(network: Network, text: str) -> Filters:
    """Read `LAYER`, `LAYER:5` or `LAYER:64-127`; without numbers the first filters.

    Raises:
        ParamsError: there is no such convolution, or it has no such filter.
    """
    name, _, numbers = text.partition(":")
    layer = convolution_of(network, name)
    n_filters = network.get_parameter(f"{layer}.weight").shape[0]
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", numbers or f"0-{min(GRID, n_filters) - 1}")
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
    if not first <= last < n_filters:
        raise ParamsError(f"--filters: {text!r}: {layer} has the filters 0 to {n_filters - 1}; expected {layer}:0-63")
    return Filters(layer, tuple(range(first, last + 1)))


def _names(images: Sequence[Path]) -> Iterator[str]:
    """A name for each file's sheet: its stem, and a number where it is taken; no two differ in case alone."""
    taken: set[str] = set()
    for path in images:
        numbered = (f"{path.stem}_{number}" for number in itertools.count(2))
        name = next(name for name in itertools.chain([path.stem], numbered) if name.casefold() not in taken)
        taken.add(name.casefold())
        yield name


def _read(path: Path, max_pixels: int) -> Tensor:
    """(1, height, width, 3) uint8."""
    try:
        return torch.from_numpy(read_photo(path, max_pixels=max_pixels).pixels_hwc)[None]
    except ImageError as error:
        raise DataError(str(error)) from error


def _evidence(network: Network, checkpoint: Checkpoint, picture_nhwc: Tensor, name: str) -> list[Cell]:
    """The picture as the network sees it, and the same with the evidence for its answer in colours."""
    input_nchw = checkpoint.preprocess(picture_nhwc)
    with torch.no_grad():
        shares = (network(input_nchw)[0] / (checkpoint.temperature or 1.0)).softmax(dim=0)
    number = int(shares.argmax())
    heat_hw = evidence(network, input_nchw, number)
    seen_nchw = checkpoint.preprocess.resized(picture_nhwc, checkpoint.preprocess.size)
    seen_hwc = seen_nchw[0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8).numpy()
    said = f"{shares[number]:.0%} {checkpoint.classes[number]}"
    return [
        Cell(_enlarged(seen_hwc), name),
        Cell(_enlarged(_coloured(seen_hwc, heat_hw)), said if heat_hw.any() else f"{said}: no evidence"),
    ]


def _coloured(seen_hwc: NDArray[np.uint8], heat_hw: NDArray[np.float32]) -> NDArray[np.uint8]:
    heat_bgr = cv2.applyColorMap((255 * heat_hw).round().astype(np.uint8), cv2.COLORMAP_JET)
    heat_rgb = cv2.cvtColor(heat_bgr, cv2.COLOR_BGR2RGB)
    return np.asarray(cv2.addWeighted(seen_hwc, 1 - _HEAT_SHARE, heat_rgb, _HEAT_SHARE, 0), np.uint8)


def _enlarged(pixels_hwc: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """To the size on the sheet, smoothly: a sheet itself repeats pixels."""
    return np.asarray(cv2.resize(pixels_hwc, (_PICTURE_SIDE, _PICTURE_SIDE), interpolation=cv2.INTER_LINEAR), np.uint8)


def _activations(network: Network, input_nchw: Tensor, name: str) -> NDArray[np.uint8]:
    """A sheet with a block of maps for every convolution and pooling, in the order in which they are computed."""
    found = maps_of(network, input_nchw)
    if not found:
        raise DataError(f"{name}: no convolution or pooling of this network gives a map of more than one place")
    cells = [Cell(_mosaic(maps), _title(maps)) for maps in found]
    width = cells[0].pixels_hwc.shape[1]
    heading = f"{name}: each map from its least (black) to its largest value (white)"
    return sheet(cells, heading, columns=1, side=width)


def _title(maps: Maps) -> str:
    _, n, height, width = maps.maps_nchw.shape
    first = f"the first {GRID} of " if n > GRID else ""
    return f"{maps.layer} ({maps.kind}): {first}{n} maps of {width} x {height}"


def _mosaic(maps: Maps) -> NDArray[np.uint8]:
    """The first maps of a layer side by side on white; (height, width, 3) uint8."""
    step, n = _MAP_SIDE + 2, min(GRID, maps.maps_nchw.shape[1])
    canvas_hw = np.full((-(-n // _MAP_COLUMNS) * step, _MAP_COLUMNS * step), 255, np.uint8)
    for number in range(n):
        top, left = (step * place for place in divmod(number, _MAP_COLUMNS))
        canvas_hw[top : top + _MAP_SIDE, left : left + _MAP_SIDE] = _grey(maps.maps_nchw[0, number])
    return np.repeat(canvas_hw[..., np.newaxis], 3, axis=2)


def _grey(map_hw: Tensor) -> NDArray[np.uint8]:
    spread = float(map_hw.max() - map_hw.min())
    levels_hw = ((map_hw - map_hw.min()) / (spread or 1.0) * 255).numpy()
    interpolation = cv2.INTER_AREA if max(map_hw.shape) > _MAP_SIDE else cv2.INTER_NEAREST
    return np.asarray(cv2.resize(levels_hw, (_MAP_SIDE, _MAP_SIDE), interpolation=interpolation).round(), np.uint8)


def _write_patterns(found: Sequence[Pattern], layer: str, folder: Path) -> None:
    """A grid of patterns; the name of the file says which, the heading how many stay noise and what that means."""
    first, last = found[0].number, found[-1].number
    n_noise = sum(pattern.stays_noise for pattern in found)
    heading = (
        f"{layer}, filters {first} to {last}: {n_noise} of {len(found)} stay noise "
        f"(correlation with the noise at the start above {STAYS_NOISE:g})"
    )
    cells = [
        Cell(drawable_levels(pattern.levels_chw).numpy(), f"{pattern.number}{' noise' * pattern.stays_noise}")
        for pattern in found
    ]
    drawn = sheet(cells, heading, columns=_PATTERN_COLUMNS, side=_PATTERN_SIDE)
    write_png(drawn, folder / f"filters_{layer}_{first}-{last}.png")
