"""Sound proposes copies that pictures do not, and merges no two clips that show different things."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.base.errors import DataError
from pipeline.base.fingerprints import SOUND, Fingerprint, SoundFingerprint, fingerprint_path
from pipeline.base.manifest import Row
from pipeline.base.project import Project
from pipeline.extract.sound import sound_fingerprint
from pipeline.split.near_duplicates.clip_copies import confirm_crop, find_clip_copies
from pipeline.split.near_duplicates.crops import Part, likely_parts
from pipeline.split.near_duplicates.same_sound import offset_of_sound
from tests.support.moving_clips import Copy, Picture, film, fingerprint_of, write_copy
from tests.support.scenes import scene
from tests.support.sounds import Sound, later, music, with_sound

SKIPPED = 0.6  # seconds that the copies lack
KEPT = {"centre": Part(0.8, 0.5, 0.5), "corner": Part(0.75, 1.0, 0.0), "edge": Part(0.9, 0.0, 0.5)}

Known = dict[str, tuple[Fingerprint, SoundFingerprint | None]]


def cropped(picture: Picture, part: Part) -> Picture:
    height, width = picture.shape[:2]
    top, left = (
        round(position * (1 - part.kept) * side) for position, side in ((part.down, height), (part.across, width))
    )
    piece = picture[top : top + round(part.kept * height), left : left + round(part.kept * width)]
    return np.asarray(cv2.resize(piece, (width, height)), np.uint8)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Known:
    """Three clips, a cropped copy of each; and clips with the sound of the first: another scene, and another take."""
    folder = tmp_path_factory.mktemp("clips")

    def known(name: str, frames: list[Picture], copy: Copy, sound: Sound) -> None:
        silent = write_copy(frames, folder / "silent" / f"{name}.mp4", copy)
        made[name] = fingerprint_of(silent), sound_fingerprint(with_sound(silent, folder / f"{name}.mp4", sound))

    made: Known = {}
    for number, part in enumerate(KEPT.values()):
        frames, sound = film(number, number), music(number)
        known(f"clip{number}", frames, Copy(), sound)
        mirrored = Copy(SKIPPED, mirrored=number == 1)
        known(f"copy{number}", [cropped(frame, part) for frame in frames], mirrored, later(sound, SKIPPED))
    known("scene", film(10, 10), Copy(SKIPPED), later(music(0), SKIPPED))
    known("take", film(0, 50), Copy(SKIPPED), later(music(0), SKIPPED))
    return made


def rows_of(clips: Known, names: list[str], project: Project, *, sounds: bool = True) -> list[Row]:
    """A row for each clip, whose fingerprints are written."""
    rows = []
    for name in names:
        source = f"data/raw/a/{name}.mp4"
        pictures, sound = clips[name]
        path = fingerprint_path(source, project)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pictures.to_bytes())
        if sounds and sound is not None:
            fingerprint_path(source, project, SOUND).write_bytes(sound.to_bytes())
        rows.append(Row(f"data/frames/a/{name}.mp4/0.jpg", "a", source, name, source, time_seconds=0.0))
    return rows


def test_cropped_copies_are_found_by_their_sound_and_missed_without_it(clips: Known, project: Project) -> None:
    rows = rows_of(clips, list(clips), project, sounds=False)
    assert find_clip_copies(rows, project).copies == ()
    search = find_clip_copies(rows_of(clips, list(clips), project), project)
    found = {tuple(Path(source).stem for source in copy.sources): copy for copy in search.copies}
    assert set(found) == {(f"clip{number}", f"copy{number}") for number in range(3)}
    for number, part in enumerate(KEPT.values()):
        copy = found[f"clip{number}", f"copy{number}"]
        assert copy.offset_seconds == pytest.approx(SKIPPED, abs=0.08)
        assert copy.kept == pytest.approx(part.kept, abs=0.051)
        assert copy.mirrored is (number == 1)
    assert "sound" in {copy.proposed_by for copy in found.values()}


@pytest.mark.parametrize("name", ["scene", "take"])
def test_the_same_sound_over_other_pictures_makes_no_copy(clips: Known, project: Project, name: str) -> None:
    (first, first_sound), (second, second_sound) = clips["clip0"], clips[name]
    assert first_sound is not None
    assert second_sound is not None
    offset = offset_of_sound(first_sound, second_sound)
    assert offset == pytest.approx(SKIPPED, abs=0.08)  # so the pictures alone refuse it
    assert confirm_crop(("a", "b"), first, second, offset) is None
    assert confirm_crop(("b", "a"), second, first, -offset) is None
    search = find_clip_copies(rows_of(clips, ["clip0", name], project), project)
    assert (search.n_proposed, search.copies) == (1, ())


def test_the_parts_of_a_picture_are_recognised() -> None:
    pictures = np.stack(
        [cv2.resize(scene(number), (16, 16), interpolation=cv2.INTER_AREA)[:, :, 0] for number in (0, 0)]
    )
    for part in KEPT.values():
        assert part in likely_parts(pictures, part.of(pictures))
    assert likely_parts(pictures, pictures)[0] == Part()
    assert np.array_equal(Part(0.5, 0.0, 1.0).of(np.full((2, 16, 16), 7, np.uint8)), np.full((2, 16, 16), 7))


@pytest.mark.parametrize("n_times", [0, 1, 19])
def test_few_times_and_no_common_times_tell_nothing(clips: Known, n_times: int) -> None:
    whole = clips["clip0"][1]
    assert whole is not None
    assert offset_of_sound(whole, whole) == 0
    few = SoundFingerprint(whole.milliseconds[:n_times], whole.bits[:n_times])
    assert offset_of_sound(whole, few) is None
    assert offset_of_sound(few, whole) is None


def test_a_broken_fingerprint_of_sound_is_named(clips: Known, project: Project) -> None:
    rows = rows_of(clips, ["clip0", "copy0"], project)
    fingerprint_path(rows[0].source, project, SOUND).write_bytes(b"torn")
    with pytest.raises(DataError, match=r"clip0\.mp4\.sound\.npy: not a fingerprint"):
        find_clip_copies(rows, project)
