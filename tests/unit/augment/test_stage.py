"""Augmentation: which copies appear, what their rows say, and that another frame changes none of them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from ruamel.yaml import YAML

from pipeline.augment.params import AugmentParams
from pipeline.augment.stage import augment
from pipeline.base import manifest
from pipeline.base.errors import DataError
from pipeline.base.files import exclusive_lock, sha256_of
from pipeline.base.manifest import Row
from pipeline.base.project import Project
from pipeline.base.section import read_section
from runtime.images import read_image
from runtime.images.opencv import read_bgr
from tests.support.command import ROOT
from tests.support.media import write_photo

NAMES = ("mirror_left_right", "mirror_top_bottom", "rotate_90", "affine")


@pytest.fixture
def params(project: Project) -> AugmentParams:
    return read_section(project.params_yaml, "augment", AugmentParams)


def make_frame(project: Project, name: str, number: int = 0) -> Row:
    noise = np.random.default_rng(number).integers(0, 256, (30, 40, 3), np.uint8)
    path = project.frames / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, cv2.GaussianBlur(noise, (0, 0), 4))[1].tobytes())
    label, clip = name.split("/")[:2]
    return Row(
        path=project.relative(path),
        label=label,
        source=f"data/raw/{label}/{clip}.mp4",
        source_sha256="ab" * 32,
        group=f"{label}/{clip}",
        given_split="train",
        time_seconds=1.5,
        width=40,
        height=30,
        sharpness=3.0,
        brightness=128.0,
        phash="0" * 16,
    )


def make_frames(project: Project, count: int = 2) -> list[Row]:
    frames = [make_frame(project, f"鳞片石墨/clip/{number:06}.jpg", number) for number in range(count)]
    manifest.write(frames, project.frames_csv)
    return frames


def everything_in(project: Project) -> dict[str, bytes]:
    paths = [*project.augmented.rglob("*.jpg"), project.augmented_csv]
    return {project.relative(path): path.read_bytes() for path in paths}


def refusal(params: AugmentParams, project: Project) -> str:
    with pytest.raises(DataError) as caught:
        augment(params, project)
    assert not project.augmented.exists()
    assert not project.augmented_csv.exists()
    assert not list(project.augmented.parent.glob(".*.tmp"))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_kept_frame_has_one_copy_per_entry(project: Project, params: AugmentParams) -> None:
    frames = make_frames(project)
    report = augment(params, project)
    assert report.headline == "8 copies of 2 frames in data/augmented"
    rows = manifest.read(project.augmented_csv)
    assert [row.path for row in rows[:4]] == [
        "data/augmented/鳞片石墨/clip/000000.0_mirror_left_right.jpg",
        "data/augmented/鳞片石墨/clip/000000.1_mirror_top_bottom.jpg",
        "data/augmented/鳞片石墨/clip/000000.2_rotate_90.jpg",
        "data/augmented/鳞片石墨/clip/000000.3_affine.jpg",
    ]
    assert sorted(path.name for path in project.augmented.rglob("*.jpg")) == [Path(row.path).name for row in rows]
    assert {row.parent for row in rows} == {frame.path for frame in frames}


def test_the_row_of_a_copy_names_its_parent_and_has_no_measures_of_it(project: Project, params: AugmentParams) -> None:
    (frame,) = make_frames(project, 1)
    augment(params, project)
    rows = manifest.read(project.augmented_csv)
    assert [row.transform for row in rows] == list(NAMES)
    assert [(row.width, row.height) for row in rows] == [(40, 30), (40, 30), (30, 40), (40, 30)]
    expected = replace(frame, parent=frame.path, sharpness=None, brightness=None, phash="")
    for row in rows:
        size = {"width": row.width, "height": row.height}
        sha256 = sha256_of(project.root / row.path)
        assert row == replace(expected, path=row.path, transform=row.transform, sha256=sha256, **size)


def test_the_copies_show_what_their_names_say(project: Project, params: AugmentParams) -> None:
    (frame,) = make_frames(project, 1)
    augment(params, project)
    parent = cv2.imdecode(np.frombuffer((project.root / frame.path).read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    assert parent is not None
    expected = {
        "mirror_left_right": parent[:, ::-1],
        "mirror_top_bottom": parent[::-1],
        "rotate_90": np.rot90(parent, -1),
    }
    for row in manifest.read(project.augmented_csv)[:3]:
        copy = cv2.imdecode(np.frombuffer((project.root / row.path).read_bytes(), np.uint8), cv2.IMREAD_COLOR)
        assert copy is not None
        assert (
            np.abs(copy.astype(int) - expected[row.transform]).mean() < 3
        )  # JPEG loses a little, channels are in order


def test_png_frames_become_jpeg_copies(project: Project, params: AugmentParams) -> None:
    manifest.write([make_frame(project, "brick/clip/000000.png")], project.frames_csv)
    augment(params, project)
    assert (project.augmented / "brick" / "clip" / "000000.3_affine.jpg").is_file()


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("sides", [(64, 48), (63, 47), (17, 301)])
def test_a_frame_is_decoded_here_into_the_pixels_that_the_network_sees(
    tmp_path: Path, suffix: str, sides: tuple[int, int]
) -> None:
    path = write_photo(tmp_path / f"frame{suffix}", 3, sides)
    bgr_hwc = read_bgr(path, max_pixels=10_000)
    np.testing.assert_array_equal(bgr_hwc[..., ::-1], read_image(path, max_pixels=10_000))


def test_real_frames_are_decoded_into_the_same_pixels_too(shared: Path) -> None:
    photos = sorted((shared / "data" / "cats_dogs").rglob("*.jpg"))[:40]
    assert photos
    for path in photos:
        expected = read_image(path, max_pixels=10**8)
        np.testing.assert_array_equal(read_bgr(path, max_pixels=10**8)[..., ::-1], expected)


def test_a_frame_that_no_jpeg_can_hold_is_refused(project: Project, params: AugmentParams) -> None:
    path = project.frames / "brick" / "wide.png"
    path.parent.mkdir(parents=True)
    path.write_bytes(cv2.imencode(".png", np.zeros((1, 65501, 3), np.uint8))[1].tobytes())
    manifest.write([Row(project.relative(path), "brick", "a", "0", "a", width=65501, height=1)], project.frames_csv)
    assert "65501 x 1 pixels; copies are JPEG files" in refusal(params, project)


def test_a_copy_is_the_same_whatever_number_of_threads_opencv_uses(project: Project, params: AugmentParams) -> None:
    frames = [make_frame(project, "brick/clip/0.jpg")]
    manifest.write(frames, project.frames_csv)
    outputs, threads = [], cv2.getNumThreads()
    try:
        for n_threads in (1, 4):
            cv2.setNumThreads(n_threads)
            augment(params, project)
            outputs.append(everything_in(project))
    finally:
        cv2.setNumThreads(threads)
    assert outputs[0] == outputs[1]


def test_a_dropped_frame_has_no_copies(project: Project, params: AugmentParams) -> None:
    first, second = make_frames(project)
    manifest.write([replace(first, kept=False, drop_reason="blurred"), second], project.frames_csv)
    augment(params, project)
    assert {row.parent for row in manifest.read(project.augmented_csv)} == {second.path}


def test_the_same_input_gives_the_same_bytes(project: Project, params: AugmentParams) -> None:
    make_frames(project)
    augment(params, project)
    first = everything_in(project)
    augment(params, project)
    assert everything_in(project) == first


def test_another_frame_changes_no_copy_of_the_others(project: Project, params: AugmentParams) -> None:
    make_frames(project, 2)
    augment(params, project)
    before = everything_in(project)
    make_frames(project, 3)
    augment(params, project)
    after = everything_in(project)
    pictures = {name for name in before if name.endswith(".jpg")}
    assert len(after) == len(before) + 4
    assert all(after[name] == before[name] for name in pictures)


def test_every_copy_depends_on_its_frame_and_position_only(project: Project, params: AugmentParams) -> None:
    every = YAML(typ="safe").load(documented_copies())
    params = AugmentParams.model_validate({**params.model_dump(), **every["augment"]})
    make_frames(project, 2)
    augment(params, project)
    before = everything_in(project)
    make_frames(project, 3)
    augment(params, project)
    after = everything_in(project)
    assert len(before) == 2 * len(params.copies) + 1
    assert all(after[name] == data for name, data in before.items() if name.endswith(".jpg"))
    longer = params.model_copy(update={"copies": (*params.copies, params.copies[5])})
    augment(longer, project)
    assert all(everything_in(project)[name] == data for name, data in before.items() if name.endswith(".jpg"))


def documented_copies() -> str:
    text = (ROOT / "docs" / "augment.md").read_text(encoding="utf-8")
    return text.split("```yaml\n", 1)[1].split("```", 1)[0]


def test_another_seed_changes_the_random_copies_only(project: Project, params: AugmentParams) -> None:
    make_frames(project, 1)
    augment(params, project)
    before = everything_in(project)
    augment(params.model_copy(update={"seed": 1}), project)
    changed = [name for name, data in everything_in(project).items() if data != before[name]]
    # The manifest changes too: it has the digest of the copy.
    assert [name.rsplit(".", 2)[1] for name in changed if not name.endswith(".csv")] == ["3_affine"]


def test_an_empty_list_gives_an_empty_folder_and_a_bare_header(project: Project, params: AugmentParams) -> None:
    make_frames(project)
    augment(params, project)
    report = augment(params.model_copy(update={"copies": ()}), project)
    assert report.n_copies == 0
    assert list(project.augmented.iterdir()) == []
    assert project.augmented_csv.read_text(encoding="utf-8") == ",".join(manifest.COLUMNS) + "\n"


def test_a_missing_frame_is_refused(project: Project, params: AugmentParams) -> None:
    frames = make_frames(project)
    (project.root / frames[1].path).unlink()
    message = refusal(params, project)
    assert "000001.jpg: " in message
    assert message.endswith("run `pipe extract` again")


@pytest.mark.parametrize("data", [b"", b"no picture", None])
def test_a_corrupt_frame_is_refused(project: Project, params: AugmentParams, data: bytes | None) -> None:
    (frame,) = make_frames(project, 1)
    path = project.root / frame.path
    path.write_bytes(path.read_bytes()[:-200] if data is None else data)
    assert "000000.jpg: " in refusal(params, project)


@pytest.mark.parametrize(("width", "height"), [(30, 40), (400, 300), (4, 3)])
def test_a_frame_of_another_size_than_its_row_says_is_refused(
    project: Project, params: AugmentParams, width: int, height: int
) -> None:
    (frame,) = make_frames(project, 1)
    manifest.write([replace(frame, width=width, height=height)], project.frames_csv)
    assert re.search("000000.jpg: (found )?40 x 30 pixels", refusal(params, project))


def test_nothing_kept_is_an_error(project: Project, params: AugmentParams) -> None:
    frames = [replace(frame, kept=False, drop_reason="dark") for frame in make_frames(project)]
    manifest.write(frames, project.frames_csv)
    assert "kept no frame" in refusal(params, project)


def test_while_another_augment_runs_here_nothing_is_touched(project: Project, params: AugmentParams) -> None:
    make_frames(project)
    with exclusive_lock(project, "pipe augment"):
        assert "another `pipe augment` is running here" in refusal(params, project)


def test_no_manifest_is_an_error(project: Project, params: AugmentParams) -> None:
    assert "frames.csv: missing" in refusal(params, project)


def test_frames_whose_copies_would_overwrite_each_other_are_refused(project: Project, params: AugmentParams) -> None:
    manifest.write([make_frame(project, f"brick/clip/0{suffix}") for suffix in (".jpg", ".png")], project.frames_csv)
    assert "would have the same names" in refusal(params, project)


def test_a_frame_outside_the_frames_folder_is_refused(project: Project, params: AugmentParams) -> None:
    (frame,) = make_frames(project, 1)
    manifest.write([replace(frame, path="data/raw/a.jpg")], project.frames_csv)
    assert "data/raw/a.jpg is not in data/frames" in refusal(params, project)


def test_a_failure_leaves_the_earlier_copies_as_they_were(project: Project, params: AugmentParams) -> None:
    frames = make_frames(project)
    augment(params, project)
    before = everything_in(project)
    (project.root / frames[1].path).write_bytes(b"torn")
    with pytest.raises(DataError):
        augment(params, project)
    assert everything_in(project) == before


def test_the_old_manifest_does_not_vouch_for_new_copies(
    project: Project, params: AugmentParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_frames(project)
    augment(params, project)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(manifest, "write", die)
    with pytest.raises(KeyboardInterrupt):
        augment(params.model_copy(update={"copies": ()}), project)
    assert not project.augmented_csv.exists()
