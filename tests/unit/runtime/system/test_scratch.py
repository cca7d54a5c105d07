"""Folders in the temporary folder: gone with their block, and those of killed processes are gone with the next."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from runtime.system import scratch
from runtime.system.scratch import scratch_folder
from tests.support.command import ROOT

PROGRAM = "from runtime.system.scratch import scratch_folder\nwith scratch_folder('export') as folder:\n"
WAITING = f"{PROGRAM}    (folder / 'a').touch()\n    print(folder, flush=True)\n    input()\n"


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder of the test's own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def waiting(temporary: Path) -> tuple[subprocess.Popen[str], Path]:
    """Start a process that waits inside its block; return it with its folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(temporary)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    return process, Path(process.stdout.readline().strip())


def test_a_folder_is_gone_with_its_block_whatever_ends_it(temporary: Path) -> None:
    def fail() -> None:
        with scratch_folder("simplify") as folder:
            (folder / "deep").mkdir()
            (folder / "deep" / "file").touch()
            assert folder.parent == temporary
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert list(temporary.iterdir()) == []


def test_the_folder_of_a_killed_process_is_removed_by_the_next_and_that_of_a_running_one_stays(temporary: Path) -> None:
    running, kept = waiting(temporary)
    killed, stale = waiting(temporary)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert (stale / "a").exists()  # the negative control: nobody else removes it
    with scratch_folder("bundle"):
        assert not stale.exists()
        assert (kept / "a").exists()
    running.communicate("\n")
    assert list(temporary.iterdir()) == []


def test_what_is_not_ours_stays(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with scratch_folder("ranges") as folder:
        prefix = folder.name.rsplit("-", 2)[0]
        monkeypatch.setattr(scratch, "is_running", lambda _: False)
        stale = temporary / f"{prefix}-1-abc_def"
        others = [
            temporary / f"{prefix[:-8]}00000000-1-abcdefgh",  # of another machine that shares the folder
            temporary / f"{prefix}-one-abcdefgh",
            temporary / "bundle-1-abcdefgh",
        ]
        for path in (stale, *others):
            path.mkdir()
        link = temporary / f"{prefix}-2-abcdefgh"
        link.symlink_to(others[0])
        file = temporary / f"{prefix}-3-abcdefgh"
        file.touch()
        with scratch_folder("ranges"):
            assert not stale.exists()
        assert all(path.is_dir() for path in (*others, link))
        assert file.is_file()


@pytest.mark.parametrize(("process_id", "runs"), [(os.getpid(), True), (10**30, False)], ids=["this process", "none"])
def test_a_process_runs_or_not(process_id: int, runs: bool) -> None:
    assert scratch.is_running(process_id) == runs
