"""One run of a study: `dvc exp run` with its params, in the workspace or in a copy of it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipeline.base.files import replacing_file
from pipeline.base.project import Project
from pipeline.tools.studies.dvc_experiments import LAST_STAGE

TAIL_BYTES = 1 << 16  # of the output: the last lines hold the reason of a failure
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")  # colours and cursor movements of progress bars


@dataclass(frozen=True)
class PlannedRun:
    """A row with one seed."""

    experiment: str
    params_text: str  # the whole params.yaml
    changed: tuple[str, ...]  # dotted names of the values that differ from the project's own params.yaml

    @property
    def what_changes(self) -> str:
        """The names of these values, for a line before the run."""
        return ", ".join(self.changed) or "with params.yaml unchanged"

    def write_params(self, project: Project) -> None:
        """Write `params.yaml` of a workspace or of a copy."""
        with replacing_file(project.params_yaml) as temporary:
            temporary.write_text(self.params_text, encoding="utf-8", newline="\n")


@contextlib.contextmanager
def dvc_experiment(
    experiment: str, project: Project, environment: Mapping[str, str], targets: Sequence[str] = (LAST_STAGE,)
) -> Iterator[subprocess.Popen[bytes]]:
    """Start `dvc exp run` in a process group of its own. What is left of the group when the block ends is killed.

    The terminal sends Ctrl-C to our process alone, which passes it to DVC once.

    Args:
        experiment: its name.
        project: where it runs.
        environment: all variables.
        targets: the stages that it runs, with those that they depend on.

    Yields:
        The process. Its standard output has its errors too.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", "exp", "run", "--name", experiment, *targets],
        cwd=project.root,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        process_group=0,
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                signal_group(process, "SIGKILL")


def signal_group(process: subprocess.Popen[bytes], name: str) -> None:
    """Send a signal to a process and to all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, getattr(signal, name))


def plain(text: str) -> str:
    """The text without colours and cursor movements."""
    return _CONTROL.sub("", text)


def reason_of_failure(output: str) -> str:
    """The error line of the stage that failed, else the last error of DVC, else the last line."""
    lines = [line.strip() for line in plain(output).splitlines() if line.strip()]
    of_stage = [line.removeprefix("pipe: ") for line in lines if line.startswith("pipe: ")]
    of_dvc = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (of_stage or of_dvc or lines or ["no reason was printed"])[-1]
