"""A clip on the device: one answer a second, and the verdict by the mean of the answers."""

from __future__ import annotations

import json
import sys
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.extract.child import Settings, decode_recording
from runtime import Classifier
from runtime.__main__ import main
from runtime.classifier import Prediction
from runtime.clips.decode_plan import Wanted
from runtime.errors import ClipError, DeviceError, ImageError
from runtime.verdict import Thresholds
from runtime.video import FrameAnswer, classify_clip, verdict
from tests.support.media import number_in, picture, spoil, write_clip, write_intra, write_photo
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


NONE = Thresholds(None, None)


class Watcher:
    """A classifier that keeps the frames it was asked about."""

    def __init__(self, max_pixels: int = MOST) -> None:
        self.contract = SimpleNamespace(max_pixels=max_pixels)
        self.thresholds = NONE
        self.seen: list[NDArray[np.uint8]] = []

    def classify(self, pixels_hwc: NDArray[np.uint8]) -> Prediction:
        self.seen.append(pixels_hwc)
        return Prediction("red", 1.0, {"red": 1.0}, (1.0,), 1.0)


def seen(path: Path, max_pixels: int = MOST) -> tuple[list[float], list[NDArray[np.uint8]], tuple[str, ...]]:
    """Times, pixels and warnings of the frames that the device would classify."""
    watcher: Any = Watcher(max_pixels)
    answer = classify_clip(watcher, path)
    return [frame.time_seconds for frame in answer.frames], watcher.seen, answer.warnings


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi", ".ts"])
def test_the_first_frame_of_each_second_is_taken(suffix: str, tmp_path: Path) -> None:
    times, frames, warnings = seen(write_clip(tmp_path / f"clip{suffix}", n_frames=25))
    assert times == pytest.approx([0, 1, 2], abs=1e-3)
    assert [number_in(pixels_hwc) for pixels_hwc in frames] == [0, 10, 20]
    assert warnings == ()
    for number, pixels_hwc in zip([0, 10, 20], frames, strict=True):
        difference = np.abs(pixels_hwc.astype(int) - picture(number))
        assert np.median(difference) <= 3  # RGB, not BGR: the corner is red
        assert difference[:8, :8].mean() < 20


def test_true_times_count_where_the_rate_varies(tmp_path: Path) -> None:
    times_ms = [0, 100, 900, 1700, 1800, 4300, 4400]
    times, frames, _ = seen(write_clip(tmp_path / "clip.mp4", times_ms=times_ms))
    assert [(time, number_in(pixels_hwc)) for time, pixels_hwc in zip(times, frames, strict=True)] == [
        (0, 0), (1.7, 3), (4.3, 5),
    ]  # fmt: skip


def extracted(path: Path, folder: Path) -> list[NDArray[np.uint8]]:
    """The frames that `pipe extract` writes for a clip, without loss."""
    settings = Settings(Wanted(1), ".png", 95, 1_000_000, 3600, 1)
    outcome = decode_recording(path, "clip", folder, settings)
    return [cv2.imread(str(folder / frame.path))[:, :, ::-1] for frame in outcome.pictures]


# Turned, mirrored, wide pixels, high dynamic range: what OpenCV's reader of clips shows in its own way.
@pytest.mark.parametrize("kind", ["turned", "mirrored", "hlg", "bt2020", "wide pixels"])
def test_the_device_sees_the_pixels_of_extract(kind: str, tmp_path: Path) -> None:
    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=2, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        if kind in ("turned", "mirrored"):
            x = -65536 if kind == "mirrored" else 65536
            stream.set_display_matrix((0, x, 0, -65536, 0, 0, 0, 0, 1 << 30))
        if kind in ("hlg", "bt2020"):
            stream.codec_context.colorspace, stream.codec_context.color_primaries = 9, 9
            stream.codec_context.color_trc = 18 if kind == "hlg" else 1
        if kind == "wide pixels":
            stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        for number in range(5):
            blocks_hwc = np.kron(np.random.default_rng(number).integers(0, 256, (4, 6, 3)), np.ones((16, 16, 1)))
            pixels_hwc = blocks_hwc.astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels_hwc, format="rgb24")))
        container.mux(stream.encode(None))
    _, frames, _ = seen(tmp_path / "clip.mp4")
    expected = extracted(tmp_path / "clip.mp4", tmp_path)
    assert len(expected) == 3
    for ours, theirs in zip(frames, expected, strict=True):
        assert np.array_equal(ours, theirs)
    _, by_opencv = cv2.VideoCapture(str(tmp_path / "clip.mp4")).read()  # the negative control
    is_alike = (
        by_opencv.shape == expected[0].shape and np.abs(by_opencv[:, :, ::-1].astype(int) - expected[0]).mean() < 3
    )
    assert is_alike == (kind == "turned")


@pytest.mark.parametrize(
    ("name", "warning"),
    [
        ("v10_rothflip.mp4", None),
        ("v11_thumbfirst.mov", "has 2 video tracks; number 2, of 320 x 240 pixels, is used"),
        ("v26_two.mp4", "has 2 video tracks; number 2, of 320 x 240 pixels, is used"),
        ("v30_bt2020.mp4", None),
    ],
)
def test_reported_clips_are_upright_and_in_their_colours(
    name: str, warning: str | None, shared: Path, tmp_path: Path
) -> None:
    path = shared / "data" / "faults" / name
    times, frames, warnings = seen(path, 1_000_000)
    assert times == [0, 1, 2]
    assert warnings == ((warning,) if warning else ())
    corners = [
        (220, 30, 30),
        (30, 200, 30),
        (30, 30, 220),
        (230, 230, 230),
    ]
    for pixels_hwc, theirs in zip(frames, extracted(path, tmp_path), strict=True):
        found = [pixels_hwc[row, column] for row in (12, -13) for column in (12, -13)]
        assert np.abs(np.array(found, int) - corners).max() <= 8
        assert np.array_equal(pixels_hwc, theirs)


def test_the_verdict_is_the_most_probable_class_of_the_mean(classifier: Classifier, tmp_path: Path) -> None:
    found = classify_clip(classifier, write_colours(tmp_path / "clip.mp4", "rrbbrrgg"))
    assert [frame.prediction.label for frame in found.frames] == ["red", "蓝色", "red", "green"]
    assert found.label == "red"
    means = np.mean([list(frame.prediction.probabilities.values()) for frame in found.frames], axis=0)
    assert list(found.probabilities) == list(CLASSES)
    assert list(found.probabilities.values()) == pytest.approx(means)
    assert found.probability == found.probabilities["red"]


def answer(label: str | None, *shares: float) -> FrameAnswer:
    return FrameAnswer(
        0.0,
        Prediction(label, max(shares), dict(zip(CLASSES, shares, strict=True)), shares, 0.0 if label is None else 1.0),
    )


def test_one_sure_frame_can_outweigh_two_unsure_ones() -> None:
    found = verdict([answer("red", 0.4, 0.35, 0.25), answer("red", 0.4, 0.35, 0.25), answer("green", 0, 1, 0)], NONE)
    assert found.label == "green"


def test_frames_that_show_no_class_do_not_count_unless_all_do() -> None:
    unknown, known = answer(None, 0.9, 0.1, 0.0), answer("green", 0.2, 0.8, 0.0)
    assert verdict([unknown, known], Thresholds(0.5, None)).probabilities["green"] == pytest.approx(0.8)
    assert verdict([unknown, unknown], Thresholds(0.5, None)).label is None


def test_a_clip_below_its_threshold_is_none_of_the_classes() -> None:
    unknown, known = answer(None, 0.9, 0.1, 0.0), answer("green", 0.2, 0.8, 0.0)
    assert verdict([unknown, unknown, known], Thresholds(0.5, 0.4)).label is None
    assert verdict([unknown, known], Thresholds(0.5, 0.4)).label == "green"


def test_a_playlist_opens_nothing_whatever_it_is_called(classifier: Classifier, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4")
    (tmp_path / "list.mp4").write_text(f"ffconcat version 1.0\nfile {clip.name}\n")
    with pytest.raises(ClipError, match=r"list\.mp4: its content is not MP4, MOV"):
        classify_clip(classifier, tmp_path / "list.mp4")


@pytest.mark.parametrize("kept", [8, 12, 200])
def test_a_clip_cut_short_is_refused_in_one_line(
    kept: int, classifier: Classifier, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write_clip(tmp_path / "clip.mp4")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ClipError, match=r"clip\.mp4: ") as caught:
        classify_clip(classifier, path)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_frames_outside_the_contract_are_refused(classifier: Classifier, tmp_path: Path) -> None:
    large, wide = (write_clip(tmp_path / f"{n}.mp4", n_frames=1, sides=(n, h)) for n, h in ((128, 80), (320, 16)))
    expected = r"128\.mp4: frames of 128 x 80; expected at most 10000 pixels \(max_pixels in contract\.json\)"
    with pytest.raises(ClipError, match=expected):
        classify_clip(classifier, large)
    with pytest.raises(ImageError, match=r"320\.mp4: 320 x 16 pixels; expected a longer side"):
        classify_clip(classifier, wide)


def test_without_pyav_one_line_names_it_and_pictures_go_on(
    pristine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    assert main(["video", "--bundle", str(pristine), str(write_clip(tmp_path / "clip.mp4"))]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "clips need PyAV 18 or newer; pip install 'av>=18' (Python 3.11 or newer)" in error
    assert main(["classify", "--bundle", str(pristine), str(write_photo(tmp_path / "photo.png"))]) == 0


def test_a_pyav_that_is_too_old_is_named(
    classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(av, "__version__", "17.1.0")
    with pytest.raises(DeviceError, match=r"PyAV 17\.1\.0: clips need PyAV 18 or newer"):
        classify_clip(classifier, tmp_path / "clip.mp4")


def test_of_a_damaged_clip_the_rest_is_classified_with_a_warning(
    pristine: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    clip = spoil(write_intra(tmp_path / "clip.mp4"), 10)
    assert main(["video", "--bundle", str(pristine), str(clip)]) == 0
    output = capfd.readouterr()
    assert len(output.out.splitlines()) >= 2
    warnings = output.err.splitlines()
    assert any(line.startswith(f"runtime: {clip}: warning: damage begins at 1.00 s") for line in warnings)
    assert all(line.startswith("runtime: ") for line in warnings)  # FFmpeg prints nothing itself


def test_a_clip_that_needs_too_much_memory_is_refused_in_one_line(tmp_path: Path) -> None:
    watcher: Any = Watcher()

    def no_memory(pixels_hwc: NDArray[np.uint8]) -> Prediction:
        raise MemoryError

    watcher.classify = no_memory
    with pytest.raises(ClipError, match=r"clip\.mp4: decoding needs more memory than there is"):
        classify_clip(watcher, write_clip(tmp_path / "clip.mp4"))


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
    assert list(found) == ["path", "label", "probability", "probabilities", "frames", "warnings"]
    assert list(found["frames"][0]) == ["time_seconds", "label", "probability", "probabilities", "logits", "score"]
    assert main(["video", "--bundle", str(pristine), str(tmp_path / "none.mp4")]) == 1
    assert capsys.readouterr().err.endswith("none.mp4: cannot be read (No such file or directory); expected a video\n")
