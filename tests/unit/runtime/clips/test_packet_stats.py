from __future__ import annotations

import contextlib
import csv
from pathlib import Path

import av
import pytest
from av.error import FFmpegError
from av.video.reformatter import ColorTrc

from runtime.clips.clip import open_clip
from runtime.clips.decode_plan import Wanted
from runtime.clips.demuxer import Bounds, demuxer_of, open_container
from runtime.clips.packet_stats import PacketLog, PacketStats, packet_stats_of
from tests.support.media import damage, picture, write_clip


def stats_of(path: Path) -> PacketStats:
    """The statistics of a clip whose packets are read as far as possible."""
    log = PacketLog()
    with open_container(path, Bounds(10**8, 7200), strict=False, threads=1) as (container, stream):
        with contextlib.suppress(FFmpegError):
            for packet in container.demux(stream):
                log.note(packet)
        return packet_stats_of(demuxer_of(path), stream, log)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.ts"])  # the first is planned, the second decoded whole
def test_decoding_a_clip_gives_the_same_statistics(tmp_path: Path, name: str) -> None:
    path = write_clip(tmp_path / name)
    with open_clip(path, Bounds(10**8, 7200), strict=True) as clip:
        assert len(list(clip.frames(Wanted(1)))) == 2
        assert clip.packet_stats() == stats_of(path)


def test_a_constant_rate_is_reported_with_its_gaps(tmp_path: Path) -> None:
    stats = stats_of(write_clip(tmp_path / "clip.mp4"))
    assert (stats.container, stats.pixel_format, stats.transfer) == ("mov", "yuv420p", "not stated")
    assert (stats.frames_per_second, stats.rate_is_constant) == (10, True)
    assert (stats.shortest_gap_seconds, stats.longest_gap_seconds) == (0.1, 0.1)
    assert stats.packets_without_time == 0


def test_a_variable_rate_is_reported(tmp_path: Path) -> None:
    stats = stats_of(write_clip(tmp_path / "clip.mp4", times_ms=[0, 100, 200, 700, 800]))
    assert stats.rate_is_constant is False
    assert (stats.frames_per_second, stats.shortest_gap_seconds, stats.longest_gap_seconds) == (5, 0.1, 0.5)


def test_milliseconds_do_not_make_a_rate_variable(tmp_path: Path) -> None:
    stats = stats_of(write_clip(tmp_path / "clip.mkv", times_ms=[round(1000 * number / 240) for number in range(20)]))
    assert stats.rate_is_constant
    assert stats.shortest_gap_seconds != stats.longest_gap_seconds


def test_one_frame_has_no_rate(tmp_path: Path) -> None:
    stats = stats_of(write_clip(tmp_path / "clip.mp4", n_frames=1))
    assert (stats.frames_per_second, stats.rate_is_constant, stats.longest_gap_seconds) == (None, None, None)
    assert (stats.keyframes, stats.longest_keyframe_gap_seconds) == (1, None)


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
    ("transfer", "name"),
    [(ColorTrc.SMPTE2084, "PQ (HDR)"), (ColorTrc.ARIB_STD_B67, "HLG (HDR)"), (ColorTrc.BT709, "BT709")],
)
def test_the_transfer_function_and_the_keyframes_are_reported(transfer: ColorTrc, name: str, tmp_path: Path) -> None:
    stats = stats_of(write_coloured(tmp_path / "clip.mp4", transfer, 4))
    assert stats.transfer == name
    assert (stats.keyframes, stats.longest_keyframe_gap_seconds) == (3, 0.4)


def test_a_damaged_clip_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mkv", n_frames=40, sides=(320, 240), noise=20)
    whole = stats_of(clip)
    cut = stats_of(damage(clip, share_kept=0.5))
    assert cut.frames_per_second == pytest.approx(whole.frames_per_second)


def test_real_clips_have_the_rates_of_the_table(shared: Path) -> None:
    with (shared / "data" / "VIDEO_INDEX.tsv").open(encoding="utf-8", newline="") as file:
        entries = [entry for entry in csv.DictReader(file, delimiter="\t") if entry["frames_decoded"]]
    counts = {"variable": 0, "constant": 0}
    for entry in entries:
        stats = stats_of(shared / "data" / entry["file"])
        assert stats.pixel_format == entry["pix_fmt"], entry["file"]
        if entry["vfr"]:
            assert stats.rate_is_constant == (entry["vfr"] == "no"), entry["file"]
            counts["constant" if stats.rate_is_constant else "variable"] += 1
    assert counts["variable"] >= 2
    assert counts["constant"] > 40
