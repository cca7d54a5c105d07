"""`pipe augment --preview --online`: random views of one picture, drawn as training draws them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from pipeline.base import manifest
from pipeline.base.errors import ParamsError
from pipeline.base.manifest import Row
from pipeline.base.project import Project
from pipeline.base.section import read_section
from pipeline.draw import sheets
from pipeline.extract.params import ExtractParams
from pipeline.network.params import ImageParams
from pipeline.network.preprocess import Preprocess
from pipeline.tools import preview_views as module
from pipeline.tools.preview_views import N_VIEWS, preview_views
from pipeline.train.inputs.batches import label_images, pictures
from pipeline.train.params import TrainParams
from runtime.images import read_image
from tests.support.command import run_pipe
from tests.support.media import write_photo
from tests.support.small_project import set_params

AFFINE = {
    "name": "affine", "degrees": 40.0, "translate": 0.2, "scale": [0.8, 1.2], "shear_degrees": 11.3, "fill": "nearest",
}  # fmt: skip
MIRROR = {"name": "mirror_left_right", "probability": 0.5}
CROP = {"name": "random_resized_crop", "area": [0.08, 1.0], "aspect": [0.75, 1.3333]}


def _views(project: Project, monkeypatch: pytest.MonkeyPatch, online: list[dict[str, Any]]) -> list[NDArray[np.uint8]]:
    """The pictures on the sheet, without the frame."""
    set_params(project, train={"online": online}, image={"size": 40})
    shown: list[sheets.Cell] = []
    monkeypatch.setattr(module, "sheet", lambda cells, *_, **__: shown.extend(cells) or np.zeros((1, 1, 3), np.uint8))
    photo = project.root / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)).save(photo)
    preview_views(photo, project.root / "sheet.png", *_sections(project))
    assert shown[0].title == "frame"
    np.testing.assert_array_equal(shown[0].pixels_hwc, read_image(photo, max_pixels=10**6))
    assert [cell.title for cell in shown[1:]] == [f"view {number}" for number in range(1, N_VIEWS + 1)]
    return [cell.pixels_hwc for cell in shown[1:]]


def _sections(project: Project) -> tuple[TrainParams, ImageParams, ExtractParams]:
    path = project.params_yaml
    return (
        read_section(path, "train", TrainParams),
        read_section(path, "image", ImageParams),
        read_section(path, "extract", ExtractParams),
    )


@pytest.mark.parametrize("online", [[AFFINE, MIRROR], [CROP], [CROP, MIRROR]], ids=["affine", "crop", "both"])
def test_every_view_is_another_and_of_the_networks_size(
    project: Project, monkeypatch: pytest.MonkeyPatch, online: list[dict[str, Any]]
) -> None:
    views = _views(project, monkeypatch, online)
    assert all(view.shape == (40, 40, 3) for view in views)
    assert all(np.any(first != second) for i, first in enumerate(views) for second in views[:i])
    again = _views(project, monkeypatch, online)
    assert all(np.array_equal(first, second) for first, second in zip(views, again, strict=True))


@pytest.mark.parametrize("crop", ["squash", "center"])
@pytest.mark.parametrize("online", [[AFFINE, MIRROR], [CROP, MIRROR]], ids=["affine", "crop"])
def test_the_views_are_those_that_training_draws_for_the_frame(
    project: Project, monkeypatch: pytest.MonkeyPatch, online: list[dict[str, Any]], crop: str
) -> None:
    set_params(project, image={"crop": crop})
    views = _views(project, monkeypatch, online)
    path = project.frames / "photo.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((project.root / "photo.png").read_bytes())
    row = Row(project.relative(path), "class", "photo.png", "", "photo.png", width=64, height=48, split="train")
    manifest.write_split([row], project.split_csv)
    preprocess = Preprocess(40, crop, 1.0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))  # type: ignore[arg-type]
    images = label_images(project, [row], ["class"], preprocess)
    source = pictures(images, read_section(project.params_yaml, "train", TrainParams))
    for epoch, view_hwc in enumerate(views):
        learned_chw = source.batch([0], epoch, torch.device("cpu"))[0][0]
        assert np.array_equal((learned_chw * 255).round().byte().permute(1, 2, 0).numpy(), view_hwc)


def test_a_mirror_that_is_certain_shows_the_mirrored_picture(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    mirrored = _views(project, monkeypatch, [{"name": "mirror_left_right", "probability": 1.0}])
    twice = _views(project, monkeypatch, [{"name": "mirror_left_right", "probability": 1.0} for _ in range(2)])
    assert all(np.array_equal(view[:, ::-1], other) for view, other in zip(mirrored, twice, strict=True))
    assert np.any(mirrored[0] != twice[0])


def test_the_command_writes_a_sheet_and_nothing_else(project: Project) -> None:
    set_params(project, train={"online": [AFFINE]}, image={"size": 32})
    write_photo(project.root / "photo.png")
    before = sorted(project.root.rglob("*"))
    finished = run_pipe(project.root, "augment", "--preview", "photo.png", "--online", "--out", "views.png")
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout == "the frame and 7 random views of it in views.png; next: pipe train\n"
    assert [path for path in sorted(project.root.rglob("*")) if path not in before] == [project.root / "views.png"]


def test_without_random_transforms_there_is_one_line_and_no_sheet(project: Project) -> None:
    set_params(project, train={"online": []})
    write_photo(project.root / "photo.png")
    with pytest.raises(ParamsError, match=r"^train.online: found no transform; expected at least one to draw views"):
        preview_views(project.root / "photo.png", project.root / "views.png", *_sections(project))
    assert not (project.root / "views.png").exists()


def test_online_without_a_picture_is_a_usage_error(project: Project, tmp_path: Path) -> None:
    finished = run_pipe(project.root, "augment", "--online", "--out", str(tmp_path / "a.png"))
    assert finished.returncode == 2
    assert "--preview FRAME and --out SHEET.png go together" in finished.stderr
