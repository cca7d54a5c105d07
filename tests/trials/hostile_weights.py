"""Trial of damaged and hostile checkpoints, heads of folds, weights and states of a run.

python -m tests.trials.hostile_weights FOLDER [COUNT]    prints what did harm, and a table

Every file of `tests/support/hostile_weights.py` takes the place of a sound one in a small project, and a command that
reads it runs in a forked child. It may be refused in one line that names it. It may be accepted if the command then
writes what it writes from the sound file. Other weights that are sound in themselves are accepted too, if `pipe bundle`
then refuses to pack them, since the report of training names other ones; for `model.weights` the report of training
names the file. Whatever else happens is a fault, a file that the pickle's code made above all.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.base.project import Project
from tests.house.rooms import STAGE_NAMES as STAGES
from tests.support.hostile_weights import TORCH as KINDS
from tests.support.hostile_weights import Mutant, mutant
from tests.support.media import write_photo, write_raw
from tests.support.small_project import set_params
from tests.trials import forked_commands
from tests.trials.forked_commands import ACCEPTED, PATIENCE_SECONDS, REFUSED, End, Usual, standing_clock
from tests.trials.killed_stages import contents
from tests.trials.small_chain import make_project, outputs

ADDRESS_SPACE_BYTES = 24 * 2**30
WEIGHTS = ("weights.pt", "weights.safetensors")


@dataclass(frozen=True)
class Target:
    """A file, and the commands that read it."""

    name: str
    file: str  # relative to the project
    commands: tuple[str, ...]


TARGETS = (
    Target("checkpoint", "models/checkpoint.pt", ("evaluate", "export", "parity", "explain data/raw/brick/photo.jpg")),
    Target("heads of folds", "models/folds.pt", ("evaluate", "export", "parity")),
    Target("weights, .pt", "weights.pt", ("train",)),
    Target("weights, .safetensors", "weights.safetensors", ("train",)),
    Target("state of a run", ".cache/resume", ("train",)),
)


@dataclass
class Attack:
    """The sound project, and a folder for the copies that are attacked."""

    sound: Path
    runs: Path
    usual: dict[tuple[str, str], tuple[Usual, dict[str, bytes]]] = field(default_factory=dict)

    @property
    def marker(self) -> Path:
        """A file that code from a pickle would make."""
        return self.runs / "marker"

    def trial(self, target: Target, number: int, seed: int) -> tuple[Mutant, str, End]:
        """Put a mutant in the place of a sound file, and run a command.

        Returns:
            The mutant, the verdict and the end of the command.
        """
        command = target.commands[number // len(KINDS) % len(target.commands)]
        usual = self._undisturbed(target, command)
        project = self._copy(target)
        path = _file(project, target)
        sound, seal = path.read_bytes(), _seal if target.file.endswith("resume") else _as_it_is
        if target.file.endswith("resume"):
            sound = sound[:-32]
        hostile = mutant(number, sound, path.suffix, self.marker, seed)
        path.write_bytes(seal(hostile.content))
        end = self._run(command, project, usual)
        return hostile, self._verdict(target, hostile, end, command), end

    def _verdict(self, target: Target, hostile: Mutant, end: End, command: str) -> str:
        usual, expected = self.usual[target.file, command]
        is_state = target.file.endswith("resume")
        names = () if is_state else (Path(target.file).name,)
        fault = "ran code" if self.marker.exists() else forked_commands.fault_of(end, usual, names)
        if fault or end.code:
            return fault or REFUSED
        project = Project(self.runs / "project")
        if _written(project, command) == expected:
            return ACCEPTED
        if is_state or target.file in WEIGHTS or command.startswith("explain"):
            return "another result without a line" if hostile.says_so else ACCEPTED
        return "bundled another network" if self._run("bundle", project, usual).code == 0 else ACCEPTED

    def _undisturbed(self, target: Target, command: str) -> Usual:
        key = (target.file, command)
        if key not in self.usual:
            project = self._copy(target)
            end = self._run(command, project, Usual(600, 0))
            if end.code:
                raise SystemExit(f"{command}, undisturbed: {end.errors}")
            self.usual[key] = Usual(end.seconds, end.peak_mib), _written(project, command)
        return self.usual[key][0]

    def _copy(self, target: Target) -> Project:
        shutil.rmtree(self.runs, ignore_errors=True)
        project = Project(shutil.copytree(self.sound, self.runs / "project"))
        if target.file in WEIGHTS:
            set_params(project, model={"weights": target.file})
        if not target.file.endswith("resume"):
            shutil.rmtree(project.cache / "resume", ignore_errors=True)
        return project

    def _run(self, command: str, project: Project, usual: Usual) -> End:
        def before() -> None:
            standing_clock()
            forked_commands.limited_memory(ADDRESS_SPACE_BYTES)()

        patience = usual.seconds * 2 + PATIENCE_SECONDS
        return forked_commands.run(command.split(), project.root, self.runs, before, patience)


def _file(project: Project, target: Target) -> Path:
    path = project.root / target.file
    return next(iter(sorted(path.glob("*.pt")))) if path.is_dir() else path


def _as_it_is(content: bytes) -> bytes:
    return content


def _seal(content: bytes) -> bytes:
    return content + hashlib.sha256(content).digest()


def _written(project: Project, command: str) -> dict[str, bytes]:
    stage = command.split(maxsplit=1)[0]
    return contents(project.root, outputs(stage) if stage in STAGES else ["reports/explain"])


def make_attack(folder: Path) -> Attack:
    """Make the sound project: its chain has run, and a run of `train` with three epochs was stopped after one."""
    import torch
    from safetensors.torch import save_file

    project = make_project(folder / "sound", "small_cnn", 64)
    write_raw(project.raw, clips=3)
    for number, label in enumerate(("brick", "砾石")):
        write_photo(project.raw / label / "photo.jpg", number)
    for stage in STAGES:
        _run_sound(stage, project, folder)
    state = torch.load(project.checkpoint, weights_only=True)["state_dict"]
    body = {name.removeprefix("backbone."): value for name, value in state.items() if name.startswith("backbone.")}
    torch.save(body, project.root / "weights.pt")
    save_file({name: value.contiguous() for name, value in body.items()}, project.root / "weights.safetensors")
    _stop_training(project, folder)
    return Attack(folder / "sound", folder / "run")


def _run_sound(stage: str, project: Project, folder: Path) -> None:
    end = forked_commands.run([stage], project.root, folder / "making", standing_clock)
    if end.code:
        raise SystemExit(f"{stage} of a sound project: {end.errors}")


def _stop_training(project: Project, folder: Path) -> None:
    """Leave the state of a run that was killed before it removed it."""

    def before() -> None:
        from pipeline.train import stage

        standing_clock()
        stage.write_provenance = lambda *_: os.kill(os.getpid(), signal.SIGKILL)

    forked_commands.run(["train"], project.root, folder / "making", before)
    assert any((project.cache / "resume").glob("*.pt"))


def attacks(attack: Attack, count: int, seed: int) -> Iterator[tuple[Target, Mutant, str, End]]:
    """Try `count` mutants, of each target as many."""
    for number in range(count):
        target = TARGETS[number % len(TARGETS)]
        yield target, *attack.trial(target, number // len(TARGETS), seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, help="where the project lies; made where absent")
    parser.add_argument("count", type=int, nargs="?", default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lines", action="store_true", help="print the line of every refusal")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    if (folder / "sound").exists():
        parser.error(f"{folder / 'sound'} exists; name a new folder")
    forked_commands.warm_up()
    outcomes, by_kind = [], []
    for target, hostile, verdict, end in attacks(make_attack(folder), arguments.count, arguments.seed):
        outcomes.append((target.name, verdict))
        by_kind.append((hostile.kind, verdict))
        if verdict not in (REFUSED, ACCEPTED) or arguments.lines:
            said = end.lines[-1] if end.lines else end.errors[-400:]
            print(f"{len(outcomes) - 1} {target.name}: {hostile.kind}: {verdict}: {said}", flush=True)
    print(forked_commands.table("file", outcomes))
    print(forked_commands.table("kind", by_kind))
    raise SystemExit(any(verdict not in (REFUSED, ACCEPTED) for _, verdict in outcomes))


if __name__ == "__main__":
    main()
