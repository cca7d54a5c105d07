"""Stops every stage at seeded moments by SIGKILL, SIGTERM and Ctrl-C, and compares what a second run leaves.

python -m tests.trials.killed_stages FOLDER [RUNS]    prints a JSON object per run, and a table

The chain runs twice, with other params the second time. Each run gives a stage the inputs of the first chain and the
outputs of the second one, and stops it: at one of the moments at which it writes, renames or removes a file, or at any
time. A run is bad if an output is then neither the old one nor the new one nor absent, if `pipe bundle` packs parts
that do not belong together, if a process goes on, or if the same command does not succeed afterwards with the bytes of
an undisturbed run, and leaves what an undisturbed run leaves: no lock, no temporary file.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.base.project import Project
from tests.house.rooms import STAGE_NAMES as STAGES
from tests.support.media import write_raw
from tests.support.small_project import set_params
from tests.trials import forked_commands
from tests.trials.forked_commands import standing_clock
from tests.trials.small_chain import files_below, make_project, outputs

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
INTERRUPTED = 130
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_EVENTS = {
    "os.rename": 2,
    "os.remove": 1,
    "os.mkdir": 1,
    "os.rmdir": 1,
    "os.link": 2,
    "os.symlink": 2,
    "os.truncate": 1,
}
OTHER_PARAMS: dict[str, dict[str, object]] = {
    "extract": {"frames_per_second": 3.0},
    "augment": {"copies": [{"name": "mirror_left_right"}]},
    "split": {"seed": 1, "keep": False},
    "train": {"seed": 1},
    "evaluate": {"montage_frames": 4},
    "export": {"golden_tolerance": 0.002},
    "parity": {"golden_frames": 4},
}


class Moments:
    """Counts the moments at which a process changes files of a project, and sends itself a signal at one of them."""

    def __init__(self, folders: Sequence[Path], fatal: int, signal_number: int, log: Path) -> None:
        self._starts = tuple(f"{folder}/" for folder in folders)
        self._fatal, self._signal, self._log = fatal, signal_number, log
        self._count, self._owner = 0, os.getpid()

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """See one event of Python's own audit."""
        if os.getpid() != self._owner:  # of a child of this process
            return
        if event == "open":
            changes = isinstance(arguments[2], int) and arguments[2] & _WRITES
            paths = arguments[:1] if changes else ()
        else:
            paths = arguments[: _EVENTS.get(event, 0)]
        if any(self._is_inside(path) for path in paths):
            self._count += 1
            if self._count == self._fatal:
                os.kill(self._owner, self._signal)
            elif not self._fatal:
                self._log.write_text(str(self._count), encoding="ascii")

    def _is_inside(self, path: object) -> bool:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return False
        whole = os.path.abspath(os.fsdecode(path))  # noqa: PTH100  # no object for each of a thousand events
        return whole.startswith(self._starts)


@dataclass(frozen=True)
class Undisturbed:
    """What a stage does and leaves where nobody stops it."""

    n_moments: int
    seconds: float
    outputs: dict[str, bytes]
    files: list[str]


@dataclass
class Killer:
    """The two chains, and a folder for the runs."""

    new: Path
    old: Path
    runs: Path
    known: dict[str, Undisturbed] = field(default_factory=dict)

    def project(self, stage: str) -> Path:
        """A copy of the first chain whose stage has yet to run."""
        root = self.runs / "project"
        shutil.rmtree(self.runs, ignore_errors=True)
        shutil.copytree(self.new, root)
        if stage in ("extract", "augment", "split", "train"):  # else nothing is computed
            for cached in (path for path in (root / ".cache").iterdir() if path.is_dir()):
                shutil.rmtree(cached)
        for name in outputs(stage):
            _copy(self.old / name, root / name)
        return root

    def run(self, stage: str, before: Callable[[], None] = standing_clock) -> forked_commands.End:
        return forked_commands.run([stage], self.runs / "project", self.runs, before)

    def undisturbed(self, stage: str) -> Undisturbed:
        """Run the stage once, and count its moments."""
        if stage not in self.known:
            root = self.project(stage)
            end = self.run(stage, self._watched(0, 0))
            if end.code:
                raise SystemExit(f"{stage}, undisturbed: {end.errors}")
            log = self.runs / "moments"
            n_moments = int(log.read_text(encoding="ascii"))
            log.unlink()
            self.known[stage] = Undisturbed(n_moments, end.seconds, contents(root, outputs(stage)), self._files())
        return self.known[stage]

    def trial(self, stage: str, signal_number: signal.Signals, moment: float, *, by_moment: bool) -> dict[str, Any]:
        """Stop a stage at a share of its moments or of its time, and run it again."""
        usual = self.undisturbed(stage)
        root = self.project(stage)
        fatal = 1 + int(moment * usual.n_moments) if by_moment else -1
        forked = forked_commands.start([stage], root, self.runs, self._watched(fatal, signal_number))
        if not by_moment:
            time.sleep(moment * usual.seconds)
            forked.send(signal_number, everybody=signal_number == signal.SIGINT)
        end = forked.wait(usual.seconds + forked_commands.PATIENCE_SECONDS)
        result: dict[str, Any] = {"stage": stage, "signal": signal_number.name}
        result |= {"at_change": fatal} if by_moment else {"at_share_of_time": round(moment, 3)}
        result["stopped"] = end.code in (-signal_number, INTERRUPTED)
        result["bad"] = (
            fault_of_end(end.code, signal_number)
            or _fault_of_children(forked)
            or self._fault_of_outputs(stage)
            or self._fault_of_bundle(stage)
            or self._fault_of_rerun(stage)
        )
        return result

    def _watched(self, fatal: int, signal_number: int) -> Callable[[], None]:
        def watch() -> None:
            standing_clock()
            folders = (self.runs / "project", self.runs / "tmp")
            sys.addaudithook(Moments(folders, fatal, signal_number, self.runs / "moments"))

        return watch

    def _files(self) -> list[str]:
        """All files and folders of the project and of the folder of temporaries, but for names that have the time."""
        tops = (self.runs / "project", self.runs / "tmp")
        return sorted(
            path.relative_to(self.runs).as_posix()
            for top in tops
            for path in top.rglob("*")
            if "tensorboard/" not in path.as_posix()
        )

    def _fault_of_outputs(self, stage: str) -> str:
        root, new = self.runs / "project", self.known[stage].outputs
        for name in outputs(stage):
            if name == "reports/split.json" and not (root / "data/split.csv").exists():
                continue  # `split` writes its receipt first, so that a person sees why a split was refused
            is_there = contents(root, [name])
            whole = {path: digest for path, digest in new.items() if path == name or path.startswith(f"{name}/")}
            if is_there and is_there not in (whole, contents(self.old, [name])):
                return f"{name} is neither the old one nor the new one"
        return ""

    def _fault_of_bundle(self, stage: str) -> str:
        """Later stages have run on the new outputs: a bundle of the old ones, or of a mixture, must be refused."""
        if stage == "bundle" or contents(self.runs / "project", outputs(stage)) == self.known[stage].outputs:
            return ""
        return "" if self.run("bundle").code in (1, 3) else "bundled what does not belong together"

    def _fault_of_rerun(self, stage: str) -> str:
        end, usual = self.run(stage), self.known[stage]
        if end.code:
            return f"the next run ended with {end.code}: {end.errors[-300:]}"
        changed = contents(self.runs / "project", outputs(stage)).items() ^ usual.outputs.items()
        if changed:
            return f"other bytes: {', '.join(sorted({name for name, _ in changed}))}"
        litter = set(self._files()) - set(usual.files)
        return f"left behind: {', '.join(sorted(litter))}" if litter else ""


def fault_of_end(code: int, signal_number: int) -> str:
    """Say what is wrong with how a stage ended that was sent a signal; empty where nothing is.

    Args:
        code: its exit code; below 0 a signal.
        signal_number: what it was sent; it may have ended before.
    """
    if code == -signal.SIGALRM:
        return "hang"
    if code == INTERRUPTED and signal_number == signal.SIGINT:
        return ""
    return "" if code in (0, -signal_number) else f"exit code {code}"


def contents(root: Path, names: Sequence[str]) -> dict[str, bytes]:
    """The bytes of a stage's files, without the minutes that training took: a run that goes on counts them anew."""
    paths = {path.relative_to(root).as_posix(): path for path in files_below(root, names)}
    return {
        name: _without_minutes(path.read_bytes()) if name.startswith("reports/train/") else path.read_bytes()
        for name, path in paths.items()
        if path.name not in ("minutes.tsv", "caching_minutes.tsv")
    }


def _without_minutes(text: bytes) -> bytes:
    timed = (b'minutes"', b'"digest"', b"minutes.tsv", b'"reports/train/metrics.json"')
    return b"".join(line for line in text.splitlines(keepends=True) if not any(word in line for word in timed))


def _fault_of_children(forked: forked_commands.Forked) -> str:
    deadline = time.monotonic() + forked_commands.PATIENCE_SECONDS
    while running := forked.left_running():
        if time.monotonic() > deadline:
            for process_id in running:
                os.kill(process_id, signal.SIGKILL)
            return f"{len(running)} processes went on"
        time.sleep(0.01)
    return ""


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.rmtree(target)
        shutil.copytree(source, target)
    else:
        shutil.copy(source, target)


def make_killer(folder: Path) -> Killer:
    """Run the chain with both params."""
    for name in ("new", "old"):
        project = make_project(folder / name, "small_cnn", 64)
        write_raw(project.raw, clips=3)
        if name == "old":
            set_params(project, **OTHER_PARAMS)
        _run_chain(project, folder / "making")
    return Killer(folder / "new", folder / "old", folder / "run")


def _run_chain(project: Project, scratch: Path) -> None:
    for stage in STAGES:
        end = forked_commands.run([stage], project.root, scratch, standing_clock)
        if end.code:
            raise SystemExit(f"{stage} of an undisturbed project: {end.errors}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, help="where the chains run; made where absent")
    parser.add_argument("runs", type=int, nargs="?", default=54, help="default: 54, six of each stage")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    if (folder / "new").exists():
        parser.error(f"{folder / 'new'} exists; name a new folder")
    forked_commands.warm_up()
    killer, chance = make_killer(folder), random.Random(arguments.seed)
    results = []
    for number in range(arguments.runs):
        stage, turn = STAGES[number % len(STAGES)], number // len(STAGES)
        result = killer.trial(stage, SIGNALS[turn % 3], chance.random(), by_moment=turn // 3 % 2 == 0)
        results.append(result)
        print(json.dumps(result), flush=True)
    print(table(results))
    raise SystemExit(any(result["bad"] for result in results))


def table(results: Sequence[dict[str, Any]]) -> str:
    """The runs of each stage, in Markdown: how many there were, were stopped before their end, and have a fault."""
    lines = ["| stage | runs | stopped before their end | bad |", "|---|---|---|---|"]
    for name in (*STAGES, "all"):
        runs = [result for result in results if name in (result["stage"], "all")]
        n_stopped, n_bad = (sum(bool(result[key]) for result in runs) for key in ("stopped", "bad"))
        lines.append(f"| {name} | {len(runs)} | {n_stopped} | {n_bad} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
