"""`pipe augment --preview`: the copies that the stage would make, on one sheet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.augment.params import AugmentParams
from pipeline.augment.transforms import generator_for, make_copy
from pipeline.base.project import Project
from pipeline.base.section import read_section
from pipeline.draw import sheets
from pipeline.extract.params import ExtractParams
from pipeline.tools import preview as module
from pipeline.tools.preview import preview
from runtime.images import read_image
from tests.support.command import run_pipe
from tests.support.media import write_photo
from tests.support.small_project import set_params


def pixels(path: Path) -> NDArray[np.uint8]:
    return read_image(path, max_pixels=10**8)


@pytest.fixture
def frame(project: Project) -> Path:
    return write_photo(project.frames / "鳞片石墨" / "clip.mp4" / "000003.jpg", 3, (64, 48))


def test_the_sheet_shows_the_frame_and_the_copies_that_the_stage_would_make(
    project: Project, frame: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = read_section(project.params_yaml, "augment", AugmentParams)
    shown: list[sheets.Cell] = []
    monkeypatch.setattr(module, "sheet", lambda cells, *_, **__: shown.extend(cells) or np.zeros((1, 1, 3), np.uint8))
    bounds = read_section(project.params_yaml, "extract", ExtractParams)
    report = preview(frame, tmp_path / "sheet.png", params, bounds, project)
    assert report.headline == f"the frame and its 4 copies in {tmp_path / 'sheet.png'}"
    titles = ["frame", "0 mirror_left_right", "1 mirror_top_bottom", "2 rotate_90", "3 affine"]
    assert [cell.title for cell in shown] == titles
    parent = project.relative(frame)
    for position, (copy, cell) in enumerate(zip(params.copies, shown[1:], strict=True)):
        expected = make_copy(copy, pixels(frame)[..., ::-1].copy(), generator_for(params.seed, parent, position))
        np.testing.assert_array_equal(cell.pixels_hwc, expected[..., ::-1])


def test_a_picture_from_elsewhere_can_be_previewed_as_well(project: Project, tmp_path: Path) -> None:
    photo = write_photo(tmp_path / "elsewhere.png")
    finished = run_pipe(project.root, "augment", "--preview", str(photo), "--out", "sheets/照片.png")
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout == "the frame and its 4 copies in sheets/照片.png; next: pipe augment\n"
    assert pixels(project.root / "sheets" / "照片.png").shape[1] > 4 * module.SIDE
    assert not project.augmented.exists()


def test_the_same_frame_gives_the_same_sheet_however_it_is_named(project: Project, frame: Path) -> None:
    for name, given in (("a.png", str(frame)), ("b.png", str(frame.relative_to(project.root)))):
        assert run_pipe(project.root, "augment", "--preview", given, "--out", name).returncode == 0
    assert (project.root / "a.png").read_bytes() == (project.root / "b.png").read_bytes()


def test_a_frame_that_is_a_link_is_drawn_with_the_numbers_of_its_own_name(
    project: Project, frame: Path, tmp_path: Path
) -> None:
    finished = run_pipe(project.root, "augment", "--preview", str(frame), "--out", "before.png")
    assert finished.returncode == 0, finished.stderr
    kept = frame.rename(tmp_path / "0123abcd")
    frame.symlink_to(kept)
    run_pipe(project.root, "augment", "--preview", str(frame), "--out", "after.png")
    np.testing.assert_array_equal(pixels(project.root / "after.png"), pixels(project.root / "before.png"))


@pytest.mark.parametrize("arguments", [["--preview", "a.jpg"], ["--out", "a.png"]])
def test_a_preview_without_a_picture_or_an_output_is_a_usage_error(project: Project, arguments: list[str]) -> None:
    finished = run_pipe(project.root, "augment", *arguments)
    assert finished.returncode == 2
    assert "--preview FRAME and --out SHEET.png go together" in finished.stderr


@pytest.mark.parametrize("name", ["missing.jpg", "text.jpg", "large.jpg"])
def test_a_frame_that_cannot_be_read_ends_in_one_line_and_no_sheet(project: Project, name: str) -> None:
    (project.root / "text.jpg").write_text("no picture")
    write_photo(project.root / "large.jpg", 0, (64, 48))
    set_params(project, extract={"max_megapixels": 0.001})
    finished = run_pipe(project.root, "augment", "--preview", name, "--out", "sheet.png")
    assert finished.returncode == 1
    assert finished.stderr.startswith(f"pipe: {name}: ")
    assert finished.stderr.endswith("; raise extract.max_megapixels\n") == (name == "large.jpg")
    assert not (project.root / "sheet.png").exists()


def test_a_sheet_is_a_png_file(project: Project, frame: Path) -> None:
    finished = run_pipe(project.root, "augment", "--preview", str(frame), "--out", "sheet.jpg")
    assert finished.returncode == 1
    assert "expected a name that ends in .png" in finished.stderr
