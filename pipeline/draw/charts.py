"""Charts: one look, names in any letters, and the same bytes for the same numbers."""

from __future__ import annotations

import contextlib
import functools
import io
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.base.files import replacing_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure


DPI = 110  # pixels of an inch
# Fonts with Chinese, Japanese and Korean letters, on Linux, Windows and macOS. The first installed one is used.
_CJK_FONTS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Source Han Sans SC", "Noto Serif CJK SC",
    "WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "Microsoft YaHei", "SimHei", "PingFang SC", "Hiragino Sans GB",
    "Arial Unicode MS",
)  # fmt: skip
_FIRST_FONT = "DejaVu Sans"  # comes with matplotlib


@contextlib.contextmanager
def chart(path: Path, width_inches: float, height_inches: float) -> Iterator[Figure]:
    """Give an empty figure to draw on, and write it as a PNG file when the block ends without an error.

    Args:
        path: the PNG file; written whole or not at all.
        width_inches: width of the figure; an inch is 110 pixels.
        height_inches: height of the figure.
    """
    with figure_in_our_look(width_inches, height_inches) as figure:
        yield figure
        save_figure(figure, path)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG or PDF, by the suffix of the file, whole or not at all."""
    # matplotlib writes its name, its version and the time; without them the bytes depend on the numbers alone.
    of_pdf: dict[str, Any] = {"Creator": None, "Producer": None, "CreationDate": None}
    metadata = of_pdf if path.suffix == ".pdf" else {"Software": None}
    with replacing_file(path) as temporary:
        figure.savefig(temporary, format=path.suffix.removeprefix("."), metadata=metadata)


@contextlib.contextmanager
def figure_in_our_look(width_inches: float, height_inches: float) -> Iterator[Figure]:
    """Give an empty figure to draw on; its fonts hold inside the block."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context({"font.family": _font_families(), "text.parse_math": False}):
        figure = Figure(figsize=(width_inches, height_inches), dpi=DPI, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure


def chart_pixels(figure: Figure) -> NDArray[np.uint8]:
    """Return a figure as a picture that a sheet can hold; (height, width, 3) uint8 RGB."""
    width, height = figure.canvas.get_width_height()
    stored = io.BytesIO()
    figure.savefig(stored, format="rgba")
    return np.frombuffer(stored.getvalue(), np.uint8).reshape(height, width, 4)[..., :3].copy()


def chart_text(text: str) -> str:
    r"""The text as a chart can show it: composed (NFC), with letters that no font has as escapes such as \u0e44."""
    return "".join(
        letter if ord(letter) in _known_letters() else letter.encode("unicode_escape").decode()
        for letter in _composed(text)
    )


def missing_font(texts: Iterable[str]) -> str | None:
    """The advice to install a font, for texts with letters that no installed font has; None where all can be shown."""
    letters = {letter for text in texts for letter in _composed(text)}
    missing = sorted(letter for letter in letters if ord(letter) not in _known_letters())
    if not missing:
        return None
    return f"no installed font has {' '.join(missing[:8])}; install one that has, such as {_CJK_FONTS[0]}"


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


@functools.cache
def _font_families() -> list[str]:
    """The installed fonts, in the order in which matplotlib looks for a letter."""
    from matplotlib.font_manager import fontManager

    installed = {font.name for font in fontManager.ttflist}
    return [_FIRST_FONT, *[name for name in _CJK_FONTS if name in installed][:1]]


@functools.cache
def _known_letters() -> frozenset[int]:
    """The code points that these fonts can draw."""
    from matplotlib.font_manager import FontProperties, findfont
    from matplotlib.ft2font import FT2Font

    return frozenset(
        letter for family in _font_families() for letter in FT2Font(findfont(FontProperties(family))).get_charmap()
    )
