"""What a preprocessing that somebody wrote again on the device would cost: another resize, the same normalisation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from export.graphs.gates import Logits
from export.graphs.runner import open_graph
from pipeline.base.errors import DataError
from pipeline.base.frames import read_frame
from pipeline.base.leakage import read_split_without_leaks
from pipeline.base.progress import track
from pipeline.base.project import Project
from pipeline.network.checkpoint import class_numbers, read_checkpoint
from pipeline.network.preprocess import Preprocess

Resize = Callable[[NDArray[np.uint8], int], NDArray[np.uint8]]  # (height, width, 3) to (side, side, 3)


@dataclass(frozen=True)
class AgainstReport:
    """The other preprocessing before the same network, beside the graph's own."""

    library: str
    n_frames: int
    flips: int
    top1: float  # with the graph's preprocessing
    top1_otherwise: float  # with the other
    max_abs_logit_difference: float
    logit_range: float  # largest minus smallest logit with the graph's preprocessing
    max_level_difference: float  # of a resized pixel's channel, levels of 255

    @property
    def headline(self) -> str:
        """One line: flips, top-1 with either, and the largest differences."""
        points = 100 * (self.top1_otherwise - self.top1)
        return (
            f"resized by {self.library} instead of the graph: {self.flips} flips on {self.n_frames} frames, top-1"
            f" {self.top1:.1%} to {self.top1_otherwise:.1%} ({points:+.1f} points), largest logit difference"
            f" {self.max_abs_logit_difference:.2e} of a range of {self.logit_range:.2f}, largest pixel difference"
            f" {self.max_level_difference:.0f} of 255"
        )


def against(library: str, project: Project) -> AgainstReport:
    """Answer every held-out frame through `core.onnx`, preprocessed by the graph and as `library` would resize.

    Args:
        library: `pil` or `opencv`, each with its bilinear resize as it is called without a second thought.
        project: of which the graphs, the checkpoint and the held-out frames are read; nothing is written.

    Raises:
        DataError: no held-out frame, or one of a class that the checkpoint does not know; a graph, the checkpoint or a
            frame is missing or broken.
    """
    rows = [row for row in read_split_without_leaks(project) if row.split == "test"]
    if not rows:
        raise DataError(f"{project.split_csv}: no held-out frame; nothing was compared")
    checkpoint, resize = read_checkpoint(project.checkpoint), RESIZES[library]
    preprocess, truth = checkpoint.preprocess, class_numbers(rows, checkpoint, project)
    front, core = (open_graph(project.onnx / name) for name in ("preprocess.onnx", "core.onnx"))
    ours, others, levels = [], [], 0.0
    for row in track(rows, f"against {library}", len(rows)):
        frame_hwc = read_frame(project, row)
        resized_hwc = _resized(frame_hwc, preprocess, resize)
        levels = max(levels, _level_difference(frame_hwc, resized_hwc, preprocess))
        ours.append(core(front(frame_hwc[None])))
        others.append(core(np.ascontiguousarray(preprocess.normalised(torch.from_numpy(resized_hwc[None])).numpy())))
    return _compare(library, np.concatenate(ours), np.concatenate(others), truth, levels)


def _by_pil(box_hwc: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(box_hwc).resize((side, side), Image.Resampling.BILINEAR))


def _by_opencv(box_hwc: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(box_hwc, (side, side), interpolation=cv2.INTER_LINEAR), np.uint8)


RESIZES: dict[str, Resize] = {"pil": _by_pil, "opencv": _by_opencv}


def _resized(frame_hwc: NDArray[np.uint8], preprocess: Preprocess, resize: Resize) -> NDArray[np.uint8]:
    top, left, height, width = preprocess.box(*frame_hwc.shape[:2])
    box_hwc = np.ascontiguousarray(frame_hwc[top : top + height, left : left + width])
    return np.array(resize(box_hwc, preprocess.size))  # a copy, which torch may write to


def _level_difference(frame_hwc: NDArray[np.uint8], resized_hwc: NDArray[np.uint8], preprocess: Preprocess) -> float:
    ours_nchw = preprocess.resized(torch.from_numpy(frame_hwc[None]), preprocess.size).numpy()
    return float(np.abs(ours_nchw[0].transpose(1, 2, 0) - resized_hwc).max())


def _compare(library: str, ours: Logits, others: Logits, truth: NDArray[np.int64], levels: float) -> AgainstReport:
    answers, otherwise = ours.argmax(axis=1), others.argmax(axis=1)
    return AgainstReport(
        library=library,
        n_frames=len(truth),
        flips=int((answers != otherwise).sum()),
        top1=float((answers == truth).mean()),
        top1_otherwise=float((otherwise == truth).mean()),
        max_abs_logit_difference=float(np.abs(ours - others).max()),
        logit_range=float(np.ptp(ours)),
        max_level_difference=levels,
    )
