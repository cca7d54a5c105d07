"""`pipe extract --diagnose`: the lines about a clip or photo, and the contact sheet of its frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.base.errors import DataError
from pipeline.base.manifest import Row
from pipeline.base.section import read_section
from pipeline.draw.sheets import stack
from pipeline.extract.params import ExtractParams
from pipeline.tools.diagnose import SHOWN, FileDiagnosis, contact_sheet, diagnose, refuse_unusable
from runtime.images import read_image
from tests.support.command import ROOT, run_pipe
from tests.support.media import damage, write_clip, write_photo

GREEN, RED = (0, 128, 0), (200, 0, 0)


def params(**changes: Any) -> ExtractParams:
    defaults = read_section(ROOT / "params.yaml", "extract", ExtractParams)
    return ExtractParams.model_validate(defaults.model_dump() | changes)


def has_colour(pixels_hwc: np.ndarray[Any, np.dtype[np.uint8]], colour: tuple[int, int, int]) -> bool:
    return bool((pixels_hwc == colour).all(axis=2).any())


def test_a_clip_is_described_in_lines(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "walk.mp4", n_frames=33)
    any_sharpness = params().screening.model_dump() | {"min_sharpness": 0.0}  # what media draws is flat
    (diagnosis,) = diagnose([clip], params(frames_per_second=10, screening=any_sharpness), None)
    assert diagnosis.usable
    first, *rest = diagnosis.lines
    assert first == f"{clip}: h264 in mov, 64 x 48"
    assert rest[:6] == [
        "  frames: 33 found, 33 promised; 3.30 s",
        "  rate: 10.000 frames per second, constant, 0.1000 to 0.1000 s apart",
        "  colour: yuv420p, transfer not stated",
        "  keyframes: 1, too few to tell their distance",
        "  damage: none met in the 33 frames decoded",
        "  screening: 30 of 33 frames kept; 3 repeated",
    ]
    assert [line.split(":")[0] for line in rest[6:]] == ["  sharpness", "  brightness"]


def test_damage_and_a_variable_rate_are_described(tmp_path: Path) -> None:
    clip = damage(write_clip(tmp_path / "cut.mkv", n_frames=40, sides=(320, 240), noise=20), flipped=30)
    uneven = write_clip(tmp_path / "uneven.mp4", times_ms=[0, 100, 700])
    damaged, variable = diagnose([clip, uneven], params(), None)
    assert any(line.startswith("  damage: ") and "none met" not in line for line in damaged.lines)
    assert any("variable, 0.1000 to 0.6000 s apart" in line for line in variable.lines)


def test_an_unusable_file_has_its_line_and_the_others_are_described(tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_text("no video", encoding="utf-8")
    paths = [tmp_path / "bad.mp4", write_clip(tmp_path / "good.mp4"), tmp_path / "missing.mov"]
    diagnoses = diagnose(paths, params(), tmp_path / "sheet.png")
    assert [diagnosis.usable for diagnosis in diagnoses] == [False, True, False]
    assert diagnoses[0].lines[0].startswith(f"{tmp_path}/bad.mp4: its content is not MP4")
    assert "No such file" in diagnoses[2].lines[0]
    with pytest.raises(DataError, match="2 of 3 files cannot be used"):
        refuse_unusable(diagnoses)
    assert refuse_unusable([FileDiagnosis(paths[1], (), usable=True)]) is None  # does not raise


def test_a_sheet_of_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").touch()
    with pytest.raises(DataError, match="empty file"):
        diagnose([tmp_path / "bad.mp4"], params(), tmp_path / "sheet.png")
    assert not (tmp_path / "sheet.png").exists()


def test_a_sheet_does_not_replace_what_is_no_sheet(tmp_path: Path) -> None:
    first, second = (write_clip(tmp_path / name, n_frames=2) for name in ("first.mp4", "second.mp4"))
    before = second.read_bytes()
    with pytest.raises(DataError, match=r"second\.mp4: a sheet is a PNG file"):
        diagnose([first], params(), second)
    assert second.read_bytes() == before


def test_a_photo_is_described_too(tmp_path: Path) -> None:
    photo = write_photo(tmp_path / "stone.png").rename(tmp_path / "stone.jpg")
    (diagnosis,) = diagnose([photo], params(), tmp_path / "sheet.png")
    assert diagnosis.lines == (f"{photo}: photo, 64 x 48", "  wrong suffix: PNG named .jpg", "  kept")
    assert (tmp_path / "sheet.png").exists()


def test_the_sheet_shows_kept_frames_green_and_dropped_ones_red(tmp_path: Path) -> None:
    for n_frames, colours in ((33, (GREEN, RED)), (20, (GREEN,))):
        clip = write_clip(tmp_path / f"clip_{n_frames}.mp4", n_frames=n_frames)
        diagnose([clip], params(frames_per_second=10), tmp_path / "sheet.png")
        sheet_hwc = read_image(tmp_path / "sheet.png", max_pixels=10**8)
        assert [has_colour(sheet_hwc, colour) for colour in (GREEN, RED)] == [
            colour in colours for colour in (GREEN, RED)
        ]


def test_a_long_clip_gives_a_sheet_of_bounded_size(tmp_path: Path) -> None:
    write_photo(tmp_path / "a.png")
    rows = [
        Row("a.png", "a", "a", "", "a", time_seconds=float(second), width=64, height=48, sharpness=1.0, kept=second > 3)
        for second in range(5000)
    ]
    long_hwc, short_hwc = (contact_sheet("clip", part, tmp_path, 0.2) for part in (rows, rows[: SHOWN + 4]))
    assert long_hwc.shape == short_hwc.shape
    assert stack([long_hwc, short_hwc[:, :50]]).shape == (2 * long_hwc.shape[0], *long_hwc.shape[1:])


def test_the_command_prints_the_lines_and_writes_nothing_but_the_sheet(tmp_path: Path) -> None:
    write_clip(tmp_path / "walk.mp4")
    finished = run_pipe(tmp_path, "extract", "--diagnose", "walk.mp4", "--out", "sheet.png")
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.startswith("walk.mp4: h264 in mov, 64 x 48\n")
    assert {path.name for path in tmp_path.iterdir()} == {"walk.mp4", "sheet.png"}
    assert run_pipe(tmp_path, "extract", "--diagnose").returncode == 2
    (tmp_path / "bad.mp4").touch()
    refused = run_pipe(tmp_path, "extract", "--diagnose", "bad.mp4")
    assert refused.returncode == 1
    assert "bad.mp4: empty file (0 bytes)" in refused.stdout


def test_every_broken_video_has_its_lines(shared: Path) -> None:
    paths = sorted((shared / "data" / "videos" / "broken").iterdir())
    diagnoses = diagnose(paths, params(), None)
    assert [diagnosis.path.name for diagnosis in diagnoses if not diagnosis.usable] == ["streamio_broken.mp4"]


def test_each_warning_of_a_photo_is_one_line(tmp_path: Path) -> None:
    pages = [Image.new("RGB", (64, 48), shade) for shade in ("red", "blue")]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    (diagnosis,) = diagnose([tmp_path / "pages.tif"], params(), None)
    assert [line for line in diagnosis.lines if "pages" in line.removeprefix(str(tmp_path / "pages.tif"))] == [
        "  warning: 2 pages, of which the first is read"
    ]


def test_the_stated_bits_of_photos_hold_here_too(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.full((48, 64), 1500, np.uint16)).save(path)
    for sample_bits, brightness in ((None, "dark"), (12, "kept")):
        (diagnosis,) = diagnose([path], params(), None, sample_bits)
        assert diagnosis.lines[-1].strip().startswith(brightness)
