"""Litter: the names that macOS, Windows and network storage leave behind, and no others."""

from __future__ import annotations

import pytest

from runtime.system.litter import is_litter

LEFT_BEHIND = [
    ".DS_Store", "._photo.jpg", "._", "__MACOSX", "Thumbs.db", "THUMBS.DB", "desktop.ini", "@eaDir", ".@__thumb",
    "#recycle", "$RECYCLE.BIN", "System Volume Information",
]  # fmt: skip
CONTENT = ["photo.jpg", ".photo.jpg", "DS_Store", "thumbs.jpg", "model.onnx", "_._photo.jpg", "recycle", "", "macosx"]


@pytest.mark.parametrize("name", LEFT_BEHIND)
def test_what_systems_leave_behind_is_litter(name: str) -> None:
    assert is_litter(name)


@pytest.mark.parametrize("name", CONTENT)
def test_other_names_are_content(name: str) -> None:
    assert not is_litter(name)
