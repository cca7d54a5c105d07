"""Every value that the studies' recipes set, literally, beside the words of the text that say so.

A value that no text gives has the reason for it instead, beginning with `ours`.
"""

from __future__ import annotations

from tests.support.recipes.lines import Table
from tests.support.recipes.table_catsdogs import CATSDOGS
from tests.support.recipes.table_fish import FISH
from tests.support.recipes.table_graphite import GRAPHITE
from tests.support.recipes.table_joint import CUB, LFW
from tests.support.recipes.table_pothole import POTHOLE

STUDIES: dict[str, tuple[str, Table]] = {  # the text, and what the recipe says
    "graphite": ("000", GRAPHITE),
    "fish": ("001", FISH),
    "lfw": ("002", LFW),
    "cub": ("002", CUB),
    "pothole": ("003", POTHOLE),
    "catsdogs": ("004", CATSDOGS),
}
