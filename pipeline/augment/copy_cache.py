"""Cache of copies, kept outside DVC's outputs: a new frame costs its own copies, and no others.

`project.cache`/copies/<key>.<sha256>.<width>x<height>.jpg is a copy, and a hard link to the one in the outputs. The key
is a digest of the frame's bytes and of all else that decides about the copy. The sha256 is that of the copy's own
bytes. So a copy that was edited, that has rotted, or that a killed run left torn is a miss, and is made again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from pipeline.augment.params import AugmentParams
from pipeline.base.code_digest import digest_of_code
from pipeline.base.files import link_or_copy, remove, sha256_of, sweep_folder, temporary_beside
from pipeline.base.manifest import Row
from pipeline.base.storage.cache_key import cache_key

_CODE = ("pipeline/augment", "pipeline/base/frames.py", "runtime/images")
_KEY_DIGITS = 64
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

    def names_by_key(self, wanted: Collection[str]) -> dict[str, str]:
        """The file names of the copies with some keys. The folder may hold those of many other params and frames."""
        with os.scandir(self.folder) as entries:
            return {key: entry.name for entry in entries if (key := entry.name[:_KEY_DIGITS]) in wanted}

    def copy_named(self, name: str | None) -> MadeCopy | None:
        """What a file name says of a copy, which may not be as it was written; None where it says nothing."""
        told = _NAME.fullmatch(name) if name else None
        if told is None:
            return None
        return MadeCopy(self.folder / told[0], told["sha256"], int(told["width"]), int(told["height"]))

    def store(self, key: str, copy: MadeCopy) -> None:
        """Link a copy of the outputs into the cache. Nothing is flushed, since `is_whole` notices a torn file."""
        file = self.folder / f"{key}.{copy.sha256}.{copy.width}x{copy.height}.jpg"
        temporary = temporary_beside(file)
        try:
            link_or_copy(copy.file, temporary)
            if file.is_dir():
                remove(file)  # no copy has ever been one
            temporary.replace(file)  # whole at once, since other runs may be linking the file that is there
        finally:
            remove(temporary)  # a rename between two links to one file leaves both


def open_copy_cache(folder: Path) -> CopyCache:
    """Make the folder, where there is none."""
    folder.mkdir(parents=True, exist_ok=True)
    sweep_folder(folder)
    return CopyCache(folder, digest_of_code(_CODE, cv2.__version__, np.__version__))
