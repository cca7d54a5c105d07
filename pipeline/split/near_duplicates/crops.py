"""Crops of small pictures: which part of one clip's picture another clip may show, enlarged to the whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.base.fingerprints import SIDE

_KEPT = (0.95, 0.9, 0.85, 0.8, 0.75, 0.7)  # shares of each side
_POSITIONS = (0.0, 0.25, 0.5, 0.75, 1.0)  # of a part between the two edges
_TRIED = 5

Pictures = NDArray[np.uint8]  # (n, 16, 16)


@dataclass(frozen=True)
class Part:
    """A part of a picture."""

    kept: float = 1.0  # share of each side
    across: float = 0.0  # 0 at the left edge, 1 at the right one
    down: float = 0.0  # 0 at the upper edge, 1 at the lower one

    def of(self, pictures: Pictures) -> Pictures:
        """The part of each picture, enlarged to 16 x 16 pixels."""
        if self.kept == 1:
            return pictures
        rows, columns = _enlarging(self.kept, self.down), _enlarging(self.kept, self.across)
        return np.asarray(np.round(rows @ pictures.astype(np.float64) @ columns.T), np.uint8)


def likely_parts(pictures: Pictures, part_of_them: Pictures) -> list[Part]:
    """The whole, and the parts of the first pictures whose mean looks most like the mean of the others."""
    whole, wanted = pictures.mean(axis=0)[None], part_of_them.mean(axis=0).ravel()
    parts = list(_all_parts())
    alike = [np.corrcoef(part.of(whole).ravel(), wanted)[0, 1] for part in parts]
    return [Part(), *(parts[number] for number in np.argsort(-np.nan_to_num(alike), kind="stable")[:_TRIED])]


def _all_parts() -> Iterator[Part]:
    for kept in _KEPT:
        for across in _POSITIONS:
            for down in _POSITIONS:
                yield Part(kept, across, down)


def _enlarging(kept: float, position: float) -> NDArray[np.float64]:
    """The matrix (16, 16) that draws a part of a line of pixels out to the whole line, linearly."""
    centres = (np.arange(SIDE) + 0.5) * kept + position * (1 - kept) * SIDE - 0.5
    weights: NDArray[np.float64] = 1 - np.abs(centres.clip(0, SIDE - 1)[:, None] - np.arange(SIDE))
    return weights.clip(min=0)
