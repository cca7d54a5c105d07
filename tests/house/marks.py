"""Marks that are printed and break nothing: `python -m tests.house.marks`. One idea a file is what counts."""

from __future__ import annotations

import sys

from tests.house.rooms import ROOT, House

LONG_FILE_LINES = 400


def long_files(house: House) -> list[str]:
    """Modules longer than the mark, each with its lines."""
    lines = {path: path.read_text(encoding="utf-8").count("\n") for path in house.modules.values()}
    return [f"{path.relative_to(house.root)}: {n} lines" for path, n in lines.items() if n > LONG_FILE_LINES]


if __name__ == "__main__":
    found = long_files(House(ROOT))
    sys.stdout.write("".join(f"long: {line}\n" for line in found) or f"no module over {LONG_FILE_LINES} lines\n")
