"""The parts of the trials that attack the toolchain which decide; each sees a fault that is planted.

The trials themselves are `tests/trials/killed_stages.py`, `hostile_weights.py`, `hostile_yaml.py` and
`hostile_names.py`.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from pipeline.base.files import replacing_folder
from pipeline.base.project import Project
from pipeline.base.storage.csv_files import write_csv
from tests.support.command import ROOT
from tests.support.hostile_names import hostile_name
from tests.support.hostile_weights import Mutant
from tests.support.hostile_yaml import mutant
from tests.trials import forked_commands, hostile_yaml
from tests.trials.forked_commands import ACCEPTED, REFUSED, End, Usual, fault_of, table
from tests.trials.hostile_names import fault_of_tables
from tests.trials.hostile_weights import TARGETS, Attack
from tests.trials.killed_stages import Killer, Moments, Undisturbed, fault_of_end
from tests.trials.small_chain import files_below

LINE = "pipe: models/checkpoint.pt: damaged"
USUAL = Usual(1.0, 500.0)


@pytest.mark.parametrize(
    ("end", "fault"),
    [
        (End(0, "done\n", "", 1, 500), ""),
        (End(1, "", LINE, 1, 500), ""),
        (End(3, "", "pipe: parity FAILED", 1, 500), ""),
        (End(70, "", LINE, 1, 500), "exit code 70"),
        (End(-11, "", "", 1, 500), "ended by signal 11"),
        (End(-signal.SIGALRM, "", "", 1, 500), "hang"),
        (End(1, "", "", 1, 500), "0 lines"),
        (End(1, "", f"{LINE}\n{LINE}", 1, 500), "2 lines"),
        (End(1, "", "pipe: damaged", 1, 500), "a line without the file's name"),
        (End(0, "\x1b[31mred\n", "", 1, 500), "printed the control character '\\x1b'"),
        (End(0, "a\u202eb\n", "", 1, 500), "printed the control character '\\u202e'"),
        (End(1, "", f"Traceback (most recent call last):\n{LINE}", 1, 500), "a traceback"),
        (End(0, "", "", 1, 5000), "took 5000 MiB"),
    ],
)
def test_a_bad_end_is_known(end: End, fault: str) -> None:
    assert fault_of(end, USUAL, ["checkpoint.pt"]) == fault


def test_outcomes_are_counted_by_kind() -> None:
    rows = table("kind", [("a", REFUSED), ("a", "hang"), ("b", ACCEPTED)]).splitlines()
    assert rows[2:] == ["| a | 2 | 1 | 0 | 1 |", "| b | 1 | 0 | 1 | 0 |", "| all | 3 | 1 | 1 | 1 |"]


@pytest.fixture(scope="module")
def forks() -> Iterator[ProcessPoolExecutor]:
    """A new process that forks commands, as in the trials: a child inherits no threads or locks of other tests."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        yield process


def print_both(text: str) -> None:
    for descriptor in (1, 2):
        os.write(descriptor, text.encode())


def test_a_forked_command_gives_its_output_and_its_code(forks: ProcessPoolExecutor, tmp_path: Path) -> None:
    def run(arguments: Sequence[str], *before: Callable[[], object], most_seconds: float = 60) -> End:
        where = (tmp_path, tmp_path / "scratch")
        return forks.submit(forked_commands.run, arguments, *where, *before, most_seconds=most_seconds).result()

    end = run(["--version"], functools.partial(print_both, "some"))
    assert (end.code, end.printed[:10], end.errors) == (0, "somepipe, ", "some")
    assert run(["no-such-command"]).code == 2
    assert fault_of(run(["--version"], signal.pause, most_seconds=0.2), USUAL, ()) == "hang"


def write_until(fatal: int, folder: Path, log: Path) -> None:
    sys.addaudithook(Moments([folder], fatal, signal.SIGKILL, log))
    (folder.parent / "elsewhere").write_text("is not counted")
    for number in range(4):
        (folder / str(number)).write_text("whole")


@pytest.mark.parametrize(("fatal", "left"), [(1, []), (3, ["0", "1"]), (0, ["0", "1", "2", "3"])])
def test_a_process_is_stopped_at_one_of_its_own_writes(
    forks: ProcessPoolExecutor, tmp_path: Path, fatal: int, left: list[str]
) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    write = functools.partial(write_until, fatal, folder, tmp_path / "moments")
    end = forks.submit(forked_commands.run, ["--version"], folder, tmp_path / "scratch", write).result()
    assert sorted(path.name for path in folder.iterdir()) == left
    assert end.code == (-signal.SIGKILL if fatal else 0)
    assert fatal or (tmp_path / "moments").read_text() == "4"


@pytest.mark.parametrize(
    ("code", "sent", "fault"),
    [
        (0, signal.SIGTERM, ""),
        (-signal.SIGKILL, signal.SIGKILL, ""),
        (130, signal.SIGINT, ""),
        (130, signal.SIGTERM, "exit code 130"),
        (70, signal.SIGINT, "exit code 70"),
        (-signal.SIGALRM, signal.SIGINT, "hang"),
        (-signal.SIGSEGV, signal.SIGINT, "exit code -11"),
    ],
)
def test_the_end_of_a_stopped_stage_is_judged(code: int, sent: signal.Signals, fault: str) -> None:
    assert fault_of_end(code, sent) == fault


@pytest.fixture
def killer(tmp_path: Path) -> Killer:
    """A stopped `augment`: its old and its new outputs, and the project in which it was stopped."""
    killer = Killer(tmp_path / "new", tmp_path / "old", tmp_path / "runs")
    for root, text in ((killer.new, "new"), (killer.old, "old"), (killer.runs / "project", "new")):
        for name in "ab":
            (root / "data/augmented").mkdir(parents=True, exist_ok=True)
            (root / "data/augmented" / name).write_text(text)
        (root / "data/augmented.csv").write_text(text)
    whole = {path.relative_to(killer.new).as_posix(): path.read_bytes() for path in files_below(killer.new, ["data"])}
    killer.known["augment"] = Undisturbed(1, 1.0, whole, killer._files())
    return killer


def test_an_output_that_is_half_the_old_one_is_seen(killer: Killer) -> None:
    folder = killer.runs / "project/data/augmented"
    assert killer._fault_of_outputs("augment") == ""
    (folder / "a").unlink()  # as a folder that is removed file by file
    assert killer._fault_of_outputs("augment") == "data/augmented is neither the old one nor the new one"
    (folder / "b").unlink()
    assert killer._fault_of_outputs("augment") == ""  # absent


def test_litter_other_bytes_and_a_lock_after_the_next_run_are_seen(
    killer: Killer, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = End(0, "", "", 1, 1)
    monkeypatch.setattr(Killer, "run", lambda *_: end)
    assert killer._fault_of_rerun("augment") == ""
    stale = killer.runs / "project/data/.augmented.1.tmp"
    stale.mkdir()
    assert killer._fault_of_rerun("augment") == "left behind: project/data/.augmented.1.tmp"
    (killer.runs / "project/data/augmented.csv").write_text("other")
    assert killer._fault_of_rerun("augment") == "other bytes: data/augmented.csv"
    assert killer._fault_of_bundle("augment") == "bundled what does not belong together"
    end = End(1, "", "pipe: another `pipe augment` is running here", 1, 1)
    assert killer._fault_of_rerun("augment").startswith("the next run ended with 1: pipe: another")


def replace_until(fatal: int, target: Path, log: Path) -> None:
    sys.addaudithook(Moments([target.parent], fatal, signal.SIGKILL, log))
    with replacing_folder(target) as temporary:
        for name in "ab":
            (temporary / name).write_text("new")
    os._exit(0)


def test_every_moment_of_a_replaced_folder_leaves_one_whole_folder_or_none(
    forks: ProcessPoolExecutor, tmp_path: Path
) -> None:
    target, expected = tmp_path / "project/frames", ({"a": "old", "b": "old"}, {"a": "new", "b": "new"}, {})
    for fatal in range(1, 12):
        target.mkdir(parents=True, exist_ok=True)
        for name in "ab":
            (target / name).write_text("old")

        replace = functools.partial(replace_until, fatal, target, tmp_path / "moments")
        forks.submit(forked_commands.run, ["--version"], tmp_path, tmp_path / "scratch", replace).result()
        found = {path.name: path.read_text() for path in target.iterdir()} if target.exists() else {}
        assert found in expected


def test_code_that_ran_and_another_result_are_seen(tmp_path: Path) -> None:
    weights = next(target for target in TARGETS if target.file == "weights.pt")
    attack = Attack(tmp_path, tmp_path, {("weights.pt", "train"): (USUAL, {"models/checkpoint.pt": b"right"})})
    checkpoint = Project(tmp_path / "project").checkpoint
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"right")
    hostile, end = Mutant("some", b""), End(0, "", "", 1, 500)
    assert attack._verdict(weights, hostile, end, "train") == ACCEPTED
    checkpoint.write_bytes(b"other")
    assert attack._verdict(weights, hostile, end, "train") == "another result without a line"
    attack.marker.touch()
    assert attack._verdict(weights, hostile, End(1, "", LINE, 1, 500), "train") == "ran code"


def test_a_section_that_holds_another_value_than_the_file_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    path.write_text(text, encoding="utf-8")
    assert hostile_yaml.judge(path) == ACCEPTED
    path.write_text(text.replace("  epochs: 20", "  epochs: '20'"), encoding="utf-8")
    assert hostile_yaml.judge(path) == REFUSED
    assert hostile_yaml.difference_of({"epochs": "20"}, {"epochs": 20}, "train") == "train.epochs: '20' became 20"
    assert hostile_yaml.difference_of([1, True], (1.0, 1.0), "a") == "a.1: True became 1.0"
    assert hostile_yaml.difference_of({"a": [1, 2]}, {"a": (1.0, 2)}, "") == ""


def test_a_cell_that_a_spreadsheet_runs_is_seen(tmp_path: Path) -> None:
    write_csv(tmp_path / "table.csv", [["path"], ["=1+1"], ["-1.5"], ["+a"]])
    assert fault_of_tables(Project(tmp_path)) == ""
    (tmp_path / "table.csv").write_text("path\n=1+1\n")
    assert fault_of_tables(Project(tmp_path)) == "table.csv: the cell '=1+1'"


def test_the_generators_give_the_same_again_and_every_kind() -> None:
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    assert [mutant(number, text).content for number in range(20)] == [mutant(n, text).content for n in range(20)]
    assert mutant(0, text, seed=1) != mutant(0, text, seed=2)
    names = [hostile_name(number) for number in range(44)]
    assert names == [hostile_name(number) for number in range(44)]
    assert len({name.kind for name in names}) == 11
    assert not any(b"/" in name.content or b"\0" in name.content for name in names)
