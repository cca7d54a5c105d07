"""The sheet shows the classified photos and clips in the order of the answers."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pipeline.base.errors import DataError
from pipeline.base.project import Project
from pipeline.draw.sheets import sheet_text
from pipeline.extract.params import ExtractParams
from pipeline.tools.predict import montage
from pipeline.tools.predict.answers import Answer
from pipeline.tools.predict.montage import write_montage
from pipeline.tools.predict.predict import predict
from runtime.classifier import Classifier
from tests.support.command import run_pipe
from tests.support.tiny_bundle import picture, write_colour_clip


def colour_of(sheet_bgr: np.ndarray, column: int) -> int:
    """The strongest channel (0 is red) of the picture in a column of the first row."""
    left = 8 + column * 208 + 50
    return 2 - int(sheet_bgr[80:120, left : left + 50].mean(axis=(0, 1)).argmax())


def test_photos_and_clips_are_shown_in_the_order_of_the_answers(
    colour_classifier: Classifier, extract_params: ExtractParams, tmp_path: Path
) -> None:
    Image.fromarray(picture(2)).save(tmp_path / "a.png")
    write_colour_clip(tmp_path / "b.mp4", [0, 1, 1])  # green by two seconds of three: its red frame is not shown
    Image.fromarray(picture(0)).save(tmp_path / "c.png")
    (tmp_path / "d.jpg").write_text("no picture")
    answers = predict([tmp_path], colour_classifier, extract_params)
    write_montage(answers, tmp_path / "sheet.png", colour_classifier, extract_params)
    drawn = cv2.imread(str(tmp_path / "sheet.png"))
    assert drawn.shape[1] == 8 + 3 * 208
    assert [colour_of(drawn, column) for column in range(3)] == [2, 1, 0]


def test_a_title_says_label_and_probability_in_any_letters(
    colour_classifier: Classifier, extract_params: ExtractParams, tmp_path: Path
) -> None:
    Image.fromarray(picture(2)).save(tmp_path / "a.png")
    (answer,) = predict([tmp_path], colour_classifier, extract_params)
    cell = montage._cell(colour_classifier, extract_params, answer)
    assert answer.verdict is not None
    assert cell.title == f"{answer.verdict.probability:.0%} 蓝色" == sheet_text(cell.title)


def test_of_many_pictures_a_few_are_shown_spread_over_all(
    colour_classifier: Classifier, extract_params: ExtractParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(montage, "SHOWN", 3)
    for number in range(5):
        Image.fromarray(picture(number // 2)).save(tmp_path / f"{number}.png")
    write_montage(
        predict([tmp_path], colour_classifier, extract_params),
        tmp_path / "sheet.png",
        colour_classifier,
        extract_params,
    )
    drawn = cv2.imread(str(tmp_path / "sheet.png"))
    assert drawn.shape[1] == 8 + 3 * 208
    assert [colour_of(drawn, column) for column in range(3)] == [0, 1, 2]


def test_without_any_picture_there_is_no_sheet(
    colour_classifier: Classifier, extract_params: ExtractParams, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="nothing was classified"):
        write_montage(
            [Answer("a.jpg", None, error="a.jpg: broken")], tmp_path / "sheet.png", colour_classifier, extract_params
        )


def test_the_command_draws_both_pictures_and_refuses_another_kind_of_file(
    colour_project: Project, tmp_path: Path
) -> None:
    write_colour_clip(tmp_path / "clip.mp4", [0, 1])
    Image.fromarray(picture(1)).save(tmp_path / "photo.png")
    names = [str(tmp_path / name) for name in ("clip.mp4", "photo.png", "sheet.png", "plot.png")]
    finished = run_pipe(colour_project.root, "predict", *names[:2], "--montage", names[2], "--plot", names[3])
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.splitlines()[-1] == "2 files: red 1, green 1"
    assert all(cv2.imread(name) is not None for name in names[2:])
    unwritten = run_pipe(
        colour_project.root, "predict", names[1], "--montage", str(tmp_path / "photo.png" / "sheet.png")
    )
    assert unwritten.returncode == 1
    assert "photo.png" in unwritten.stdout  # a sheet that cannot be written takes no answer with it
    before = (tmp_path / "photo.png").read_bytes()
    for outputs in (["--montage", names[1]], ["--csv", names[1]], ["--csv", names[2], "--montage", names[2]]):
        refused = run_pipe(colour_project.root, "predict", names[1], *outputs)
        assert refused.returncode in (1, 2)
        assert (tmp_path / "photo.png").read_bytes() == before
    refused = run_pipe(colour_project.root, "predict", names[1], "--plot", str(tmp_path / "plot.pdf"))
    assert refused.returncode == 1
    assert "expected a name that ends in .png" in refused.stderr
