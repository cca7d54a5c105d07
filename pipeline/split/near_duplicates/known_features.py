"""Features of pictures that were found before: a new picture costs its own features alone.

`project.cache`/near_duplicates/<key>/ is a `RecordStore`. The key is a digest of the code that finds features and of
OpenCV's version. A record has the sha256 of the picture's file as its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import cv2
import numpy as np
import PIL
from numpy.typing import NDArray

from pipeline.base.code_digest import digest_of_code
from pipeline.base.engine import each_anywhere
from pipeline.base.frames import read_thumbnail
from pipeline.base.manifest import Row
from pipeline.base.project import Project
from pipeline.base.storage.cache_key import digests_of
from pipeline.base.storage.record_store import RecordStore
from pipeline.split.near_duplicates.features import DESCRIPTOR, FEATURES, FEATURES_SIDE, Features, find_features

_CODE = (
    "pipeline/base/frames.py", "pipeline/split/near_duplicates/features.py",
    "pipeline/split/near_duplicates/known_features.py", "runtime/images",
)  # fmt: skip
_MOST = FEATURES + 16  # SIFT keeps all features that are as strong as the weakest; of a picture with more none are kept
_RECORD = np.dtype([
    ("count", "<u4"), ("width", "<u4"), ("points_xy", "<f4", (_MOST, 2)), ("descriptors", "u1", (_MOST, DESCRIPTOR)),
])  # fmt: skip


def features_of(rows: Sequence[Row], project: Project) -> list[Features]:
    """Find or compute the features of each row's picture, in the order of the rows.

    Raises:
        DataError: a picture without known features is missing or broken.
    """

    def fill(positions: Sequence[int], empty: Sequence[NDArray[Any]]) -> None:
        pictures = [rows[position] for position in positions]
        found = each_anywhere(partial(_find, project), pictures, "looking for near duplicates")
        for features, record in zip(found, empty, strict=True):
            _pack(features, record)

    store = RecordStore(
        project.cache / "near_duplicates" / digest_of_code(_CODE, cv2.__version__, PIL.__version__), _RECORD
    )
    records = store.read_or_make(digests_of(rows, project), [()] * len(rows), fill)
    return [_unpacked(record) or _find(project, row) for row, record in zip(rows, records, strict=True)]


def _find(project: Project, row: Row) -> Features:
    cv2.setNumThreads(1)  # `each_anywhere` keeps every processor busy already
    return find_features(read_thumbnail(project, row, FEATURES_SIDE))


def _pack(features: Features, record: NDArray[Any]) -> None:
    count = len(features.points_xy)
    record["count"], record["width"] = count, features.width
    if count <= _MOST:
        record["points_xy"][:count], record["descriptors"][:count] = features.points_xy, features.descriptors


def _unpacked(record: NDArray[Any]) -> Features | None:
    """The features of a record; None where they were too many for it."""
    count = int(record["count"])
    if count > _MOST:
        return None
    return Features(record["points_xy"][:count], record["descriptors"][:count], int(record["width"]))
