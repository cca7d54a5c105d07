"""What a second preprocessing on the device would cost: the resize of another library, with the same normalisation."""

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
from pipeline.base.words import counted
from pipeline.network.checkpoint import class_numbers, read_checkpoint
from pipeline.network.preprocess import Preprocess

Resize = Callable[[NDArray[np.uint8], int], NDArray[np.uint8]]  # (height, width, 3) to (side, side, 3)


@dataclass(frozen=True)
class ResizeReport:
    """The same network behind the graph's own preprocessing, and behind another library's resize."""

    library: str
    n_frames: int
    flips: int
    top1: float  # with the graph's preprocessing
    top1_with_library: float  # with the library's resize
    max_abs_logit_difference: float
    logit_range: float  # largest minus smallest logit with the graph's preprocessing
    max_level_difference: float  # of a resized pixel's channel, levels of 255

    @property
    def headline(self) -> str:
        """One line: flips, top-1 with either, and the largest differences."""
        points = 100 * (self.top1_with_library - self.top1)
        return (
            f"resized by {self.library} instead of the graph: {counted(self.flips, 'flip')} on"
            f" {counted(self.n_frames, 'frame')}, top-1 {self.top1:.1%} to"
            f" {self.top1_with_library:.1%} ({points:+.1f} points), largest logit difference"
            f" {self.max_abs_logit_difference:.2e} of a range of {self.logit_range:.2f}, largest pixel difference"
            f" {self.max_level_difference:.0f} of 255"
        )


def compare_resize(library: str, project: Project) -> ResizeReport:
    """Classify every held-out frame with `core.onnx`, preprocessed by the graph and then by a library's resize.

    Args:
        library: `pil` or `opencv`, each with its bilinear resize in its default form.
        project: whose graphs, checkpoint and held-out frames are read; nothing is written.

    Raises:
        DataError: no frame is held out, or one has a class that the checkpoint does not know; a graph, the checkpoint
            or a frame is missing or broken.
    """
    rows = [row for row in read_split_without_leaks(project) if row.split == "test"]
    if not rows:
        raise DataError(f"{project.split_csv}: no held-out frame; nothing was compared")
    checkpoint, resize = read_checkpoint(project.checkpoint), RESIZES[library]
    preprocess, truth = checkpoint.preprocess, class_numbers(rows, checkpoint, project)
    front, core = (open_graph(project.onnx / name) for name in ("preprocess.onnx", "core.onnx"))
    graph_logits, library_logits, levels = [], [], 0.0
    for row in track(rows, f"against {library}", len(rows)):
        frame_hwc = read_frame(project, row)
        resized_hwc = _resized(frame_hwc, preprocess, resize)
        levels = max(levels, _level_difference(frame_hwc, resized_hwc, preprocess))
        graph_logits.append(core(front(frame_hwc[None])))
        input_nchw = preprocess.normalised(torch.from_numpy(resized_hwc[None])).numpy()
        library_logits.append(core(np.ascontiguousarray(input_nchw)))
    return _report(library, np.concatenate(graph_logits), np.concatenate(library_logits), truth, levels)


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
    exact_nchw = preprocess.resized(torch.from_numpy(frame_hwc[None]), preprocess.size).numpy()
    return float(np.abs(exact_nchw[0].transpose(1, 2, 0) - resized_hwc).max())


def _report(
    library: str, graph_logits: Logits, library_logits: Logits, truth: NDArray[np.int64], levels: float
) -> ResizeReport:
    from_graph, from_library = graph_logits.argmax(axis=1), library_logits.argmax(axis=1)
    return ResizeReport(
        library=library,
        n_frames=len(truth),
        flips=int((from_graph != from_library).sum()),
        top1=float((from_graph == truth).mean()),
        top1_with_library=float((from_library == truth).mean()),
        max_abs_logit_difference=float(np.abs(graph_logits - library_logits).max()),
        logit_range=float(np.ptp(graph_logits)),
        max_level_difference=levels,
    )
