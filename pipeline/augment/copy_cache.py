"""Cache of copies, kept outside DVC's outputs: a new frame costs its own copies, and no others.

`project.cache`/copies/<key>.<sha256>.<width>x<height>.jpg is a copy, and a hard link to the one in the outputs. The key
is a digest of the frame's bytes and of all else that decides about the copy. The sha256 is that of the copy's own
bytes. So a copy that was edited, that has rotted, or that a killed run left torn is a miss, and is made again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from pipeline.augment.params import AugmentParams
from pipeline.base.code_digest import digest_of_code
from pipeline.base.files import link_or_copy, remove, sha256_of
from pipeline.base.manifest import Row
from pipeline.base.storage.cache_key import cache_key

_CODE = ("pipeline/augment", "pipeline/base/frames.py", "runtime/images")
_NAME = re.compile(r"(?P<key>[0-9a-f]{64})\.(?P<sha256>[0-9a-f]{64})\.(?P<width>[0-9]+)x(?P<height>[0-9]+)\.jpg")


@dataclass(frozen=True)
class MadeCopy:
    """The file of a copy, in the outputs or in the cache."""

    file: Path
    sha256: str
    width: int  # pixels
    height: int

    @property
    def is_whole(self) -> bool:
        """Whether the file is as it was written, and no link to one that anybody may change."""
        try:
            return not self.file.is_symlink() and sha256_of(self.file) == self.sha256
        except OSError:
            return False


@dataclass(frozen=True)
class CopyCache:
    """The copies below a folder. It may be deleted at any time."""

    folder: Path
    code: str  # a digest of what makes copies

    def key(self, frame: Row, params: AugmentParams, position: int) -> str:
        """The key of a copy.

        Args:
            frame: the frame, whose row has the sha256 of its file.
            params: the section `augment`.
            position: of the copy in `augment.copies`, from 0.
        """
        drawn_from = (params.seed, frame.path, position)
        how = (params.copies[position].model_dump_json(), params.jpeg_quality)
        return cache_key(self.code, frame.sha256, *drawn_from, *how)

    def by_key(self) -> dict[str, MadeCopy]:
        """List the copies; they may not be as they were written."""
        names = ((path, _NAME.fullmatch(path.name)) for path in self.folder.iterdir())
        return {
            name["key"]: MadeCopy(path, name["sha256"], int(name["width"]), int(name["height"]))
            for path, name in names
            if name
        }

    def store(self, key: str, copy: MadeCopy) -> None:
        """Link a copy of the outputs into the cache. Nothing is flushed, since `is_whole` notices a torn file."""
        file = self.folder / f"{key}.{copy.sha256}.{copy.width}x{copy.height}.jpg"
        remove(file)
        link_or_copy(copy.file, file)


def open_copy_cache(folder: Path) -> CopyCache:
    """Make the folder, where there is none."""
    folder.mkdir(parents=True, exist_ok=True)
    return CopyCache(folder, digest_of_code(_CODE, cv2.__version__, np.__version__))
