"""How every chart is drawn: one look, names in any letters, and the same bytes for the same numbers."""

from __future__ import annotations

import contextlib
import functools
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_DPI = 110
# Fonts with Chinese, Japanese and Korean letters, on Linux, Windows and macOS; the first that is there is taken.
_CJK_FONTS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Source Han Sans SC", "Noto Serif CJK SC",
    "WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "Microsoft YaHei", "SimHei", "PingFang SC", "Hiragino Sans GB",
    "Arial Unicode MS",
)  # fmt: skip
_FIRST_FONT = "DejaVu Sans"  # comes with matplotlib


@contextlib.contextmanager
def chart(path: Path, width_inches: float, height_inches: float) -> Iterator[Figure]:
    """Give an empty figure to draw on; when the block ends well, it is the PNG file `path`."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context({"font.family": _families(), "text.parse_math": False}):
        figure = Figure(figsize=(width_inches, height_inches), dpi=_DPI, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        # Without the name of the program, which has its version in it.
        figure.savefig(path, format="png", metadata={"Software": None})


def drawable(text: str) -> str:
    r"""The text, composed (NFC), with letters that no font has as their escapes, such as \u0e44."""
    return "".join(
        letter if ord(letter) in _letters() else letter.encode("unicode_escape").decode() for letter in _composed(text)
    )


def missing_font(texts: Iterable[str]) -> str | None:
    """What to install where names have letters that no font has; None where all can be drawn."""
    lacking = sorted({letter for text in texts for letter in _composed(text) if ord(letter) not in _letters()})
    if not lacking:
        return None
    return f"no installed font has {' '.join(lacking[:8])}; install one that has, such as {_CJK_FONTS[0]}"


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


@functools.cache
def _families() -> list[str]:
    """The fonts that are there, in the order in which a letter is looked for."""
    from matplotlib.font_manager import fontManager

    known = {font.name for font in fontManager.ttflist}
    return [_FIRST_FONT, *[name for name in _CJK_FONTS if name in known][:1]]


@functools.cache
def _letters() -> frozenset[int]:
    """What those fonts can draw."""
    from matplotlib.font_manager import FontProperties, findfont
    from matplotlib.ft2font import FT2Font

    return frozenset(
        letter for family in _families() for letter in FT2Font(findfont(FontProperties(family))).get_charmap()
    )
