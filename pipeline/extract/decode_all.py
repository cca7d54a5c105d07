"""Decoding recordings side by side: each in a child process, and no clip whose frames are kept from before."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from pipeline.base.child_process import ChildCrashedError, run_in_child
from pipeline.base.files import sha256_of
from pipeline.base.parallel import each
from pipeline.extract.child import Recorded, Settings, broken, misnamed_clip
from pipeline.extract.clip_cache import ClipCache, key_of
from pipeline.media.photos import is_photo
from pipeline.media.recordings import Recording

CHILD = "pipeline.extract.child:record"
PHOTOS_PER_CHILD = 100  # a child takes a good part of a second to start


@dataclass(frozen=True)
class Limits:
    """Of a child: for a clip, or for the photos of one batch."""

    seconds: float
    bytes: int  # of memory


@dataclass(frozen=True)
class Recorder:
    """Writes the pictures of recordings."""

    settings: Settings
    limits: Limits
    root: Path | None  # where the paths of recordings start; None for the working directory
    cache: ClipCache | None  # of clips; None keeps nothing

    def record(self, recordings: Sequence[Recording], frames: Path) -> list[Recorded | str]:
        """What became of each; one that cannot be used gives its one line instead, one that is damaged does not.

        The pictures lie below `frames` then. Clips of the same content are decoded once.

        Raises:
            PipeError: a picture cannot be written.
        """
        photos: list[Recording] = []
        clips: list[Recording] = []
        for recording in recordings:  # by content: the cache keeps clips only
            (photos if is_photo(self._file(recording)) else clips).append(recording)
        keys = self._keys(clips)
        first_of_key = {keys[clip.name]: clip for clip in reversed(clips)}
        batches = [[clip] for clip in clips if first_of_key[keys[clip.name]] is clip]
        batches += [photos[start : start + PHOTOS_PER_CHILD] for start in range(0, len(photos), PHOTOS_PER_CHILD)]
        outcomes: dict[str, Recorded | str] = {}
        for batch, made in zip(batches, each(partial(self._batch, keys, frames), batches, "extract"), strict=True):
            outcomes |= {
                keys.get(recording.name, recording.name): one for recording, one in zip(batch, made, strict=True)
            }
        return [self._placed(recording, keys, outcomes, frames) for recording in recordings]

    def _file(self, recording: Recording) -> Path:
        return (self.root or Path()) / recording.path

    def _keys(self, clips: Sequence[Recording]) -> dict[str, str]:
        """Clips by name: what they are kept under; the name itself where nothing is kept."""
        if self.cache is None:
            return {clip.name: clip.name for clip in clips}
        self.cache.sweep()
        digests = each(self._digest, clips, "read")
        return {
            clip.name: key_of(digest, self.settings) if digest else clip.name
            for clip, digest in zip(clips, digests, strict=True)
        }

    def _digest(self, clip: Recording) -> str:
        try:
            return sha256_of(self._file(clip))
        except OSError:  # the child that is to decode it says so
            return ""

    def _batch(self, keys: dict[str, str], frames: Path, batch: Sequence[Recording]) -> list[Recorded | str]:
        key = keys.get(batch[0].name, batch[0].name)
        if self.cache is None or key == batch[0].name:
            return self._in_child(batch, frames)
        kept = self.cache.find(key)
        return [kept or self.cache.keep(key, lambda entry: self._in_child(batch, entry)[0])]

    def _placed(
        self, recording: Recording, keys: dict[str, str], outcomes: dict[str, Recorded | str], frames: Path
    ) -> Recorded | str:
        key = keys.get(recording.name, recording.name)
        outcome = outcomes[key]
        if self.cache is None or key == recording.name or isinstance(outcome, str) or not outcome["pictures"]:
            return outcome
        named: Recorded = {**outcome, "misnamed": misnamed_clip(recording.path)}  # what is kept bore another name
        return self.cache.link(key, named, frames, recording.name)

    def _in_child(self, batch: Sequence[Recording], folder: Path) -> list[Recorded | str]:
        sources = [(str(recording.path), recording.name) for recording in batch]
        try:
            outcomes: list[Recorded | str] = run_in_child(
                CHILD,
                {"sources": sources, "frames": str(folder), "settings": asdict(self.settings)},
                subject=sources[0][0],
                timeout_seconds=self.limits.seconds,
                folder=self.root,
                max_bytes=self.limits.bytes,
            )
        except ChildCrashedError as error:
            if len(batch) == 1:
                _remove(folder / batch[0].name, self.settings.suffix)
                return [broken(str(error).removeprefix(f"{sources[0][0]}: "))]
            return [outcome for one in batch for outcome in self._in_child([one], folder)]
        return outcomes


def _remove(stem: Path, suffix: str) -> None:
    """Take away what a decoder left that did not come to its end."""
    shutil.rmtree(stem, ignore_errors=True)
    stem.with_name(stem.name + suffix).unlink(missing_ok=True)
