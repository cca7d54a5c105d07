"""Maps high dynamic range to a standard screen: HLG and PQ (BT.2100) to SDR BT.709.

Light is computed in cd/m² on the display. The white of the screen is 203 cd/m², the reference white of BT.2408. Up to
the knee of the curve, light is shown as it is. Above the knee, the curve of BT.2390 (section 5.4.1) compresses it so
that the brightest light of the source just reaches white. So grey of 18 % (26 cd/m²) keeps its level, and of two
different lights the brighter one stays brighter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

WHITE = 203.0  # cd/m², BT.2408
_LEVELS = 65536
_ROWS = 64  # converted at a time, so that memory does not grow with the picture
_GAMMA = 2.4  # of the screen, BT.1886
# BT.2087: linear BT.2020 to linear BT.709.
_TO_BT709 = ((1.6605, -0.5876, -0.0729), (-0.1246, 1.1329, -0.0083), (-0.0182, -0.1006, 1.1188))
_LUMINANCE = (0.2627, 0.6780, 0.0593)  # of linear BT.2020

Plane = NDArray[np.float32]  # (rows, width): one channel


@dataclass(frozen=True)
class Curve:
    """A transfer function of BT.2100."""

    name: str
    peak: float  # the brightest light it can state, cd/m²; for HLG that of its nominal display


HLG, PQ = Curve("HLG", 1000.0), Curve("PQ", 10000.0)
BT2020 = 9  # FFmpeg's number of the primaries, and H.273's
CURVES = {18: HLG, 16: PQ}  # by FFmpeg's number of the transfer characteristic, and H.273's


def to_sdr(signal_hwc: NDArray[np.uint16], curve: Curve, *, wide_gamut: bool) -> NDArray[np.uint8]:
    """Convert an HDR picture for a standard screen.

    Args:
        signal_hwc: (height, width, 3) uint16 RGB, 0 to 65535 for the signal's 0 to 1.
        curve: the transfer function of the signal.
        wide_gamut: True converts the primaries from BT.2020 to BT.709; False leaves them as they are.

    Returns:
        (height, width, 3) uint8 RGB.
    """
    sdr_hwc = np.empty(signal_hwc.shape, dtype=np.uint8)
    for top in range(0, len(signal_hwc), _ROWS):
        rows = slice(top, top + _ROWS)
        shown = _map_tones(_light(signal_hwc[rows], curve), curve)
        if wide_gamut:
            red, green, blue = shown
            shown = [_sum_of_products(((r, red), (g, green), (b, blue))) for r, g, b in _TO_BT709]
        for channel, plane in enumerate(shown):
            index_hw = np.sqrt(np.clip(plane, 0, 1)) * np.float32(_LEVELS - 1) + np.float32(0.5)
            sdr_hwc[rows, :, channel] = _screen_levels()[index_hw.astype(np.uint16)]
    return sdr_hwc


def _light(signal_hwc: NDArray[np.uint16], curve: Curve) -> list[Plane]:
    """The light on the display, as a share of the curve's peak: red, green and blue."""
    light = [_light_of_level(curve)[signal_hwc[:, :, channel]] for channel in range(3)]
    if curve is HLG:  # the table gives the light of the scene; the display's system gamma is 1.2 (BT.2100)
        red, green, blue = zip(_LUMINANCE, light, strict=True)
        gain_hw = np.asarray(np.power(_sum_of_products((blue, red, green)), np.float32(0.2)), dtype=np.float32)
        light = [plane * gain_hw for plane in light]
    return light


def _map_tones(light: list[Plane], curve: Curve) -> list[Plane]:
    """The light to show, as a share of white. All channels get the gain of the strongest, so that hues stay."""
    red, green, blue = light
    strongest_hw: Plane = np.maximum(np.maximum(np.maximum(red, green), blue), np.float32(1e-9))
    index_hw = (np.sqrt(strongest_hw) * np.float32(_LEVELS - 1) + np.float32(0.5)).astype(np.uint16)
    shown_hw = _shown_light(curve)[index_hw]
    # Divide first, so that grey is exactly the table's value and a ramp stays monotonic.
    return [np.asarray(plane / strongest_hw * shown_hw, dtype=np.float32) for plane in light]


def _sum_of_products(terms: Sequence[tuple[float, Plane]]) -> Plane:
    """The sum of planes with weights, rounded to float32 after each addition, from the last term to the first.

    The products are exact in float64, so every processor gives the same bits, whether it has multiply-add or not.
    """
    *others, (weight, plane) = terms
    total = plane * np.float32(weight)
    for weight, plane in reversed(others):
        total = (plane * np.float64(np.float32(weight)) + total).astype(np.float32)
    return total


@cache
def _light_of_level(curve: Curve) -> NDArray[np.float32]:
    signal = np.arange(_LEVELS) / (_LEVELS - 1)
    light = _hlg_scene(signal) if curve is HLG else _pq_light(signal) / curve.peak
    return light.astype(np.float32)


@cache
def _shown_light(curve: Curve) -> NDArray[np.float32]:
    """Table by the square root of a channel's light: the light that is shown for it, as a share of white."""
    light = (np.arange(_LEVELS) / (_LEVELS - 1)) ** 2 * curve.peak
    shown = _pq_light(_compress_highlights(_pq_signal(light), float(_pq_signal(np.array(curve.peak))))) / WHITE
    return np.minimum(shown, 1).astype(np.float32)


@cache
def _screen_levels() -> NDArray[np.uint8]:
    """Table by the square root of the light: the level of 0 to 255 at which a screen shows it."""
    share = np.arange(_LEVELS) / (_LEVELS - 1)
    return np.round(255 * share ** (2 / _GAMMA)).astype(np.uint8)


def _compress_highlights(signal: NDArray[np.float64], peak: float) -> NDArray[np.float64]:
    """Apply BT.2390's curve to PQ signals, from a source that reaches `peak` to a screen that reaches white."""
    relative = signal / peak
    highest = float(_pq_signal(np.array(WHITE))) / peak
    knee = 1.5 * highest - 0.5
    t = np.clip((relative - knee) / (1 - knee), 0, 1)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * highest
    return np.asarray(np.where(relative < knee, relative, spline) * peak)


def _hlg_scene(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)


_M1, _M2 = 2610 / 16384, 2523 / 4096 * 128
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32


def _pq_light(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    power = signal ** (1 / _M2)
    return np.asarray(10000 * (np.maximum(power - _C1, 0) / (_C2 - _C3 * power)) ** (1 / _M1))


def _pq_signal(light: NDArray[np.float64]) -> NDArray[np.float64]:
    power = (light / 10000) ** _M1
    return np.asarray(((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2)
