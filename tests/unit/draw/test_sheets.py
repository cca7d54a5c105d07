"""Contact sheets: where pictures and letters lie, and that any Unicode can be read on them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.base.errors import DataError
from pipeline.draw.sheets import GAP, Cell, draw_text, sheet, sheet_text, stack, thumbnail, write_png
from runtime.images import read_image


def flat(colour: tuple[int, int, int], height: int = 30, width: int = 60) -> NDArray[np.uint8]:
    return np.full((height, width, 3), colour, np.uint8)


def drawn(text: str, width: int = 400) -> NDArray[np.uint8]:
    canvas = np.full((40, 400, 3), 255, np.uint8)
    draw_text(canvas, text, 10, 5, width)
    return canvas


def ink(canvas: NDArray[np.uint8]) -> int:
    return int((canvas < 128).sum())


@pytest.mark.parametrize("text", ["flake", "鳞片石墨", "膨胀", "카본", "カーボン", "Ünï Ελ Кир"])
def test_letters_of_many_scripts_are_drawn_as_themselves(text: str) -> None:
    assert sheet_text(text) == text
    assert ink(drawn(text)) > 20 * len(text)


def test_different_names_look_different() -> None:
    assert not np.array_equal(drawn("鳞片石墨"), drawn("人造石墨"))


@pytest.mark.parametrize(("text", "escaped"), [("ไท", r"\u0e44\u0e17"), ("a\nb", r"a\nb"), ("🙂", r"\U0001f642")])
def test_a_letter_that_the_font_lacks_is_drawn_as_its_escape(text: str, escaped: str) -> None:
    assert sheet_text(text) == escaped


def test_a_question_mark_is_a_question_mark() -> None:
    assert sheet_text("what? 鳞") == "what? 鳞"


def test_a_decomposed_name_is_drawn_like_the_composed_one() -> None:
    assert sheet_text("Gru\u0308n") == "Grün"


def test_a_long_line_is_cut_to_its_width() -> None:
    canvas = drawn("膨胀石墨" * 30, width=100)
    assert (canvas[:, 112:] == 255).all()
    assert ink(canvas) > 100
    assert (canvas[30:] == 255).all()  # no second line


def test_a_thumbnail_keeps_the_aspect() -> None:
    assert thumbnail(flat((1, 2, 3), 1080, 1920), 192).shape == (108, 192, 3)
    assert thumbnail(flat((1, 2, 3), 2, 4), 20).shape == (10, 20, 3)
    assert thumbnail(flat((1, 2, 3), 1, 5000), 100).shape == (1, 100, 3)


def test_pictures_stand_in_reading_order_each_under_its_title() -> None:
    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
    cells = [Cell(flat(colour), str(position)) for position, colour in enumerate(colours)]
    canvas = sheet(cells, "heading", columns=2, side=60)
    pixels = [np.argwhere((canvas == colour).all(axis=2)) for colour in colours]
    assert [len(positions) for positions in pixels] == [30 * 60] * 3
    tops, lefts = zip(*(positions.min(axis=0).tolist() for positions in pixels), strict=True)
    assert tops[0] == tops[1] < tops[2]
    assert lefts[0] == lefts[2] == GAP < lefts[1]
    assert ink(canvas[tops[0] - 24 : tops[0], lefts[0] : lefts[0] + 60]) > 10


def test_a_sheet_without_pictures_is_its_whole_heading() -> None:
    heading = "no picture of 膨胀石墨 was taken"
    canvas = sheet([], heading, columns=3, side=60)
    expected = np.full_like(canvas, 255)
    draw_text(expected, heading, GAP, GAP, 10_000)
    np.testing.assert_array_equal(canvas, expected)
    assert (canvas[:, -GAP:] == 255).all()


def test_stacked_sheets_stand_below_one_another_and_the_narrower_is_widened_with_white() -> None:
    canvas = stack([flat((200, 0, 0), 5, 20), flat((0, 200, 0), 7, 30)])
    assert canvas.shape == (12, 30, 3)
    assert (canvas[:5, :20] == (200, 0, 0)).all()
    assert (canvas[:5, 20:] == 255).all()
    assert (canvas[5:] == (0, 200, 0)).all()


def test_a_sheet_on_disk_has_its_colours_in_order(tmp_path: Path) -> None:
    path = tmp_path / "鳞片石墨.png"
    write_png(flat((10, 20, 30)), path)
    np.testing.assert_array_equal(read_image(path, max_pixels=10_000), flat((10, 20, 30)))


def test_a_picture_that_no_png_can_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="too many for a PNG"):
        write_png(np.zeros((1, 1_000_001, 3), np.uint8), tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


def test_a_grey_sheet_is_stored_with_one_channel_and_a_coloured_one_with_three(tmp_path: Path) -> None:
    grey, coloured = flat((90, 90, 90)), flat((90, 90, 91))
    for pixels, channels in ((grey, (30, 60)), (coloured, (30, 60, 3))):
        write_png(pixels, tmp_path / "sheet.png")
        assert cv2.imread(str(tmp_path / "sheet.png"), cv2.IMREAD_UNCHANGED).shape == channels
        assert np.array_equal(read_image(tmp_path / "sheet.png", max_pixels=10_000), pixels)
