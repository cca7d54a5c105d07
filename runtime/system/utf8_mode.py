"""File names are UTF-8 whatever the locale says: Python's UTF-8 mode, which can be chosen at its start only."""

from __future__ import annotations

import os
import sys


def restart_in_utf8_mode() -> None:
    """Start this program again with `PYTHONUTF8=1`, where the locale or `PYTHONUTF8=0` gave another encoding.

    Without it a class named in Chinese has no name that Python could print or store. Python's own choice of UTF-8 for
    the locale C (PEP 540) can be switched off, and other locales have encodings of their own.
    """
    if os.name != "posix" or sys.getfilesystemencoding() == "utf-8" or os.environ.get("PYTHONUTF8") == "1":
        return
    os.environ["PYTHONUTF8"] = "1"
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606  # the same program, by its own path
