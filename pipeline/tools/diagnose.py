"""Describe a clip or photo: its format, its damage, and the frames that screening would keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.base import manifest
from pipeline.base.errors import DataError, PipeError
from pipeline.base.manifest import Row
from pipeline.base.storage.scratch import scratch_folder
from pipeline.draw import sheets
from pipeline.draw.charts import DPI, chart_pixels, chart_text, figure_in_our_look
from pipeline.draw.sheets import GAP, Cell, sheet, stack, thumbnail
from pipeline.extract.params import ExtractParams
from pipeline.extract.stage import MANIFEST, extract_files
from runtime.images import read_image

SHOWN = 48  # at most so many kept frames and so many dropped ones, spread over the clip
_COLUMNS, _SIDE = 4, 320
_WIDTH = GAP + _COLUMNS * (_SIDE + GAP)
_PLOT_HEIGHT = 260  # pixels
_GREEN, _RED = (0, 128, 0), (200, 0, 0)
_BORDER = 6  # pixels


@dataclass(frozen=True)
class FileDiagnosis:
    """The description of one file."""

    path: Path
    lines: tuple[str, ...]  # for the reader; the first names the file
    usable: bool


def diagnose(
    paths: Sequence[Path], params: ExtractParams, out: Path | None, sample_bits: int | None = None
) -> list[FileDiagnosis]:
    """Extract each clip or photo by itself into a temporary folder, and describe it.

    Args:
        paths: the files.
        params: which frames are extracted, and how they are screened.
        out: a PNG file for the contact sheets, one below the other, written whole or not at all; None for no sheet.
        sample_bits: `image.sample_bits`.

    Returns:
        One description a file, in the order of `paths`.

    Raises:
        DataError: `out` does not end in .png, no file is usable for the sheet in `out`, or the sheet is too large for
            PNG.
    """
    if out is not None:
        sheets.check_png(out)
    diagnoses, drawn = [], []
    for path in paths:
        with scratch_folder("diagnose") as folder:
            try:
                diagnosis, sheet_hwc = _diagnose(path, params, sample_bits, folder / "frames", draw=out is not None)
            except PipeError as error:
                diagnosis, sheet_hwc = FileDiagnosis(path, (str(error),), usable=False), None
        diagnoses.append(diagnosis)
        drawn += [] if sheet_hwc is None else [sheet_hwc]
    if out is not None:
        if not drawn:
            raise DataError("; ".join(line for diagnosis in diagnoses for line in diagnosis.lines))
        sheets.write_png(sheets.stack(drawn), out)
    return diagnoses


def refuse_unusable(diagnoses: Sequence[FileDiagnosis]) -> None:
    """Raise an error where a file is unusable.

    Raises:
        DataError: at least one file is unusable. Its own description says why.
    """
    unusable = [diagnosis for diagnosis in diagnoses if not diagnosis.usable]
    if unusable:
        raise DataError(f"{len(unusable)} of {len(diagnoses)} files cannot be used; see their lines above")


def _diagnose(
    path: Path, params: ExtractParams, sample_bits: int | None, folder: Path, *, draw: bool
) -> tuple[FileDiagnosis, NDArray[np.uint8] | None]:
    report = extract_files([path], folder, params.model_copy(update={"on_damage": "keep"}), sample_bits)
    rows = manifest.read(folder / MANIFEST)
    lines = _clip_lines(report.clips[0]) if report.clips else [f"photo, {rows[0].width} x {rows[0].height}"]
    lines += [f"wrong suffix: {mismatch}" for mismatch in report.misnamed.values()]
    lines += [f"warning: {warning}" for warnings in report.photo_warnings.values() for warning in warnings]
    if not report.clips:
        lines.append(rows[0].drop_reason or "kept")
    diagnosis = FileDiagnosis(path, (f"{path}: {lines[0]}", *(f"  {line}" for line in lines[1:])), usable=True)
    if not draw:
        return diagnosis, None
    return diagnosis, contact_sheet(f"{path.name}: {lines[0]}", rows, folder, params.screening.min_sharpness)


def _clip_lines(clip: dict[str, Any]) -> list[str]:
    footage = clip["footage"]
    turned = f", turned by {clip['rotation']} degrees" if clip["rotation"] else ""
    promised = "an unknown number" if clip["frames_promised"] is None else clip["frames_promised"]
    hidden = f", {clip['frames_hidden']} hidden by an edit list" if clip["frames_hidden"] else ""
    dropped = ", ".join(f"{count} {reason}" for reason, count in clip["dropped"].items()) or "none dropped"
    is_damaged = clip["first_damage_seconds"] is not None
    undamaged = f"none met in the {clip['frames_decoded']} frames decoded"  # others may be damaged
    return [
        f"{clip['codec']} in {footage['container']}, {clip['width']} x {clip['height']}{turned}",
        f"frames: {clip['frames_found']} found, {promised} promised{hidden}; {clip['duration_seconds']:.2f} s",
        f"rate: {_rate(footage)}",
        f"colour: {footage['pixel_format']}, transfer {footage['transfer']}",
        f"keyframes: {footage['keyframes']}, {_spacing(footage['longest_keyframe_gap_seconds'])}",
        f"damage: {'; '.join(clip['warnings']) if is_damaged else undamaged}",
        *(f"warning: {warning}" for warning in clip["warnings"] if not is_damaged),
        f"screening: {clip['frames_kept']} of {clip['frames_extracted']} frames kept; {dropped}",
        *(f"{name}: {_range(clip[name])}" for name in ("sharpness", "brightness")),
    ]


def _rate(footage: dict[str, Any]) -> str:
    without = f"; {footage['packets_without_time']} packets without a time" if footage["packets_without_time"] else ""
    if footage["frames_per_second"] is None:
        return f"unknown, fewer than two times{without}"
    gaps = f"{footage['shortest_gap_seconds']:.4f} to {footage['longest_gap_seconds']:.4f} s apart"
    kind = "constant" if footage["rate_is_constant"] else "variable"
    return f"{footage['frames_per_second']:.3f} frames per second, {kind}, {gaps}{without}"


def _spacing(seconds: float | None) -> str:
    return "too few to tell their distance" if seconds is None else f"at most {seconds:.2f} s apart"


def _range(spread: dict[str, float]) -> str:
    return f"{spread['least']:.1f} to {spread['most']:.1f}, median {spread['median']:.1f}"


def contact_sheet(heading: str, rows: Sequence[Row], folder: Path, min_sharpness: float) -> NDArray[np.uint8]:
    """Draw a plot of sharpness, and below it the frames in order of time: kept ones green, dropped ones red.

    Args:
        heading: one line.
        rows: the frames of one clip or photo; at least one.
        folder: the folder that the rows' paths are relative to.
        min_sharpness: the threshold to draw, as a share of the median sharpness.

    Returns:
        (height, width, 3) uint8 RGB.
    """
    ordered = sorted(rows, key=lambda row: row.time_seconds or 0.0)
    shown = sorted(
        _spread([row for row in ordered if row.kept]) + _spread([row for row in ordered if not row.kept]),
        key=lambda row: row.time_seconds or 0.0,
    )
    frames_hwc = sheet(
        [_cell(row, folder) for row in shown],
        f"{len(shown)} of {len(rows)} frames: kept ones green, dropped ones red",
        columns=_COLUMNS,
        side=_SIDE,
    )
    return stack([_sharpness_plot(heading, ordered, min_sharpness), frames_hwc])


def _spread(rows: Sequence[Row]) -> list[Row]:
    if len(rows) <= SHOWN:
        return list(rows)
    return [rows[position] for position in np.linspace(0, len(rows) - 1, SHOWN).round().astype(int)]


def _cell(row: Row, folder: Path) -> Cell:
    small_hwc = thumbnail(read_image(folder / row.path, max_pixels=row.width * row.height), _SIDE)
    corner = (small_hwc.shape[1] - 1, small_hwc.shape[0] - 1)
    cv2.rectangle(small_hwc, (0, 0), corner, _GREEN if row.kept else _RED, _BORDER)
    time = "photo" if row.time_seconds is None else f"{row.time_seconds:.2f} s"
    return Cell(small_hwc, f"{time} {row.drop_reason or 'kept'}")


def _sharpness_plot(heading: str, rows: Sequence[Row], min_sharpness: float) -> NDArray[np.uint8]:
    """Plot sharpness over time, from zero. The grey line is the threshold."""
    values = np.array([row.sharpness or 0.0 for row in rows])
    times_seconds = np.array([row.time_seconds or 0.0 for row in rows])
    median = float(np.median(values))
    with figure_in_our_look(_WIDTH / DPI, _PLOT_HEIGHT / DPI) as figure:
        axes = figure.subplots()
        axes.set_title(chart_text(heading), loc="left", fontsize=10)
        axes.plot(times_seconds, values, color="0.63", linewidth=1)
        axes.scatter(times_seconds, values, c=["green" if row.kept else "red" for row in rows], s=12, zorder=3)
        axes.axhline(min_sharpness * median, color="0.63", linewidth=1)
        axes.set_ylim(0, (float(values.max()) or 1.0) * 1.05)
        axes.set_ylabel("sharpness")
        axes.set_xlabel(f"seconds; median {median:.1f}, most {values.max():.1f}; grey line: the least that is kept")
        return chart_pixels(figure)
