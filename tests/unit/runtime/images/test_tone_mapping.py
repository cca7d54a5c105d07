from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.images.tone_mapping import HLG, PQ, Curve, to_sdr

MID_GREY = 0.38  # the signal of 18 % grey, in HLG and in PQ alike: 26 cd/m² (BT.2408, table 1)


def shown(signal: NDArray[np.float64], curve: Curve, *, wide_gamut: bool = True) -> NDArray[np.int64]:
    """(n, 3) levels for (n, 3) signals of 0 to 1."""
    levels = np.round(signal * 65535).astype(np.uint16)
    return to_sdr(levels[np.newaxis], curve, wide_gamut=wide_gamut)[0].astype(np.int64)


def greys(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.repeat(signal[:, np.newaxis], 3, axis=1)


@pytest.mark.parametrize("curve", [HLG, PQ])
@pytest.mark.parametrize("wide_gamut", [True, False])
def test_a_grey_ramp_stays_grey_and_never_falls(curve: Curve, wide_gamut: bool) -> None:
    ramp = shown(greys(np.arange(65536) / 65535), curve, wide_gamut=wide_gamut)
    assert np.ptp(ramp, axis=1).max() <= 1
    assert np.diff(ramp, axis=0).min() >= 0
    assert (ramp[0].max(), ramp[-1].min()) == (0, 255)


@pytest.mark.parametrize("curve", [HLG, PQ])
def test_mid_grey_is_shown_in_the_middle(curve: Curve) -> None:
    (level,) = shown(greys(np.array([MID_GREY])), curve)
    assert 95 <= level.mean() <= 125


@pytest.mark.parametrize("curve", [HLG, PQ])
def test_highlights_keep_their_differences(curve: Curve) -> None:
    reference_white = {HLG: 0.75, PQ: 0.58}[curve]
    ramp = shown(greys(np.linspace(reference_white, 1, 9)), curve)[:, 0]
    assert len(set(ramp[:6])) == 6
    assert ramp[0] <= 235
    clipped = np.minimum(255, 255 * np.linspace(reference_white, 1, 9) / reference_white)  # the negative control
    assert len(set(clipped.round())) == 1


def test_colours_of_the_wide_gamut_are_brought_into_the_small_one() -> None:
    signal = np.array([[0.5, 0.4, 0.4]])
    small, wide = shown(signal, HLG, wide_gamut=False)[0], shown(signal, HLG)[0]
    assert np.ptp(wide) > np.ptp(small)  # the same coordinates in a wider gamut are a stronger colour
    assert wide.argmax() == small.argmax() == 0


def test_a_picture_of_many_rows_is_the_same_as_its_rows() -> None:
    picture = np.random.default_rng(0).integers(0, 65536, (150, 8, 3)).astype(np.uint16)
    whole = to_sdr(picture, HLG, wide_gamut=True)
    rows = [to_sdr(picture[row : row + 1], HLG, wide_gamut=True) for row in range(150)]
    assert np.array_equal(whole, np.concatenate(rows))
