"""Photos, folders and clips are classified by the project's graph or by a bundle's."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from pipeline.base.errors import DataError
from pipeline.base.project import Project
from pipeline.extract.params import ExtractParams
from pipeline.tools.predict.answers import refuse_failures, to_lines
from pipeline.tools.predict.montage import write_montage
from pipeline.tools.predict.predict import open_classifier, predict
from runtime.classifier import Classifier
from runtime.errors import BundleError, ImageError
from tests.support.tiny_bundle import (
    CLASSES,
    ROOT,
    draft_contract,
    picture,
    with_thresholds,
    write_colour_clip,
    write_models,
)


def test_photos_are_answered_in_order_and_folders_sorted(
    colour_classifier: Classifier, extract_params: ExtractParams, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for name, colour in (("b.png", 1), ("a.png", 2), ("notes.txt", 0)):
        Image.fromarray(picture(colour)).save(photos / name, format="PNG")
    single = tmp_path / "single.png"
    Image.fromarray(picture(0)).save(single)
    answers = predict([single, photos], colour_classifier, extract_params)
    assert [(Path(answer.path).name, answer.verdict and answer.verdict.label) for answer in answers] == [
        ("single.png", "red"),
        ("a.png", "蓝色"),
        ("b.png", "green"),
    ]
    assert [answer.frames for answer in answers] == [(), (), ()]
    refuse_failures(answers)


def test_a_heic_photo_is_classified_and_drawn(
    colour_classifier: Classifier, extract_params: ExtractParams, tmp_path: Path
) -> None:
    pillow_heif.register_heif_opener()
    paths = [tmp_path / "a.heic", tmp_path / "b.jpg", tmp_path / "c.heic", tmp_path / "d.heic"]
    for colour, path in enumerate(paths[:2]):
        Image.fromarray(picture(colour)).save(path, format="HEIF", quality=90)
    paths[2].write_bytes(paths[0].read_bytes()[:-200])
    Image.new("RGB", (120, 100)).save(paths[3], format="HEIF")
    answers = predict([tmp_path], colour_classifier, extract_params)
    assert [answer.verdict and answer.verdict.label for answer in answers] == ["red", "green", None, None]
    assert (answers[2].error or "").startswith(f"{paths[2]}: cannot be decoded")
    assert answers[3].error == f"{paths[3]}: 120 x 100 pixels; expected between 1 and 10000 in all"
    write_montage(answers, tmp_path / "sheet.png", colour_classifier, extract_params)
    # The negative control: the device's own reader has no HEIC.
    with pytest.raises(ImageError, match="HEIC, which is not read here"):
        colour_classifier.classify(paths[0])


def test_a_clip_is_judged_by_the_mean_over_one_frame_per_second(
    colour_classifier: Classifier, extract_params: ExtractParams, tmp_path: Path
) -> None:
    (answer,) = predict([write_colour_clip(tmp_path / "clip.mp4", [0, 1, 1])], colour_classifier, extract_params)
    assert answer.error is None
    assert [frame.time_seconds for frame in answer.frames] == [0, 1, 2]
    assert [frame.verdict.label for frame in answer.frames] == ["red", "green", "green"]
    assert answer.verdict is not None
    assert answer.verdict.label == "green"
    for name in CLASSES:
        mean = np.mean([frame.verdict.probabilities[name] for frame in answer.frames])
        assert answer.verdict.probabilities[name] == pytest.approx(mean)
    assert to_lines([answer]) == [
        f"{answer.verdict.probability:6.1%}  green  {answer.path}  (3 frames: green 2, red 1)",
        "                 0.0 s  red",
        "          1.0 to 2.0 s  green",
    ]


def test_a_clip_is_sampled_as_densely_as_the_params_say(
    colour_classifier: Classifier, extract_params: ExtractParams, tmp_path: Path
) -> None:
    clip = write_colour_clip(tmp_path / "clip.mp4", [0, 1])
    (answer,) = predict([clip], colour_classifier, extract_params.model_copy(update={"frames_per_second": 5.0}))
    assert len(answer.frames) == 10


@pytest.mark.parametrize(("threshold", "label"), [(-50.0, "蓝色"), (4.0, "green"), (50.0, None)])
def test_frames_that_show_no_class_do_not_vote(
    threshold: float, label: str | None, extract_params: ExtractParams, tmp_path: Path
) -> None:
    """Three dark frames outvote a bright one, unless they show no class. Below its own threshold a clip has none."""
    contract = with_thresholds(draft_contract(), threshold, 50.0 if threshold == 50.0 else -50.0)
    write_models(tmp_path / "contract.json", tmp_path, contract)
    clip = write_colour_clip(tmp_path / "clip.mp4", [2, 2, 2, 1], n_dark=3)
    (answer,) = predict([clip], Classifier.load(tmp_path), extract_params)
    assert answer.verdict is not None
    assert answer.verdict.label == label
    assert ("(none of the classes)" in to_lines([answer])[0]) == (threshold > 0)


def test_a_file_that_cannot_be_used_is_reported_and_the_others_are_answered(
    colour_classifier: Classifier, extract_params: ExtractParams, tmp_path: Path
) -> None:
    (tmp_path / "a.jpg").write_text("no picture")
    (tmp_path / "b.mp4").write_text("no clip")
    (tmp_path / "c.mp4").touch()
    Image.fromarray(picture(2)).save(tmp_path / "d.png")
    Image.new("RGB", (100, 9)).save(tmp_path / "e.png")
    answers = predict([tmp_path], colour_classifier, extract_params)
    assert [answer.verdict and answer.verdict.label for answer in answers] == [None, None, None, "蓝色", None]
    assert [(answer.error or "").count(answer.path) for answer in answers] == [1, 1, 1, 0, 1]
    assert all("\n" not in (answer.error or "") for answer in answers)
    with pytest.raises(DataError, match=r"a\.jpg: not a picture .*; 3 more could not be classified"):
        refuse_failures(answers)


def test_a_clip_outside_the_contract_is_reported(extract_params: ExtractParams, tmp_path: Path) -> None:
    contract = dataclasses.replace(draft_contract(), max_pixels=1000)
    write_models(tmp_path / "contract.json", tmp_path, contract)
    clip = write_colour_clip(tmp_path / "clip.mp4", [0])
    (answer,) = predict([clip], Classifier.load(tmp_path), extract_params)
    assert answer.error == f"{clip}: 32 x 32 pixels; expected at most 1000 in all"


def test_nothing_to_look_at_is_an_error(
    colour_classifier: Classifier, extract_params: ExtractParams, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="no photo and no clip"):
        predict([tmp_path], colour_classifier, extract_params)


def test_a_path_that_does_not_exist_costs_no_other_its_answer(
    colour_classifier: Classifier, extract_params: ExtractParams, tmp_path: Path
) -> None:
    Image.fromarray(picture(1)).save(tmp_path / "photo.png")
    paths = [tmp_path / "none.jpg", tmp_path / f"{'a' * 300}.jpg", tmp_path / "none.mp4", tmp_path / "photo.png"]
    answers = predict(paths, colour_classifier, extract_params)
    assert [answer.error is None for answer in answers] == [False, False, False, True]
    assert [str(path) in (answer.error or "") for path, answer in zip(paths[:3], answers[:3], strict=True)] == [
        True
    ] * 3


def test_a_bundle_answers_like_the_project(
    colour_project: Project, extract_params: ExtractParams, tmp_path: Path
) -> None:
    Image.fromarray(picture(1)).save(tmp_path / "photo.png")
    clip = write_colour_clip(tmp_path / "clip.mp4", [2])
    answers = []
    for source in (None, colour_project.bundle_zip):
        with open_classifier(colour_project, source) as named:
            answers.append(predict([tmp_path / "photo.png", clip], named.classifier, extract_params))
    assert answers[0] == answers[1]


def test_an_unpacked_bundle_is_verified(colour_project: Project, tmp_path: Path) -> None:
    from runtime.archive import bundle_id, unpack

    unpack(colour_project.bundle_zip, tmp_path / "bundle")
    with open_classifier(colour_project, tmp_path / "bundle") as named:
        assert named.classifier.variant.name == "fp32"
        name = f"{tmp_path / 'bundle'}, bundle {bundle_id(tmp_path / 'bundle')}"
        assert named.headline == f"answered by the graph fp32 of {name}"
    (tmp_path / "bundle" / "extra").touch()
    with (
        pytest.raises(BundleError, match="'extra' is not listed"),
        open_classifier(colour_project, tmp_path / "bundle"),
    ):
        pass


def test_a_damaged_bundle_is_refused(colour_project: Project, tmp_path: Path) -> None:
    path = tmp_path / "bundle.zip"
    path.write_bytes(colour_project.bundle_zip.read_bytes()[:-1])
    with pytest.raises(BundleError, match=r"bundle\.zip"), open_classifier(colour_project, path):
        pass


def test_a_project_without_a_graph_says_what_to_run(tmp_path: Path) -> None:
    with (
        pytest.raises(DataError, match="no graph is exported; run `dvc repro`"),
        open_classifier(Project(tmp_path), None),
    ):
        pass


@pytest.mark.parametrize("encoding", ["utf-8:strict", "latin-1"])
def test_a_file_whose_name_is_no_text_is_answered_all_the_same(
    encoding: str, colour_project: Project, tmp_path: Path
) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff.png"))
    try:
        Image.fromarray(picture(2)).save(path)
    except OSError:
        pytest.skip("this file system takes names of text only")
    command = [sys.executable, "-m", "pipeline", "predict", path, "--csv", tmp_path / "answers.csv"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding}
    for arguments in ([], ["--json"]):
        finished = subprocess.run(
            [*command, *arguments], cwd=colour_project.root, env=environment, capture_output=True, check=False
        )
        assert finished.returncode == 0
        assert re.fullmatch(rb"answered by the graph fp32 of checkpoint [0-9a-f]{8}\n", finished.stderr)
    (answer,) = json.loads(finished.stdout.decode("utf-8"))
    assert (answer["path"], answer["verdict"]["label"]) == (str(path), "蓝色")
    assert "bad\\udcff.png,,,蓝色," in (tmp_path / "answers.csv").read_text(encoding="utf-8")


def test_predicting_loads_no_torch() -> None:
    program = "import sys, pipeline.tools.predict.predict; print('torch' in sys.modules, 'onnx' in sys.modules)"
    finished = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert finished.stdout == "False False\n"


def test_real_clips_are_answered(extract_params: ExtractParams, shared: Path, tmp_path: Path) -> None:
    contract = dataclasses.replace(draft_contract(), max_pixels=1_000_000)
    write_models(tmp_path / "contract.json", tmp_path, contract)
    answers = predict([shared / "data" / "clips" / "yoyo"], Classifier.load(tmp_path), extract_params)
    assert len(answers) > 1
    for answer in answers:
        assert answer.error is None
        assert len(answer.frames) > 1
