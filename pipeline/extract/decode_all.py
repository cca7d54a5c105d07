"""The parent's side of `extract`: decodes recordings in child processes, and clips only where the cache lacks them.

A child process decodes one clip after the other. One that crashes costs the clip that it decodes, and no other.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from pipeline.base.child_process import ChildCrashedError, run_in_child
from pipeline.base.engine import each_anywhere
from pipeline.base.files import sha256_of
from pipeline.extract.child import Outcome, Settings, misnamed_clip
from pipeline.extract.clip_cache import ClipCache, clip_key
from pipeline.media.photos import is_photo
from pipeline.media.recordings import Recording

CHILD = "pipeline.extract.child:decode_recordings"
PHOTOS_PER_CALL = 100  # the call costs more than a small photo


@dataclass(frozen=True)
class Limits:
    """Limits of one call of a child process, which decodes one clip or one batch of photos."""

    seconds: float
    bytes: int  # of memory


@dataclass(frozen=True)
class ParallelDecoder:
    """Decodes recordings in child processes, as many at a time as there are processors."""

    settings: Settings
    limits: Limits
    root: Path | None  # folder that the paths of recordings are relative to; None for the working directory
    cache: ClipCache | None  # of decoded clips; None caches nothing

    def decode(self, recordings: Sequence[Recording], frames: Path) -> list[Outcome]:
        """Decode every recording; its pictures lie below `frames` then. Clips of equal content are decoded once.

        Returns:
            One outcome per recording, in the order of `recordings`.

        Raises:
            PipeError: a picture cannot be written.
        """
        photos: list[Recording] = []
        clips: list[Recording] = []
        for recording in recordings:  # by content: the cache is for clips only
            (photos if is_photo(self._file(recording)) else clips).append(recording)
        digests = self._digests(clips)
        keys = {name: clip_key(sha256, self.settings) for name, sha256 in digests.items()}
        batches = _batches(clips, photos, keys)
        items = [(batch, digests.get(batch[0].name)) for batch in batches]
        decoded = each_anywhere(partial(_decode_batch, self, frames), items, "extract")
        outcomes = {
            _work_id(recording, keys): outcome
            for batch, outcomes_of_batch in zip(batches, decoded, strict=True)
            for recording, outcome in zip(batch, outcomes_of_batch, strict=True)
        }
        return [
            self._link_cached(recording, keys, outcomes[_work_id(recording, keys)], frames) for recording in recordings
        ]

    def _file(self, recording: Recording) -> Path:
        return (self.root or Path()) / recording.path

    def _digests(self, clips: Sequence[Recording]) -> dict[str, str]:
        """The SHA-256 of clips by their names, where there is a cache. A clip that cannot be read has none."""
        if self.cache is None:
            return {}
        self.cache.sweep()
        digests = each_anywhere(self._digest, clips, "read")
        return {clip.name: digest for clip, digest in zip(clips, digests, strict=True) if digest}

    def _digest(self, clip: Recording) -> str:
        try:
            return sha256_of(self._file(clip))
        except OSError:  # the child that decodes the clip reports it
            return ""

    def _link_cached(self, recording: Recording, keys: dict[str, str], outcome: Outcome, frames: Path) -> Outcome:
        """Link a cached clip's pictures into `frames`; the pictures of other recordings are there already."""
        key = keys.get(recording.name)
        if self.cache is None or key is None or not outcome.pictures:
            return outcome
        # The clip may have been decoded under another name.
        renamed = replace(outcome, misnamed=misnamed_clip(recording.path))
        return self.cache.link(key, renamed, frames, recording.name)

    def decode_in_child(
        self, batch: Sequence[Recording], folder: Path, sha256_of_clip: str | None = None
    ) -> list[Outcome]:
        """Decode a clip, or photos one after the other, in a child process. A crash costs one recording alone.

        Args:
            batch: the clip, or the photos.
            folder: where their pictures go.
            sha256_of_clip: None where it is not known, and for photos.
        """
        sources = [(str(recording.path), recording.name) for recording in batch]
        digests = {batch[0].name: sha256_of_clip} if sha256_of_clip else {}
        arguments = {
            "sources": sources,
            "frames": str(folder),
            "settings": self.settings.to_json(),
            "digests": digests,
        }
        try:
            outcomes = run_in_child(
                CHILD,
                arguments,
                subject=sources[0][0],
                timeout_seconds=self.limits.seconds,
                folder=self.root,
                max_bytes=self.limits.bytes,
            )
        except ChildCrashedError as error:
            if len(batch) == 1:
                _remove_pictures(folder / batch[0].name, self.settings.suffix)
                return [Outcome(damage=str(error).removeprefix(f"{sources[0][0]}: "))]
            # One photo of the batch crashed the decoder: each is decoded by itself, and the others are kept.
            return [outcome for recording in batch for outcome in self.decode_in_child([recording], folder)]
        return [Outcome.from_json(outcome) for outcome in outcomes]


def _decode_batch(
    decoder: ParallelDecoder, frames: Path, item: tuple[Sequence[Recording], str | None]
) -> list[Outcome]:
    """Decode photos, or a clip whose sha256 is known; a clip that the cache has is not decoded."""
    batch, sha256 = item
    if decoder.cache is None or sha256 is None:
        return decoder.decode_in_child(batch, frames)
    key = clip_key(sha256, decoder.settings)
    cached = decoder.cache.find(key)
    return [cached or decoder.cache.store(key, lambda entry: decoder.decode_in_child(batch, entry, sha256)[0])]


def _work_id(recording: Recording, keys: dict[str, str]) -> str:
    """Recordings with one id are decoded once: clips of equal content, where there is a cache."""
    return keys.get(recording.name, recording.name)


def _batches(
    clips: Sequence[Recording], photos: Sequence[Recording], keys: dict[str, str]
) -> list[Sequence[Recording]]:
    """What each call of a child decodes: one of several equal clips, or up to 100 photos."""
    different: dict[str, Recording] = {}
    for clip in clips:
        different.setdefault(_work_id(clip, keys), clip)
    starts = range(0, len(photos), PHOTOS_PER_CALL)
    return [*([clip] for clip in different.values()), *(photos[start : start + PHOTOS_PER_CALL] for start in starts)]


def _remove_pictures(stem: Path, suffix: str) -> None:
    """Remove the pictures that a child wrote before it crashed."""
    shutil.rmtree(stem, ignore_errors=True)
    stem.with_name(stem.name + suffix).unlink(missing_ok=True)
