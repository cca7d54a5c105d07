"""Prints which real photos the split would join by names, times and bursts, without a look at their pixels.

PIPE_SHARED=… python -m tests.trials.joined_photos    five data sets; the suite asserts the groups by names
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from pipeline.base.manifest import Row
from pipeline.media.capture import Capture, capture_of_photo, completed_by_name
from pipeline.split.grouping import merge_groups
from pipeline.split.proposals import propose
from runtime.images.pillow import DECODER_ERRORS

FOLDERS = ("fish", "lfw_top20", "cats_dogs", "hymenoptera", "neu_surface")


@dataclass(frozen=True)
class Result:
    """What was joined of one data set."""

    n_photos: int
    n_groups: int
    n_joined: int  # photos in a group of several
    reasons: dict[str, int]  # by reason: links
    left_apart: tuple[str, ...]


def captured(path: Path) -> Capture:
    """What the photo and its name say; a photo that cannot be opened says nothing."""
    with contextlib.suppress(*DECODER_ERRORS), warnings.catch_warnings(action="ignore"), Image.open(path) as image:
        return completed_by_name(capture_of_photo(image), path.name)
    return completed_by_name(Capture(), path.name)


def join(folder: Path) -> Result:
    """Propose groups for every file below a folder; the class is the folder that it lies in."""
    rows = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        source, capture = path.relative_to(folder).as_posix(), captured(path)
        rows.append(Row(source, path.parent.name, source, "", source, **vars(capture)))
    proposals = propose(rows, frozenset(), photos=True, within_given=False)
    merged, _ = merge_groups(rows, links=proposals.links)
    sizes = Counter(row.group for row in merged)
    n_joined = sum(size for size in sizes.values() if size > 1)
    reasons = Counter(link.reason for link in proposals.links)
    return Result(len(rows), len(sizes), n_joined, dict(reasons), proposals.left_apart)


def main() -> None:
    """Run and print."""
    shared = Path(os.environ["PIPE_SHARED"])
    for name in FOLDERS:
        result = join(shared / "data" / name)
        share = result.n_joined / result.n_photos
        print(f"{name:12} {result.n_photos:5} photos, {share:6.1%} joined, {result.n_groups:5} groups {result.reasons}")
        for sentence in result.left_apart:
            print(f"{'':12} left apart: {sentence}")


if __name__ == "__main__":
    main()
