"""Every value that the recipes of the studies set, written out, beside the words of the text that give it.

A value that the text does not give has a reason instead, which begins with `ours`.
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
