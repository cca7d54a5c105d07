"""A pickle that runs code, to show that nothing runs it."""

from __future__ import annotations

from pathlib import Path


class MakesAFile:
    """Its pickle makes a file wherever code from it is run."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return (Path.touch, (self._file,))
