"""`PIPE_LAUNCH`: a launcher, such as torchrun, starts the processes of `pipe train`."""

from __future__ import annotations

import os
import shlex
import shutil
import sys

from pipeline.base.errors import DataError

LAUNCH = "PIPE_LAUNCH"


def launch_processes() -> None:
    """Become the launcher that `PIPE_LAUNCH` names; return where it is empty, as in the processes of the launcher.

    Raises:
        DataError: the launcher cannot be found.
    """
    text = os.environ.pop(LAUNCH, "")  # the processes of the launcher must not launch again
    try:
        command = shlex.split(text)
    except ValueError as error:
        raise DataError(f"{LAUNCH}: found {text!r} ({error}); expected one such as torchrun --standalone") from error
    if not command:
        return
    from pipeline.tools.repository.own_programs import environment_with_own_programs  # stages run without the tools

    # An environment that is not activated has its programs beside its interpreter.
    program = shutil.which(command[0], path=environment_with_own_programs()["PATH"])
    if program is None:
        raise DataError(f"{LAUNCH}: {command[0]}: no such program; expected one such as torchrun --standalone")
    sys.stdout.flush()
    sys.stderr.flush()
    options = ["--debug"] if "--debug" in sys.argv else []
    os.execv(program, [*command, "-m", "pipeline", *options, "train"])  # noqa: S606  # so that it gets our signals
