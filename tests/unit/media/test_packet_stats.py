from __future__ import annotations

import contextlib
import csv
from pathlib import Path

import av
import pytest
from av.error import FFmpegError
from av.video.reformatter import ColorTrc

from pipeline.media.clip import open_clip
from pipeline.media.decode_plan import Wanted
from pipeline.media.demuxer import Bounds, demuxer_of, open_container
from pipeline.media.packet_stats import PacketLog, PacketStats, packet_stats_of
from tests.support.media import damage, picture, write_clip


def survey(path: Path) -> PacketStats:
    """What is told of a clip whose packets were read, as far as they can be."""
    log = PacketLog()
    with open_container(path, Bounds(10**8, 7200), strict=False, threads=1) as (container, stream):
        with contextlib.suppress(FFmpegError):
            for packet in container.demux(stream):
                log.note(packet)
        return packet_stats_of(demuxer_of(path), stream, log)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.ts"])  # one that is planned, and one that is decoded whole
def test_a_clip_tells_the_same_once_its_frames_were_asked_for(tmp_path: Path, name: str) -> None:
    path = write_clip(tmp_path / name)
    with open_clip(path, Bounds(10**8, 7200), strict=True) as clip:
        assert len(list(clip.frames(Wanted(1)))) == 2
        assert clip.packet_stats() == survey(path)


def test_a_constant_rate_is_told_with_its_gaps(tmp_path: Path) -> None:
    found = survey(write_clip(tmp_path / "clip.mp4"))
    assert (found.container, found.pixel_format, found.transfer) == ("mov", "yuv420p", "not stated")
    assert (found.frames_per_second, found.rate_is_constant) == (10, True)
    assert (found.shortest_gap_seconds, found.longest_gap_seconds) == (0.1, 0.1)
    assert found.packets_without_time == 0


def test_a_variable_rate_is_told(tmp_path: Path) -> None:
    found = survey(write_clip(tmp_path / "clip.mp4", times_ms=[0, 100, 200, 700, 800]))
    assert found.rate_is_constant is False
    assert (found.frames_per_second, found.shortest_gap_seconds, found.longest_gap_seconds) == (5, 0.1, 0.5)


def test_milliseconds_do_not_make_a_rate_variable(tmp_path: Path) -> None:
    found = survey(write_clip(tmp_path / "clip.mkv", times_ms=[round(1000 * number / 240) for number in range(20)]))
    assert found.rate_is_constant
    assert found.shortest_gap_seconds != found.longest_gap_seconds


def test_one_frame_has_no_rate(tmp_path: Path) -> None:
    found = survey(write_clip(tmp_path / "clip.mp4", n_frames=1))
    assert (found.frames_per_second, found.rate_is_constant, found.longest_gap_seconds) == (None, None, None)
    assert (found.keyframes, found.longest_keyframe_gap_seconds) == (1, None)


def write_coloured(path: Path, transfer: ColorTrc, keyframe_every: int) -> Path:
    """One second at 10 frames per second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"bf": "0", "sc_threshold": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.gop_size = keyframe_every
        stream.codec_context.color_trc = transfer
        for number in range(10):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number), format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("transfer", "said"),
    [(ColorTrc.SMPTE2084, "PQ (HDR)"), (ColorTrc.ARIB_STD_B67, "HLG (HDR)"), (ColorTrc.BT709, "BT709")],
)
def test_the_transfer_function_and_the_keyframes_are_told(transfer: ColorTrc, said: str, tmp_path: Path) -> None:
    found = survey(write_coloured(tmp_path / "clip.mp4", transfer, 4))
    assert found.transfer == said
    assert (found.keyframes, found.longest_keyframe_gap_seconds) == (3, 0.4)


def test_a_damaged_clip_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mkv", n_frames=40, sides=(320, 240), noise=20)
    whole = survey(clip)
    cut = survey(damage(clip, share_kept=0.5))
    assert cut.frames_per_second == pytest.approx(whole.frames_per_second)


def test_real_clips_have_the_rates_of_the_table(shared: Path) -> None:
    with (shared / "data" / "VIDEO_INDEX.tsv").open(encoding="utf-8", newline="") as file:
        entries = [entry for entry in csv.DictReader(file, delimiter="\t") if entry["frames_decoded"]]
    told = {"variable": 0, "constant": 0}
    for entry in entries:
        found = survey(shared / "data" / entry["file"])
        assert found.pixel_format == entry["pix_fmt"], entry["file"]
        if entry["vfr"]:
            assert found.rate_is_constant == (entry["vfr"] == "no"), entry["file"]
            told["constant" if found.rate_is_constant else "variable"] += 1
    assert told["variable"] >= 2
    assert told["constant"] > 40
