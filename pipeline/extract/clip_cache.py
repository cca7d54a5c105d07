"""Cache of decoded clips, kept outside DVC's outputs so that each clip is decoded once.

An entry is a folder with the pictures of a clip and the outcome of its decoding. The entry appears whole or not at
all. Its key is a hash of the clip's content and of everything else that decides on the bytes of its pictures. The
pictures are hard-linked into the outputs.

Anybody may have written below the folder, and a power cut may have torn an entry. So an entry that `store` would not
have written is a miss, and is replaced.
"""

from __future__ import annotations

import errno
import hashlib
import json
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import av
import cv2
from filelock import FileLock

from pipeline.base.errors import DataError, PipeError
from pipeline.base.files import link_or_copy, read_json, remove, sha256_of, sweep_folder, temporary_folder
from pipeline.base.project import check_inside
from pipeline.base.storage.disk_space import is_full
from pipeline.extract.child import Outcome, Settings

# Raise it when the same clip and settings begin to give other bytes, or when `Outcome` or `Picture` gets other fields.
_FORMAT_VERSION = 9
_INDIFFERENT = ("threads", "sample_bits")  # settings that change no byte of a clip's pictures
_OUTCOME_FILE = "recorded.json"


class _NothingToStoreError(Exception):
    """Decoding a clip gave no picture."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome


@dataclass(frozen=True)
class ClipCache:
    """The entries below a folder. The folder may be deleted at any time."""

    folder: Path

    def sweep(self) -> None:
        """Remove the unfinished entries of processes that no longer run."""
        sweep_folder(self.folder)

    def find(self, key: str) -> Outcome | None:
        """The outcome of a clip, or None where there is no entry, or one that `store` did not leave like this."""
        entry = self.folder / key
        try:
            if not (entry / _OUTCOME_FILE).is_file():  # reading a pipe would wait for its writer
                return None
            stored = read_json(entry / _OUTCOME_FILE)
            if stored["digest"] != _digest(key, stored["recorded"], stored["marks"]):
                return None
            outcome = Outcome.from_json(stored["recorded"])
            return outcome if self._holds(key, outcome, stored["marks"]) else None
        except (DataError, OSError, RecursionError, KeyError, TypeError, ValueError, AttributeError):
            return None  # whatever it holds, it is no entry

    def store(self, key: str, decode: Callable[[Path], Outcome]) -> Outcome:
        """Decode a clip into a new entry. A clip that gives no picture leaves no entry.

        Of several runs that decode it at once the first one's entry stays, since they may be linking its pictures.

        Args:
            key: the key of the clip, from `clip_key`.
            decode: writes the clip's pictures below the folder that it gets.

        Raises:
            PipeError: the entry cannot be written.
        """
        try:
            with temporary_folder(self.folder / key) as entry:
                outcome = _with_pictures(decode(entry))
                marks = {picture.path: _size_and_time(entry / picture.path) for picture in outcome.pictures}
                recorded = outcome.to_json()
                stored = {"recorded": recorded, "marks": marks, "digest": _digest(key, recorded, marks)}
                (entry / _OUTCOME_FILE).write_text(json.dumps(stored, allow_nan=False), encoding="utf-8")
                with FileLock(self.folder / ".lock"):
                    if (earlier := self.find(key)) is not None:
                        return earlier
                    remove(self.folder / key)
                    # Nothing is flushed: that would wait for the disk once per clip, and `find` notices a torn entry.
                    entry.rename(self.folder / key)
        except _NothingToStoreError as error:
            return error.outcome
        except OSError as error:
            remedy = "make room for it" if is_full(error) else "expected a folder that can be written"
            raise PipeError(f"{self.folder}: cannot be written ({error.strerror}); {remedy}") from error
        return outcome

    def link(self, key: str, outcome: Outcome, frames: Path, name: str) -> Outcome:
        """Link the pictures of an entry into the folder of a recording, or copy them where links are refused.

        Args:
            key: the key of the clip.
            outcome: what the entry holds.
            frames: the folder of all frames.
            name: the name of the recording; its pictures will lie in `frames`/`name`.

        Returns:
            The outcome with the new paths of its pictures, relative to `frames`.
        """
        (frames / name).mkdir(parents=True)
        pictures = []
        for picture in outcome.pictures:
            path = f"{name}/{PurePosixPath(picture.path).name}"
            link_or_copy(self.folder / key / picture.path, frames / path)
            pictures.append(replace(picture, path=path))
        return replace(outcome, pictures=tuple(pictures))

    def _holds(self, key: str, outcome: Outcome, marks: dict[str, list[int]]) -> bool:
        """Whether the entry has all its pictures, unchanged, as files of its own and not behind a link.

        Raises:
            DataError, OSError: a path leaves the entry, or a picture is missing.
        """
        for picture in outcome.pictures:
            check_inside(picture.path)
        paths = [Path(picture.path) for picture in outcome.pictures]
        entry = self.folder.resolve() / key
        return (
            [picture.path for picture in outcome.pictures] == list(marks)
            and len({path.name for path in paths}) == len(paths)
            and all((entry / folder).resolve() == entry / folder for folder in {path.parent for path in paths})
            and all(_size_and_time(entry / path) == mark for path, mark in marks.items())
            # Bytes that rotted have kept size and time.
            and all(sha256_of(entry / picture.path) == picture.sha256 for picture in outcome.pictures)
        )


def clip_key(sha256: str, settings: Settings) -> str:
    """The key of a clip: a hash of its content, the settings, and the versions of the libraries that decode and encode.

    Settings that change no byte of a clip's pictures are left out.
    """
    deciding = {name: value for name, value in settings.to_json().items() if name not in _INDIFFERENT}
    versions = [_FORMAT_VERSION, av.__version__, cv2.__version__]
    text = json.dumps([sha256, deciding, versions], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _with_pictures(outcome: Outcome) -> Outcome:
    if not outcome.pictures:
        raise _NothingToStoreError(outcome)
    return outcome


def _digest(key: str, recorded: dict[str, Any], marks: dict[str, list[int]]) -> str:
    """The digest of an entry, by which changed values, and an entry under another key, are noticed."""
    return hashlib.sha256(json.dumps([key, recorded, marks], sort_keys=True).encode()).hexdigest()


def _size_and_time(path: Path) -> list[int]:
    """Size in bytes and time of the last change: an editor that changes a linked picture changes the entry too.

    Raises:
        OSError: there is no such file, or it is a link or no regular file.
    """
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return [status.st_size, status.st_mtime_ns]
