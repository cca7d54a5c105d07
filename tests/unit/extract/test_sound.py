"""Fingerprints of sound: alike however the sound is encoded, none where there is none, and never a failed clip."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.base.errors import DataError
from pipeline.base.fingerprints import SOUND, SoundFingerprint, fingerprint_path, read_sound
from pipeline.base.project import Project
from pipeline.base.section import read_section
from pipeline.extract import sound as sound_module
from pipeline.extract.params import ExtractParams
from pipeline.extract.sound import sound_fingerprint
from pipeline.extract.stage import extract
from pipeline.split.near_duplicates.same_sound import offset_of_sound
from tests.support.moving_clips import Copy, film, write_copy
from tests.support.sounds import Sound, Track, later, music, silence, tone, with_sound

TRACKS = {
    "quiet.mp4": Track(bitrate=48_000), "stereo.mp4": Track(layout="stereo", rate=48_000),
    "six_channels.mp4": Track(layout="5.1"), "opus.mkv": Track("libopus", rate=48_000), "mp3.mkv": Track("libmp3lame"),
    "pcm.mov": Track("pcm_s16le"), "slow.mov": Track("pcm_u8", rate=8000),
}  # fmt: skip
AAC = Track()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_copy(film(0, 0, 2.0), tmp_path_factory.mktemp("silent") / "silent.mp4", Copy())


@pytest.fixture(scope="module")
def original(clip: Path) -> SoundFingerprint:
    return fingerprint_of(clip, music(0), clip.with_name("original.mp4"))


def fingerprint_of(clip: Path, sound: Sound, path: Path, track: Track = AAC) -> SoundFingerprint:
    made = sound_fingerprint(with_sound(clip, path, sound, track))
    assert made is not None
    return made


@pytest.mark.parametrize("name", TRACKS)
def test_a_sound_that_is_trimmed_and_encoded_again_is_known_with_its_offset(
    clip: Path, original: SoundFingerprint, tmp_path: Path, name: str
) -> None:
    copy = fingerprint_of(clip, later(music(0), 0.73) * 0.2, tmp_path / name, TRACKS[name])
    offset = offset_of_sound(original, copy)
    assert offset == pytest.approx(0.73, abs=0.08)
    assert offset_of_sound(copy, original) == pytest.approx(-0.73, abs=0.08)


def test_other_sounds_are_not_alike(clip: Path, original: SoundFingerprint, tmp_path: Path) -> None:
    for seed in range(1, 4):
        assert offset_of_sound(original, fingerprint_of(clip, music(seed), tmp_path / f"{seed}.mp4")) is None
    noise = [np.random.default_rng(seed).normal(0, 0.1, (1, 44_100 * 4)).astype(np.float32) for seed in range(2)]
    hissing = [fingerprint_of(clip, sound, tmp_path / f"n{number}.mp4") for number, sound in enumerate(noise)]
    assert offset_of_sound(*hissing) is None


def test_silence_a_steady_tone_and_a_short_sound_tell_nothing(
    clip: Path, original: SoundFingerprint, tmp_path: Path
) -> None:
    assert sound_fingerprint(clip) is None
    for name, sound in {"silent": silence(), "short": music(0, 0.9)}.items():
        assert sound_fingerprint(with_sound(clip, tmp_path / f"{name}.mp4", sound)) is None
    humming = sound_fingerprint(with_sound(clip, tmp_path / "tone.mp4", tone(440)))
    # It begins and ends, which two clips may share.
    assert humming is None or (len(humming.bits) < 20 and offset_of_sound(humming, humming) is None)


@pytest.mark.parametrize("seconds", [1.5, 4.0])
def test_the_sound_may_be_shorter_or_longer_than_the_pictures(clip: Path, tmp_path: Path, seconds: float) -> None:
    made = fingerprint_of(clip, music(1, seconds), tmp_path / "a.mp4")
    assert made.milliseconds[-1] / 1000 == pytest.approx(seconds - 0.25, abs=0.15)


def test_a_track_may_change_its_rate_and_channels(clip: Path, tmp_path: Path) -> None:
    parts = [
        with_sound(clip, tmp_path / f"{number}.ts", music(2, 2.0), track).read_bytes()
        for number, track in enumerate([Track(), Track(layout="stereo", rate=48_000)])
    ]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(parts))
    with av.open(str(joined)) as container:
        assert {(frame.sample_rate, frame.layout.name) for frame in container.decode(audio=0)} == {
            (44_100, "mono"), (48_000, "stereo")
        }  # fmt: skip
    made = sound_fingerprint(joined)
    assert made is not None
    assert made.milliseconds[-1] > 3000


def test_no_more_than_the_first_minutes_are_read(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = with_sound(clip, tmp_path / "a.mp4", music(3))
    whole = sound_fingerprint(path)
    monkeypatch.setattr(sound_module, "MOST_SECONDS", 2)
    bounded = sound_fingerprint(path)
    assert whole is not None
    assert bounded is not None
    assert whole.milliseconds[-1] > 3000
    assert bounded.milliseconds[-1] < 2000
    assert np.array_equal(bounded.bits, whole.bits[: len(bounded.bits)])


def test_a_track_beyond_all_measure_is_not_decoded(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = with_sound(clip, tmp_path / "a.mp4", music(3))
    monkeypatch.setattr(sound_module, "MOST_SAMPLES", 44_099)
    assert sound_fingerprint(path) is None


def broken(path: Path, target: Path) -> Path:
    """The clip with other bytes in its packets of sound."""
    content = bytearray(path.read_bytes())
    generator = np.random.default_rng(0)
    with av.open(str(path)) as container:
        for packet in container.demux(audio=0):
            if packet.size and packet.pos is not None:
                content[packet.pos : packet.pos + packet.size] = generator.bytes(packet.size)
    target.write_bytes(content)
    return target


def test_a_broken_sound_leaves_the_clip_whole_and_without_a_fingerprint_of_sound(
    clip: Path, project: Project, tmp_path: Path
) -> None:
    sounding = with_sound(clip, tmp_path / "sounding.mp4", music(4))
    for label, name in (("a", "sounding.mp4"), ("b", "broken.mp4"), ("b", "silent.mp4")):
        (project.raw / label).mkdir(parents=True, exist_ok=True)
        (project.raw / label / name).write_bytes(clip.read_bytes() if name == "silent.mp4" else sounding.read_bytes())
    broken(sounding, project.raw / "b" / "broken.mp4")
    params = read_section(project.params_yaml, "extract", ExtractParams)
    written = []
    for _ in range(2):  # the second time from the cache
        report = extract(params, project)
        assert report.left_out == {}
        assert [clip["warnings"] for clip in report.clips] == [[]] * 3
        written.append({
            path.relative_to(project.fingerprints).as_posix(): path.read_bytes()
            for path in project.fingerprints.rglob("*.npy")
        })  # fmt: skip
    assert written[0] == written[1]
    assert set(written[0]) == {"a/sounding.mp4.npy", "a/sounding.mp4.sound.npy", "b/broken.mp4.npy", "b/silent.mp4.npy"}
    frames = [
        [path.read_bytes() for path in sorted((project.frames / name).iterdir())]
        for name in ("a/sounding.mp4", "b/broken.mp4", "b/silent.mp4")
    ]
    assert frames[0] == frames[1] == frames[2]
    stored = read_sound(fingerprint_path("data/raw/a/sounding.mp4", project, SOUND))
    assert stored is not None
    assert offset_of_sound(stored, fingerprint_of(clip, music(4), tmp_path / "again.mp4")) == 0


def test_a_file_comes_back_as_it_was_written(original: SoundFingerprint, tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(original.to_bytes())
    again = read_sound(tmp_path / "a.npy")
    assert again is not None
    assert again.milliseconds.tolist() == original.milliseconds.tolist()
    assert again.bits.tolist() == original.bits.tolist()
    assert read_sound(tmp_path / "b.npy") is None


@pytest.mark.parametrize(
    "lines",
    [
        np.zeros(2, [("milliseconds", "<u4"), ("bits_1", "<u4")]),
        np.zeros(2, [("milliseconds", "<u4"), ("bits_2", "<u4")]),
        np.zeros((2, 2), np.uint8),
    ],
)
def test_another_array_is_refused(tmp_path: Path, lines: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", lines)
    with pytest.raises(DataError, match=r"a\.npy: not a fingerprint"):
        read_sound(tmp_path / "a.npy")
