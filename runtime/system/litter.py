"""The files and folders that operating systems and network storage leave in every folder: nobody put them there."""

from __future__ import annotations

_NAMES = frozenset({
    ".ds_store", ".localized", ".spotlight-v100", ".trashes", ".fseventsd", "__macosx",  # macOS
    "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information",  # Windows
    "@eadir", ".@__thumb", "#recycle", "@recycle", "lost+found",  # Synology, QNAP, Linux
})  # fmt: skip
_APPLE_DOUBLE = "._"  # macOS writes ._photo.jpg beside photo.jpg where the file system holds no second stream


def is_litter(name: str) -> bool:
    """Return whether a file or folder of this name, without its parents, is litter: no content of anybody's."""
    return name.startswith(_APPLE_DOUBLE) or name.casefold() in _NAMES
