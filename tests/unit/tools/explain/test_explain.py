"""`pipe explain`: what it writes, what it refuses, and that its sheets show what they say."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.base.errors import DataError, ParamsError
from pipeline.base.files import sha256_of
from pipeline.base.project import Project
from pipeline.base.section import read_section
from pipeline.network.params import ModelParams
from pipeline.network.preprocess import Preprocess
from pipeline.report.explanations import explanations_of
from pipeline.tools.explain.explain import GRID, explain
from tests.support.checkpoints import Untrained, checkpoint_of
from tests.support.command import run_pipe
from tests.support.explained_networks import built
from tests.support.small_project import set_params

MANY = 10**6
PREPROCESS = Preprocess(64, "squash", 1.0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


@pytest.fixture
def explained(project: Project) -> Project:
    """A project with a checkpoint of the small network."""
    set_params(project, model={"arch": "small_cnn", "weights": "none"})
    model = read_section(project.params_yaml, "model", ModelParams)
    state = built("small_cnn").state_dict()
    checkpoint_of(state, Untrained(("cat", "狗"), model, PREPROCESS)).write(project.checkpoint)
    return project


def photo(path: Path, side: int = 80) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    Image.fromarray(noise).save(path)
    return path


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_every_photo_has_a_sheet_of_maps_and_all_share_a_sheet_of_heat_maps(explained: Project, tmp_path: Path) -> None:
    images = [photo(tmp_path / name) for name in ("a/cat.png", "b/cat.png", "猫.png")]
    report = explain(images, (), None, MANY, explained)
    assert files(explained.explanations) == ["activations", "evidence.png", "explain.json"]
    assert files(explained.explanations / "activations") == ["cat.png", "cat_2.png", "猫.png"]
    assert report.headline == f"3 pictures explained; {explained.explanations}/"
    sheet = cv2.imdecode(np.fromfile(explained.explanations / "evidence.png", np.uint8), cv2.IMREAD_COLOR)
    assert sheet.shape[1] == 8 + 4 * 308  # two pictures a row, each with its twin


def test_the_heat_maps_of_many_photos_go_on_several_sheets(
    explained: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.tools.explain.explain.PICTURES_AT_ONCE", 2)
    images = [photo(tmp_path / f"{number}.png") for number in range(5)]
    explain(images, (), None, MANY, explained)
    sheets = ["evidence.png", "evidence_2.png", "evidence_3.png"]
    assert files(explained.explanations) == ["activations", *sheets, "explain.json"]
    widths = [cv2.imread(str(path)).shape[1] for path in sorted(explained.explanations.glob("*.png"))]
    assert widths == [8 + 4 * 308, 8 + 4 * 308, 8 + 2 * 308]


def test_no_two_pictures_share_a_sheet_of_maps() -> None:
    from pipeline.tools.explain.explain import _unique_names

    images = [Path(name) for name in ("a.png", "a.jpg", "a_2.png", "A.PNG", "b/a.png")]
    assert list(_unique_names(images)) == ["a", "a_2", "a_2_2", "A_3", "a_4"]


def test_the_sheet_of_maps_has_a_block_for_every_convolution_and_pooling(explained: Project, tmp_path: Path) -> None:
    explain([photo(tmp_path / "photo.png")], (), tmp_path / "out", MANY, explained)
    sheet = cv2.imread(str(tmp_path / "out" / "activations" / "photo.png"))
    blocks = [32, 32, 64, 64, 64, 64, 64, 64]  # of small_cnn's layers; of 128 maps the first 64
    heights = [24 + 58 * -(-n // 16) + 2 + 8 for n in blocks]
    assert sheet.shape[0] == 24 + 8 + sum(heights)


def test_filters_are_drawn_in_grids_and_those_that_stay_noise_are_counted(explained: Project) -> None:
    layer = "backbone.features.conv1"
    value = torch.load(explained.checkpoint, weights_only=True)
    weight, bias = (value["state_dict"][f"{layer}.{name}"] for name in ("weight", "bias"))
    for alive in (3, 4, 31):  # random filters may be dead; an upright edge is not
        weight[alive], bias[alive] = torch.tensor([-1.0, 0.0, 1.0]).expand(3, 3, 3), 0.1
    value["state_dict"][f"{layer}.bias"][:3] = -1000.0  # their ReLU never opens
    torch.save(value, explained.checkpoint)
    report = explain((), ["features.conv1:1-4", "features.conv1:31"], None, MANY, explained)
    assert files(explained.explanations) == ["explain.json", f"filters_{layer}_1-4.png", f"filters_{layer}_31-31.png"]
    assert report.headline.startswith(f"{layer}: 2 of 4 filters stay noise; {layer}: 0 of 1 filters stay noise; ")


@pytest.mark.parametrize("text", ["features.conv1:32", "features.conv1:4-2", "features.conv1:x", "features.conv1:-3"])
def test_a_filter_that_is_not_there_is_refused(explained: Project, text: str) -> None:
    with pytest.raises(ParamsError, match=r"has the filters 0 to 31"):
        explain((), [text], None, MANY, explained)
    assert not explained.explanations.exists()


def test_without_numbers_the_first_filters_are_drawn() -> None:
    from pipeline.tools.explain.explain import _parse_filters

    network = built("small_cnn")
    assert _parse_filters(network, "features.conv4").indices == tuple(range(GRID))
    assert _parse_filters(network, "features.conv1").indices == tuple(range(32))


def test_pictures_are_noted_with_their_checkpoint_until_another_one_is_explained(
    explained: Project, tmp_path: Path
) -> None:
    def shown() -> list[str]:
        return [path.name for path in explanations_of(sha256_of(explained.checkpoint), explained).shown]

    explain([photo(tmp_path / "photo.png")], (), None, MANY, explained)
    explain((), ["features.conv1:1"], explained.explanations, MANY, explained)
    one_filter = "filters_backbone.features.conv1_1-1.png"
    assert shown() == ["evidence.png", one_filter]
    value = torch.load(explained.checkpoint, weights_only=True)
    value["state_dict"]["backbone.features.conv1.bias"] += 1.0
    torch.save(value, explained.checkpoint)
    assert shown() == []
    explain((), ["features.conv1:1"], None, MANY, explained)
    assert shown() == [one_filter]
    assert explanations_of(sha256_of(explained.checkpoint), explained).n_left_out == 1


def test_another_folder_gets_no_note(explained: Project, tmp_path: Path) -> None:
    explain((), ["features.conv1:1"], tmp_path / "out", MANY, explained)
    assert files(tmp_path / "out") == ["filters_backbone.features.conv1_1-1.png"]


def test_a_picture_that_cannot_be_read_is_one_clear_line(explained: Project, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_text("no picture")
    with pytest.raises(DataError, match=r"broken\.jpg"):
        explain([tmp_path / "broken.jpg"], (), None, MANY, explained)
    with pytest.raises(DataError, match="expected at most 100"):
        explain([photo(tmp_path / "large.png")], (), None, 100, explained)


def test_a_bad_picture_among_others_takes_no_sheet_with_it(explained: Project, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_text("no picture")
    photo(tmp_path / "good.jpg")
    paths = [tmp_path / "broken.jpg", tmp_path / "good.jpg"]
    with pytest.raises(DataError, match=r"1 of 2 photos could not be explained: .*broken\.jpg"):
        explain(paths, (), tmp_path / "out", MANY, explained)
    assert (tmp_path / "out" / "evidence.png").is_file()
    assert [path.name for path in (tmp_path / "out" / "activations").iterdir()] == ["good.png"]


def test_a_photo_where_the_pictures_go_is_not_replaced(explained: Project, tmp_path: Path) -> None:
    photo(tmp_path / "evidence.png")
    before = (tmp_path / "evidence.png").read_bytes()
    with pytest.raises(DataError, match=r"evidence\.png: lies in .*, where the pictures go; expected another --out"):
        explain([tmp_path / "evidence.png"], (), tmp_path, MANY, explained)
    assert (tmp_path / "evidence.png").read_bytes() == before


def test_the_command_needs_something_to_explain_and_a_checkpoint(project: Project, tmp_path: Path) -> None:
    assert run_pipe(project.root, "explain").returncode == 2
    finished = run_pipe(project.root, "explain", str(photo(tmp_path / "photo.png")))
    assert finished.returncode == 1
    assert "run `pipe train`" in finished.stderr
