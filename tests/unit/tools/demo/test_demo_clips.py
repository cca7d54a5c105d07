"""The clips of the demo: the same seed gives the same bytes, and they have what phone clips have."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from pipeline.base.errors import DataError
from pipeline.tools.demo import demo_clips
from pipeline.tools.demo.demo_clips import CLIPS_PER_CLASS, PHOTOGRAPHS, SIDES, make_demo_clips
from runtime.clips.clip import ClipInfo, Frame, open_clip
from runtime.clips.decode_plan import Wanted
from runtime.clips.demuxer import Bounds


def film(folder: Path, label: str, clip: int, seed: int = 0) -> Path:
    folder.mkdir(exist_ok=True)
    demo_clips._film(folder, demo_clips._Shot(label, clip, seed))
    return folder / label / f"clip_{clip}.mp4"


def look(path: Path, frames_per_second: float = 1) -> tuple[list[Frame], ClipInfo]:
    with open_clip(path, Bounds(1_000_000, 60), strict=True) as clip:
        return list(clip.frames(Wanted(frames_per_second))), clip.info()


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    first, again, another_seed = (
        film(tmp_path / name, "砾石", 1, seed).read_bytes() for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert first == again
    assert first != another_seed


def test_a_clip_lasts_six_to_eight_seconds_and_moves(tmp_path: Path) -> None:
    frames, info = look(film(tmp_path, "brick", 1))
    assert 6 <= info.duration_seconds <= 8
    assert (info.codec, info.width, info.height, info.rotation, info.warnings) == ("h264", *SIDES, 0, ())
    assert len(frames) in (6, 7, 8)
    for before, after in itertools.pairwise(frames):
        assert np.abs(before.pixels_hwc.astype(int) - after.pixels_hwc.astype(int)).mean() > 2


def test_one_clip_is_upright_by_its_metadata(tmp_path: Path) -> None:
    _, info = look(film(tmp_path, "brick", 2))
    assert (info.width, info.height, info.rotation) == (*SIDES[::-1], -90)


def test_one_clip_has_a_variable_rate(tmp_path: Path) -> None:
    frames, info = look(film(tmp_path, "grass", 3), 1000)
    steps = np.diff([frame.time_seconds for frame in frames])
    assert steps.max() > 1.5 * steps.min()
    assert info.frames_found < 0.9 * info.duration_seconds * demo_clips.FRAMES_PER_SECOND


def test_no_two_clips_see_the_same_region() -> None:
    photograph_hw = np.zeros((512, 512), np.uint8)
    for position in range(CLIPS_PER_CLASS):
        region_hw = demo_clips._region(photograph_hw, position)
        assert region_hw.size > 40_000
        assert not region_hw.any()
        region_hw += 1


@pytest.mark.parametrize("sides", [SIDES, SIDES[::-1]])
def test_the_camera_never_looks_beyond_its_region(sides: tuple[int, int]) -> None:
    region_hw = demo_clips._region(demo_clips._photograph("grass"), 0)
    corners = np.array([[x, y, 1] for x in (0, sides[0]) for y in (0, sides[1])]).T
    for seed in range(20):
        camera = demo_clips._Camera(region_hw, sides, np.random.default_rng(seed))
        for progress in np.linspace(0, 1, 50):
            x, y = camera._view(progress) @ corners
            assert x.min() > -1e-6
            assert x.max() < region_hw.shape[1] + 1e-6
            assert y.min() > -1e-6
            assert y.max() < region_hw.shape[0] + 1e-6


def test_a_folder_with_recordings_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.mp4").write_bytes(b"precious")
    with pytest.raises(DataError, match="not empty"):
        make_demo_clips(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.mp4"]


def test_all_clips_of_all_classes_are_filmed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def touch(folder: Path, shot: demo_clips._Shot) -> None:
        path = folder / shot.label / f"clip_{shot.clip}.mp4"
        path.parent.mkdir(exist_ok=True)
        path.touch()

    monkeypatch.setattr(demo_clips, "_film", touch)
    make_demo_clips(tmp_path / "data" / "raw")
    written = {path.relative_to(tmp_path / "data" / "raw").as_posix() for path in tmp_path.rglob("*.mp4")}
    assert written == {f"{label}/clip_{clip}.mp4" for label in PHOTOGRAPHS for clip in range(1, 6)}
