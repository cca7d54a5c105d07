"""Charts: names in any letters, what no font can draw is named, and the same bytes for the same drawing."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from pipeline.draw import charts
from pipeline.draw.charts import chart, chart_text, missing_font


def drawn(path: Path, title: str) -> bytes:
    with chart(path, 2, 1) as figure:
        figure.suptitle(chart_text(title))
    return path.read_bytes()


def test_the_same_drawing_gives_the_same_bytes_and_another_one_others(tmp_path: Path) -> None:
    red, again, blue = (drawn(tmp_path / f"{n}.png", title) for n, title in enumerate(("red", "red", "blue")))
    assert red == again != blue
    assert b"atplotlib" not in red
    with Image.open(tmp_path / "0.png") as picture:
        assert picture.size == (220, 110)


@pytest.mark.parametrize("name", ["$x_1$", "<script>", "a\nb", r"\frac{1}{2}", "\U00010480", "", "Gru\u0308n"])
def test_any_name_can_be_drawn(tmp_path: Path, name: str) -> None:
    assert drawn(tmp_path / "chart.png", name)


def test_letters_that_no_font_has_are_escaped_and_a_font_is_advised() -> None:
    assert chart_text("a\U00010480") == r"a\U00010480"
    advice = missing_font(["plain", "a\U00010480"])
    assert advice is not None
    assert "\U00010480" in advice
    assert "Noto Sans CJK SC" in advice
    assert missing_font(["plain", "Grün"]) is None


def test_without_a_chinese_font_chinese_names_are_escaped_and_the_font_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(charts, "_font_families", lambda: ["DejaVu Sans"])
    charts._known_letters.cache_clear()
    try:
        assert chart_text("鳞片") == r"\u9cde\u7247"
        assert (missing_font(["鳞片"]) or "").startswith("no installed font has 片 鳞")
    finally:
        charts._known_letters.cache_clear()
