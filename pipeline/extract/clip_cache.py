"""What was decoded of clips before, kept outside the stage's outputs, so that a clip is decoded once.

An entry is a folder with the pictures of a clip and a file that says what became of it. It appears whole or not at
all, is found by the content of the clip and everything that decides on the bytes, and is linked into the outputs.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

import av
import cv2

from pipeline.base.errors import DataError, PipeError
from pipeline.base.files import read_json, replacing_folder, sweep_stale, write_json
from pipeline.extract.child import Recorded, Settings

_FORMAT = 4  # raise it when the same clip and settings begin to give other bytes, or `Recorded` other fields
_RECORD = "recorded.json"
_CANNOT_LINK = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EACCES}


class _NothingMadeError(Exception):
    """A clip cannot be used, so there is nothing to keep."""

    def __init__(self, outcome: Recorded | str) -> None:
        self.outcome = outcome


@dataclass(frozen=True)
class ClipCache:
    """The entries below a folder, which may be deleted at any time."""

    folder: Path

    def sweep(self) -> None:
        """Remove what processes left behind that are gone."""
        for stale in self.folder.glob(".*.tmp"):
            sweep_stale(self.folder / stale.name[1:].split(".", 1)[0])

    def find(self, key: str) -> Recorded | None:
        """What became of a clip, None where it was not decoded yet or its pictures were touched since."""
        entry = self.folder / key
        try:
            kept = read_json(entry / _RECORD)
        except DataError:
            return None
        whole = all((entry / name).is_file() and _mark(entry / name) == mark for name, mark in kept["marks"].items())
        return kept["recorded"] if whole else None

    def keep(self, key: str, make: Callable[[Path], Recorded | str]) -> Recorded | str:
        """Have a clip decoded into a new entry; one that cannot be used leaves none.

        Args:
            key: of the clip.
            make: writes the pictures below the folder that it is given.

        Raises:
            PipeError: the entry cannot be written.
        """
        try:
            with replacing_folder(self.folder / key) as entry:
                recorded = _usable(make(entry))
                marks = {picture["path"]: _mark(entry / picture["path"]) for picture in recorded["pictures"]}
                write_json(entry / _RECORD, {"recorded": recorded, "marks": marks})
        except _NothingMadeError as nothing:
            return nothing.outcome
        except OSError as error:
            raise PipeError(f"{self.folder}: cannot be written ({error.strerror}); make room for it") from error
        return recorded

    def link(self, key: str, recorded: Recorded, frames: Path, name: str) -> Recorded:
        """Let the pictures of an entry appear in the folder of a recording too.

        Args:
            key: of the clip.
            recorded: what became of it.
            frames: the folder of frames.
            name: of the recording; its pictures will lie in `frames`/`name`.

        Returns:
            The same with the paths that the pictures have below `frames`.
        """
        (frames / name).mkdir(parents=True)
        pictures = []
        for picture in recorded["pictures"]:
            path = f"{name}/{PurePosixPath(picture['path']).name}"
            _link(self.folder / key / picture["path"], frames / path)
            pictures.append(picture | {"path": path})
        return recorded | {"pictures": pictures}


def key_of(sha256: str, settings: Settings) -> str:
    """The name of a clip's entry: a hash of its content, the settings, and the libraries that decode and encode."""
    deciding = {name: value for name, value in asdict(settings).items() if name != "threads"}
    versions = [_FORMAT, av.__version__, cv2.__version__]
    text = json.dumps([sha256, deciding, versions], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _usable(outcome: Recorded | str) -> Recorded:
    if isinstance(outcome, str) or not outcome["pictures"]:
        raise _NothingMadeError(outcome)
    return outcome


def _mark(path: Path) -> list[int]:
    """Size and time of change: an editor that writes a linked picture in place changes the entry too."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _CANNOT_LINK:
            raise
        shutil.copyfile(source, target)
