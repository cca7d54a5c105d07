"""The errors of the toolchain. Each is one line that the reader can act on, and has its exit code.

PipeError            1   something the person can fix: file, what was found, what was expected
├── DataError        1   the footage, photos, manifests or models
├── ParamsError      1   params.yaml or a recipe
├── DiskFullError    1   a disk that has no room for what a stage writes
└── GateError        3   a gate refused; its report has been written
    └── LeakageError 3   training and test would share something
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence


class PipeError(Exception):
    """Something the person can fix. The message says which file, what was found and what was expected."""

    exit_code = 1


class DataError(PipeError):
    """The footage, a photo, a manifest or a model is not what a stage needs."""


class ParamsError(PipeError):
    """A value or name in `params.yaml`, a recipe or an override is not valid."""


class DiskFullError(PipeError):
    """A disk has no room. The message names the file, the bytes wanted and the bytes free."""


class GateError(PipeError):
    """A gate refused."""

    exit_code = 3


class LeakageError(GateError):
    """Training and test would share a clip, a file or a frame."""


def one_line(error: BaseException, most: int | None = None) -> str:
    """The message of an error of a library as one line, for a message of ours; the error's type where it has none.

    Args:
        error: of the library.
        most: letters that are kept; None for all.
    """
    return " ".join(str(error).split())[:most] or type(error).__name__


def nearest(name: str, known: Sequence[str]) -> str | None:
    """The known name that is spelled most like `name`, for an error message; None where no name is known."""
    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.0)), None)
