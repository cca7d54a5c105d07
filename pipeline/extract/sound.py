"""The fingerprint of a clip's sound: for each twentieth of a second, which bands of frequencies grow against the next.

The bits are those of Haitsma and Kalker, "A highly robust audio fingerprinting system" (2002). They do not depend on
how loud the sound is, and change little when it is encoded again.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
from av.audio.fifo import AudioFifo
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Discard, Stream
from numpy.typing import NDArray

from pipeline.base.fingerprints import SoundFingerprint
from runtime.clips.demuxer import demuxer_of
from runtime.errors import ClipError

MOST_SECONDS = 600  # of sound; what follows is not read
MOST_SAMPLES = 2_000_000  # a second of all channels together; a track that states more is not decoded
LEAST_SECONDS = 1.0  # shorter sound cannot be told from another
_RATE = 5000  # samples a second: the bands end at 2000 Hz
_WINDOW = 2048  # samples, 0.41 s: long against a step, so that it does not matter where in a step a copy begins
_STEP = 250  # samples
_BANDS = 33
_LOWEST, _HIGHEST = 300.0, 2000.0  # Hz
_LEAST_POWER = 1e-6  # of full scale, -60 dB: what is quieter is silence
_LEAST_CHANGE = 0.05  # of the energy, from step to step: a tone that stays tells nothing
_ROWS_AT_ONCE = 1000
_SAMPLES_AT_ONCE = 16_000  # to be resampled: calls for single frames would cost more than the work
_FAILURES = (FFmpegError, ClipError, ValueError, OSError, ArithmeticError, RuntimeError)

Samples = NDArray[np.float32]


def sound_fingerprint(path: Path) -> SoundFingerprint | None:
    """The fingerprint of a clip's first sound track; None where there is none, or silence, or it cannot be decoded.

    Sound never fails a clip: it is no part of what the classifier sees.
    """
    try:
        with _open(path) as container:
            streams = container.streams
            if not streams.audio or not _is_bearable(streams.audio[0]):
                return None
            for other in streams:
                if other != streams.audio[0]:
                    other.discard = Discard.all  # its packets are not even read
            start, samples = _decode(container, streams.audio[0])
            start -= _begin(streams.best("video"))
    except _FAILURES:
        return None
    if len(samples) < LEAST_SECONDS * _RATE:
        return None
    fingerprint = fingerprint_of_samples(samples, start)
    return fingerprint if len(fingerprint.bits) else None


def fingerprint_of_samples(samples: Samples, start_seconds: float) -> SoundFingerprint:
    """The fingerprint of mono samples, 5000 a second.

    Args:
        samples: (n,) between -1 and 1.
        start_seconds: when they begin, since the clip's first frame.
    """
    energies = _band_energies(samples)
    along_bands = energies[:, :-1] - energies[:, 1:]
    change = np.diff(along_bands, axis=0)
    energy = energies.sum(axis=1)
    tells = (energy[1:] > _LEAST_POWER) & (np.abs(change).sum(axis=1) > _LEAST_CHANGE * (energy[1:] + energy[:-1]))
    bits = np.packbits(change > 0, axis=1).view(">u4")[:, 0].astype(np.uint32)
    middles = (np.arange(1, len(energies)) * _STEP + _WINDOW // 2) / _RATE + start_seconds
    milliseconds = np.round(middles * 1000)
    tells &= (milliseconds >= 0) & (milliseconds < 2**32)  # what the container says of the start may be nonsense
    return SoundFingerprint(milliseconds[tells].astype(np.int64), bits[tells])


def _open(path: Path) -> InputContainer:
    # With skip_frame=all FFmpeg does not decode a frame to learn the shape of the pixels, at the cost of the sound.
    options = {"protocol_whitelist": "file", "skip_frame": "all"}
    return av.open(str(path.absolute()), format=demuxer_of(path), metadata_errors="ignore", options=options)


def _is_bearable(stream: AudioStream) -> bool:
    """Whether there is a decoder, and no more to decode than from eight channels at 192 kHz."""
    context = stream.codec_context
    return context is not None and 0 < context.sample_rate * context.channels <= MOST_SAMPLES


def _begin(stream: Stream | None) -> float:
    """The presentation time of a stream's first packet in seconds; 0 where the container does not say."""
    if stream is None or stream.start_time is None or stream.time_base is None:
        return 0.0
    return float(stream.start_time * stream.time_base)


def _decode(container: InputContainer, stream: AudioStream) -> tuple[float, Samples]:
    """When the sound begins, and its samples, at most those of MOST_SECONDS.

    Raises:
        FFmpegError, ValueError: the sound is damaged, or of a kind that cannot be resampled.
    """
    frames = (frame for packet in container.demux(stream) for frame in packet.decode())
    first = next(frames, None)
    if first is None:
        return 0.0, np.zeros(0, np.float32)
    start = _begin(stream) if first.time is None else first.time
    parts: list[Samples] = []
    n_samples = 0
    for frame in _resampled(itertools.chain([first], frames)):
        parts.append(np.asarray(frame.to_ndarray()[0], np.float32))
        n_samples += frame.samples
        if n_samples > MOST_SECONDS * _RATE:
            break
    samples = np.concatenate([np.zeros(0, np.float32), *parts])[: MOST_SECONDS * _RATE]
    return start, np.nan_to_num(samples, posinf=0.0, neginf=0.0)


def _resampled(frames: Iterator[AudioFrame]) -> Iterator[AudioFrame]:
    """The frames as mono at the rate of fingerprints; a track may change its rate and its channels on the way."""
    resampler, waiting, known = AudioResampler("flt", "mono", _RATE), AudioFifo(), None
    for frame in frames:
        frame.pts = None  # gaps count as none
        kind = frame.format.name, frame.layout.name, frame.sample_rate
        if known is not None and kind != known:
            yield from _rest(resampler, waiting)
            resampler, waiting = AudioResampler("flt", "mono", _RATE), AudioFifo()
        known = kind
        waiting.write(frame)
        if waiting.samples >= _SAMPLES_AT_ONCE:
            yield from resampler.resample(waiting.read())
    yield from _rest(resampler, waiting)


def _rest(resampler: AudioResampler, waiting: AudioFifo) -> Iterator[AudioFrame]:
    frame = waiting.read(partial=True) if waiting.samples else None
    if frame is not None:
        yield from resampler.resample(frame)
        yield from resampler.resample(None)


def _band_energies(samples: Samples) -> NDArray[np.float32]:
    """The mean power of each window in each band of frequencies, (windows, bands), relative to full scale."""
    edges = np.geomspace(_LOWEST, _HIGHEST, _BANDS + 1) * _WINDOW / _RATE
    first, last = np.round(edges[:-1]).astype(np.int64), round(edges[-1])
    taper = np.hanning(_WINDOW).astype(np.float32)
    scale = 2 / (_WINDOW * float((taper**2).sum()))
    windows = np.lib.stride_tricks.sliding_window_view(samples, _WINDOW)[::_STEP]
    energies = []
    for begin in range(0, len(windows), _ROWS_AT_ONCE):
        # One row holds the bins of one window: the real part of 0, then real and imaginary part of 1, of 2 and so on.
        spectrum = cv2.dft(windows[begin : begin + _ROWS_AT_ONCE] * taper, flags=cv2.DFT_ROWS)
        real, imaginary = spectrum[:, 1 : 2 * last - 1 : 2], spectrum[:, 2 : 2 * last : 2]
        power = real**2 + imaginary**2
        energies.append(np.add.reduceat(power, first - 1, axis=1) * scale)
    return np.concatenate(energies).astype(np.float32)
