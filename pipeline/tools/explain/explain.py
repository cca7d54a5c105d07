"""Draw why the network answers as it does: heat maps and activation maps of photos, and patterns of filters."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.utils import make_grid

from pipeline.base.errors import DataError, ParamsError
from pipeline.base.progress import track
from pipeline.base.project import Project
from pipeline.base.report_digest import Hashes, files_written, hashes_of, write_report
from pipeline.base.words import counted
from pipeline.draw.sheets import Cell, sheet, write_png
from pipeline.media.photos import read_photo
from pipeline.network.checkpoint import Checkpoint, read_checkpoint
from pipeline.network.network import Network
from pipeline.tools.explain.activations import LayerMaps, all_maps, find_convolution
from pipeline.tools.explain.filter_patterns import STAYS_NOISE, Pattern, drawable_levels, patterns
from pipeline.tools.explain.grad_cam import heat_map
from runtime.errors import ImageError

GRID = 64  # maps of a layer, or patterns, on one sheet
PICTURES_AT_ONCE = 100  # photos on one sheet of heat maps
_MAP_COLUMNS, _MAP_SIDE = 16, 56  # of the activation maps; pixels
_PATTERN_COLUMNS, _PATTERN_SIDE = 8, 150
_PICTURE_COLUMNS, _PICTURE_SIDE = 4, 300  # of the heat maps: a photo, and beside it the same photo with its heat map
_HEAT_SHARE = 0.5  # of the heat map's colours, over the photo


@dataclass(frozen=True)
class Filters:
    """Filters of a convolution."""

    layer: str
    indices: tuple[int, ...]  # from 0


@dataclass(frozen=True)
class ExplainReport:
    """The number of explained photos, the filters that stay noise, and the folder of the sheets."""

    n_pictures: int
    noise: tuple[tuple[str, int, int], ...]  # layer, number of its filters that stay noise, number of filters drawn
    folder: Path

    @property
    def headline(self) -> str:
        """One line: the number of photos, and how many filters of each layer stay noise."""
        parts = [f"{counted(self.n_pictures, 'picture')} explained"] if self.n_pictures else []
        parts += [f"{layer}: {n} of {of} filters stay noise" for layer, n, of in self.noise]
        return f"{'; '.join(parts)}; {self.folder}/"


def explain(
    images: Sequence[Path], filters: Sequence[str], out: Path | None, max_pixels: int, project: Project
) -> ExplainReport:
    """Draw PNG files: `evidence.png` and `activations/<name>.png` of photos, `filters_<layer>_<first>-<last>.png`.

    In `reports/explain/` it also notes from which checkpoint each picture is, for the report.

    Args:
        images: photos; may be empty.
        filters: convolutions, such as `backbone.features.conv1`; `:5` or `:64-127` at the end selects filters.
        out: the folder of the files; None for `reports/explain/`.
        max_pixels: height x width of a photo; larger ones are refused.
        project: its checkpoint is explained.

    Raises:
        DataError: the checkpoint or an image is missing or broken, or the network cannot be explained.
        ParamsError: there is no such convolution or filter.
    """
    made_from = hashes_of([project.checkpoint], project)
    checkpoint = read_checkpoint(project.checkpoint)
    network = checkpoint.network()
    selections = [_parse_filters(network, text) for text in filters]
    folder = out or project.explanations
    for path in images:
        if path.resolve().is_relative_to(folder.resolve()):
            raise DataError(f"{path}: lies in {folder}, where the pictures go; expected another --out")
    drawn_files, failures = _explain_pictures(images, network, checkpoint, max_pixels, folder)
    noise = []
    for selected in selections:
        drawn = patterns(network, checkpoint.preprocess, selected.layer, selected.indices)
        for first in range(0, len(drawn), GRID):
            drawn_files.append(_write_patterns(drawn[first : first + GRID], selected.layer, folder))
        noise.append((selected.layer, sum(pattern.stays_noise for pattern in drawn), len(drawn)))
    if folder.resolve() == project.explanations.resolve():
        _note_checkpoint((project.explanations / path.name for path in drawn_files), made_from, project)
    if failures:
        raise DataError(f"{len(failures)} of {counted(len(images), 'photo')} could not be explained: {failures[0]}")
    return ExplainReport(len(images), tuple(noise), folder)


def _explain_pictures(
    images: Sequence[Path], network: Network, checkpoint: Checkpoint, max_pixels: int, folder: Path
) -> tuple[list[Path], list[DataError]]:
    """Write a sheet of activation maps per photo, and a sheet of heat maps per `PICTURES_AT_ONCE` photos.

    Returns:
        The sheets of heat maps, and why some photos are on none.
    """
    sheets, failures = list[Path](), list[DataError]()
    named = zip(track(images, "pictures", len(images)), _unique_names(images), strict=True)
    for sheet_number in range(1, -(-len(images) // PICTURES_AT_ONCE) + 1):
        cells: list[Cell] = []
        for path, name in itertools.islice(named, PICTURES_AT_ONCE):
            try:
                picture_nhwc = _read(path, max_pixels, checkpoint.sample_bits)
            except DataError as error:  # the others are explained
                failures.append(error)
                continue
            write_png(
                _activation_sheet(network, checkpoint.preprocess(picture_nhwc), path.name),
                folder / "activations" / f"{name}.png",
            )
            cells += _heat_map_cells(network, checkpoint, picture_nhwc, path.name)
        if not cells:
            continue
        heading = "Grad-CAM: red marks what speaks most for the class that the network answers"
        sheet_hwc = sheet(cells, heading, columns=_PICTURE_COLUMNS, side=_PICTURE_SIDE)
        sheets.append(folder / ("evidence.png" if sheet_number == 1 else f"evidence_{sheet_number}.png"))
        write_png(sheet_hwc, sheets[-1])
    return sheets, failures


def _note_checkpoint(drawn: Iterable[Path], made_from: Hashes, project: Project) -> None:
    """Add pictures to `explain.json`, which names the checkpoint. Pictures of another checkpoint leave it."""
    earlier = files_written(project.explain_json, made_from)
    wrote = {**earlier, **hashes_of(drawn, project)}
    write_report(project.explain_json, {}, made_from=made_from, wrote=dict(sorted(wrote.items())))


def _parse_filters(network: Network, text: str) -> Filters:
    """Parse `LAYER`, `LAYER:5` or `LAYER:64-127`; a layer alone means its first filters.

    Raises:
        ParamsError: there is no such convolution, or it has no such filter.
    """
    name, _, interval = text.partition(":")
    layer = find_convolution(network, name)
    n_filters = network.get_parameter(f"{layer}.weight").shape[0]
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", interval or f"0-{min(GRID, n_filters) - 1}")
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
    if not first <= last < n_filters:
        example = f"{layer}:0-{min(GRID, n_filters) - 1}"
        raise ParamsError(f"--filters: {text!r}: {layer} has the filters 0 to {n_filters - 1}; expected {example}")
    return Filters(layer, tuple(range(first, last + 1)))


def _unique_names(images: Sequence[Path]) -> Iterator[str]:
    """A name for each photo's sheet: its stem, and a number where the name is taken. No two differ in case alone."""
    taken: set[str] = set()
    for path in images:
        numbered = (f"{path.stem}_{suffix}" for suffix in itertools.count(2))
        name = next(name for name in itertools.chain([path.stem], numbered) if name.casefold() not in taken)
        taken.add(name.casefold())
        yield name


def _read(path: Path, max_pixels: int, sample_bits: int | None) -> Tensor:
    """The photo; (1, height, width, 3) uint8 RGB."""
    try:
        return torch.from_numpy(read_photo(path, max_pixels=max_pixels, sample_bits=sample_bits).pixels_hwc)[None]
    except ImageError as error:
        raise DataError(str(error)) from error


def _heat_map_cells(network: Network, checkpoint: Checkpoint, picture_nhwc: Tensor, name: str) -> list[Cell]:
    """The photo as the network sees it, and the same photo with the heat map of its most probable class."""
    input_nchw = checkpoint.preprocess(picture_nhwc)
    with torch.no_grad():
        probabilities = (network(input_nchw)[0] / (checkpoint.calibration.temperature or 1.0)).softmax(dim=0)
    class_index = int(probabilities.argmax())
    heat_hw = heat_map(network, input_nchw, class_index)
    seen_nchw = checkpoint.preprocess.resized(picture_nhwc, checkpoint.preprocess.size)
    seen_hwc = seen_nchw[0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8).numpy()
    title = f"{probabilities[class_index]:.0%} {checkpoint.classes[class_index]}"
    return [
        Cell(_enlarged(seen_hwc), name),
        Cell(_enlarged(_coloured(seen_hwc, heat_hw)), title if heat_hw.any() else f"{title}: no evidence"),
    ]


def _coloured(seen_hwc: NDArray[np.uint8], heat_hw: NDArray[np.float32]) -> NDArray[np.uint8]:
    heat_bgr = cv2.applyColorMap((255 * heat_hw).round().astype(np.uint8), cv2.COLORMAP_JET)
    heat_rgb = cv2.cvtColor(heat_bgr, cv2.COLOR_BGR2RGB)
    return np.asarray(cv2.addWeighted(seen_hwc, 1 - _HEAT_SHARE, heat_rgb, _HEAT_SHARE, 0), np.uint8)


def _enlarged(pixels_hwc: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Enlarge smoothly to the size on the sheet, since the sheet itself would repeat pixels."""
    return np.asarray(cv2.resize(pixels_hwc, (_PICTURE_SIDE, _PICTURE_SIDE), interpolation=cv2.INTER_LINEAR), np.uint8)


def _activation_sheet(network: Network, input_nchw: Tensor, name: str) -> NDArray[np.uint8]:
    """A sheet with a block of maps for every convolution and pooling, in the order of computation."""
    layers = all_maps(network, input_nchw)
    if not layers:
        raise DataError(f"{name}: no convolution or pooling of this network gives a map of more than one position")
    cells = [Cell(_mosaic(maps), _title(maps)) for maps in layers]
    width = cells[0].pixels_hwc.shape[1]
    heading = f"{name}: each map from its least (black) to its largest value (white)"
    return sheet(cells, heading, columns=1, side=width)


def _title(maps: LayerMaps) -> str:
    _, n, height, width = maps.maps_nchw.shape
    first = f"the first {GRID} of " if n > GRID else ""
    return f"{maps.layer} ({maps.kind}): {first}{n} maps of {width} x {height}"


def _mosaic(maps: LayerMaps) -> NDArray[np.uint8]:
    """The first maps of a layer side by side on white; (height, width, 3) uint8."""
    levels_nchw = torch.stack([torch.from_numpy(_grey(map_hw))[None] for map_hw in maps.maps_nchw[0, :GRID]])
    mosaic_chw = make_grid(levels_nchw, nrow=_MAP_COLUMNS, padding=2, pad_value=255)
    return np.asarray(mosaic_chw.permute(1, 2, 0).numpy(), np.uint8)


def _grey(map_hw: Tensor) -> NDArray[np.uint8]:
    spread = float(map_hw.max() - map_hw.min())
    levels_hw = ((map_hw - map_hw.min()) / (spread or 1.0) * 255).numpy()
    interpolation = cv2.INTER_AREA if max(map_hw.shape) > _MAP_SIDE else cv2.INTER_NEAREST
    return np.asarray(cv2.resize(levels_hw, (_MAP_SIDE, _MAP_SIDE), interpolation=interpolation).round(), np.uint8)


def _write_patterns(grid: Sequence[Pattern], layer: str, folder: Path) -> Path:
    """Write a grid of patterns. Its heading says how many stay noise, and what that means."""
    first, last = grid[0].filter_index, grid[-1].filter_index
    n_noise = sum(pattern.stays_noise for pattern in grid)
    heading = (
        f"{layer}, filters {first} to {last}: {n_noise} of {len(grid)} stay noise "
        f"(correlation with the noise at the start above {STAYS_NOISE:g})"
    )
    cells = [
        Cell(drawable_levels(pattern.levels_chw).numpy(), f"{pattern.filter_index}{' noise' * pattern.stays_noise}")
        for pattern in grid
    ]
    drawn = sheet(cells, heading, columns=_PATTERN_COLUMNS, side=_PATTERN_SIDE)
    path = folder / f"filters_{layer}_{first}-{last}.png"
    write_png(drawn, path)
    return path
