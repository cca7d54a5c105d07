"""DVC's own Python interface, opened on a project; its errors become one line."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipeline.base.errors import DataError
from pipeline.base.project import Project

if TYPE_CHECKING:
    from dvc.repo import Repo

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@contextlib.contextmanager
def open_dvc(project: Project) -> Iterator[Repo]:
    """Open the DVC repository that a project lies in. Errors of DVC inside the block become one line too.

    Raises:
        DataError: DVC or git is not set up here, a file of DVC's cannot be read, or another DVC process holds its lock.
    """
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.repo import Repo

    try:
        with Repo(str(project.root)) as repository:
            _ = repository.scm  # opened now, since without git DVC fails late
            yield repository
    except NotDvcRepoError as error:
        raise DataError(
            f"{project.root}: DVC is not set up here; expected a folder .dvc; run `git init`, then `dvc init`"
        ) from error
    except DvcException as error:
        raise DataError(f"{project.root}: DVC: {_one_line(error)}") from error


def _one_line(error: BaseException) -> str:
    """The message of an error, and of the one that caused it where DVC names only the file; without its colours."""
    causes = [error] if error.__cause__ is None else [error, error.__cause__]
    return "; ".join(" ".join(_COLOURS.sub("", str(cause)).split()) for cause in causes)
