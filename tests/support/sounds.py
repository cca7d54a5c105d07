"""Sounds, and clips that have them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

RATE = 44_100  # samples a second
Sound = NDArray[np.float32]  # (channels, n)


@dataclass(frozen=True)
class Track:
    """How a sound is encoded."""

    codec: str = "aac"
    layout: str = "mono"
    rate: int = RATE
    bitrate: int = 96_000


AAC = Track()


def music(seed: int, seconds: float = 4.0) -> Sound:
    """Notes of a struck instrument at times of their own, over a little noise."""
    generator = np.random.default_rng(seed)
    times = np.arange(round(seconds * RATE)) / RATE
    sound = generator.normal(0, 0.02, len(times))
    begin = 0.0
    while begin < seconds:
        pitch, fading = 220 * 2 ** (generator.integers(0, 30) / 12), generator.uniform(2, 6)
        since = times[times >= begin] - begin
        note = sum(np.sin(2 * np.pi * pitch * overtone * since) / overtone for overtone in range(1, 6))
        sound[times >= begin] += note * np.exp(-since * fading)
        begin += generator.uniform(0.1, 0.4)
    return (sound / np.abs(sound).max() * 0.6).astype(np.float32)[None]


def tone(hertz: float, seconds: float = 4.0) -> Sound:
    """A tone that does not change."""
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)[None]


def silence(seconds: float = 4.0) -> Sound:
    """No sound."""
    return np.zeros((1, round(seconds * RATE)), np.float32)


def later(sound: Sound, seconds: float) -> Sound:
    """The sound without its first seconds."""
    return sound[:, round(seconds * RATE) :]


def with_sound(clip: Path, path: Path, sound: Sound, track: Track = AAC) -> Path:
    """Write a clip anew with the same pictures and a track of sound."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(clip)) as source, av.open(str(path), "w") as container:
        pictures = container.add_stream_from_template(source.streams.video[0])
        stream = container.add_stream(track.codec, rate=track.rate)
        stream.layout, stream.bit_rate = track.layout, track.bitrate
        resampler = av.AudioResampler(stream.codec_context.format, track.layout, track.rate)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = RATE, 0
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = pictures
                container.mux(packet)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return path
