"""A clip on the device: one answer a second, and the verdict by the mean of the answers."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from runtime import Classifier
from runtime.__main__ import main
from runtime.classifier import Prediction
from runtime.errors import DeviceError, ImageError
from runtime.video import FrameAnswer, classify_clip, one_frame_a_second, verdict
from tests.support.media import number_in, picture, write_clip
from tests.support.tiny_bundle import CLASSES, draft_contract, write_models

MOST = 10_000


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    folder = tmp_path_factory.mktemp("models")
    write_models(folder / "contract.json", folder, draft_contract())
    return Classifier.load(folder)


def write_colours(path: Path, colours: str) -> Path:
    """A clip of two frames a second, each of one colour: r, g or b."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=2, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv444p"
        for letter in colours:
            pixels_hwc = np.zeros((48, 64, 3), np.uint8)
            pixels_hwc[..., "rgb".index(letter)] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels_hwc, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_the_first_frame_of_each_second_is_taken(suffix: str, tmp_path: Path) -> None:
    found = list(one_frame_a_second(write_clip(tmp_path / f"clip{suffix}", n_frames=25), MOST))
    assert [time_seconds for time_seconds, _ in found] == pytest.approx([0, 1, 2], abs=1e-3)
    assert [number_in(pixels_hwc) for _, pixels_hwc in found] == [0, 10, 20]
    for number, (_, pixels_hwc) in zip([0, 10, 20], found, strict=True):
        difference = np.abs(pixels_hwc.astype(int) - picture(number))
        assert np.median(difference) <= 3  # RGB, not BGR: the corner is red
        assert difference[:8, :8].mean() < 20


def test_true_times_count_where_the_rate_varies(tmp_path: Path) -> None:
    times_ms = [0, 100, 900, 1700, 1800, 4300, 4400]
    found = list(one_frame_a_second(write_clip(tmp_path / "clip.mp4", times_ms=times_ms), MOST))
    assert [(round(time, 2), number_in(pixels_hwc)) for time, pixels_hwc in found] == [(0, 0), (1.7, 3), (4.3, 5)]


def test_a_turned_clip_is_seen_upright(tmp_path: Path) -> None:
    quarter = (0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
    upright, turned = (
        next(one_frame_a_second(write_clip(tmp_path / name, n_frames=1, display_matrix=matrix), MOST))[1]
        for name, matrix in (("upright.mp4", None), ("turned.mp4", quarter))
    )
    assert (upright.shape, turned.shape) == ((48, 64, 3), (64, 48, 3))


def test_the_verdict_is_the_most_probable_class_of_the_mean(classifier: Classifier, tmp_path: Path) -> None:
    found = classify_clip(classifier, write_colours(tmp_path / "clip.mp4", "rrbbrrgg"))
    assert [frame.prediction.label for frame in found.frames] == ["red", "蓝色", "red", "green"]
    assert found.label == "red"
    means = np.mean([list(frame.prediction.probabilities.values()) for frame in found.frames], axis=0)
    assert list(found.probabilities) == list(CLASSES)
    assert list(found.probabilities.values()) == pytest.approx(means)
    assert found.probability == found.probabilities["red"]


def answer(label: str | None, *shares: float) -> FrameAnswer:
    return FrameAnswer(0.0, Prediction(label, max(shares), dict(zip(CLASSES, shares, strict=True)), shares))


def test_one_sure_frame_can_outweigh_two_unsure_ones() -> None:
    found = verdict([answer("red", 0.4, 0.35, 0.25), answer("red", 0.4, 0.35, 0.25), answer("green", 0, 1, 0)])
    assert found.label == "green"


def test_frames_that_show_no_class_do_not_count_unless_all_do() -> None:
    unknown, known = answer(None, 0.9, 0.1, 0.0), answer("green", 0.2, 0.8, 0.0)
    assert verdict([unknown, known]).probabilities["green"] == pytest.approx(0.8)
    assert verdict([unknown, unknown]).label is None


def test_a_playlist_opens_nothing_whatever_it_is_called(classifier: Classifier, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4")
    (tmp_path / "list.mp4").write_text(f"ffconcat version 1.0\nfile {clip.name}\n")
    with pytest.raises(ImageError, match=r"list\.mp4: not a clip that can be read; expected MP4"):
        classify_clip(classifier, tmp_path / "list.mp4")


@pytest.mark.parametrize("kept", [8, 12, 200])
def test_a_clip_cut_short_is_refused_in_one_line(
    kept: int, classifier: Classifier, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write_clip(tmp_path / "clip.mp4")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ImageError, match=r"clip\.mp4: ") as caught:
        classify_clip(classifier, path)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_frames_outside_the_contract_are_refused(classifier: Classifier, tmp_path: Path) -> None:
    large, wide = (write_clip(tmp_path / f"{n}.mp4", n_frames=1, sides=(n, h)) for n, h in ((128, 80), (320, 16)))
    with pytest.raises(ImageError, match=r"128\.mp4: frames of 128 x 80 pixels; expected between 1 and 10000"):
        classify_clip(classifier, large)
    with pytest.raises(ImageError, match=r"320\.mp4: 320 x 16 pixels; expected a longer side"):
        classify_clip(classifier, wide)


def test_without_opencv_one_line_says_so(
    classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(DeviceError, match="clips need it; pip install opencv-python-headless"):
        classify_clip(classifier, tmp_path / "clip.mp4")


def test_the_command_prints_each_second_and_the_verdict(
    pristine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = write_colours(tmp_path / "clip.mp4", "rrgggg")
    assert main(["video", "--bundle", str(pristine), str(clip)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[:3]] == [
        ["0.00", "s", "100.0%", "red"],
        ["1.00", "s", "100.0%", "green"],
        ["2.00", "s", "100.0%", "green"],
    ]
    assert lines[3].split() == ["66.7%", "green", str(clip)]
    assert main(["video", "--bundle", str(pristine), "--json", str(clip)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["path", "label", "probability", "probabilities", "frames"]
    assert list(found["frames"][0]) == ["time_seconds", "label", "probability", "probabilities", "logits"]
    assert main(["video", "--bundle", str(pristine), str(tmp_path / "none.mp4")]) == 1
    assert capsys.readouterr().err.endswith("none.mp4: cannot be read (No such file or directory); expected a clip\n")
