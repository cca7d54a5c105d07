"""Trial of damaged and hostile texts in place of `params.yaml`.

python -m tests.trials.hostile_yaml FOLDER [TEXTS] [COMMANDS]    prints what did harm, and a table

Every text of `tests/support/hostile_yaml.py` is read, section by section, in a forked child. It may be refused in one
line that names the file. It may be accepted if every section then holds the very values of the file: no truth taken
for a number, no text for a number, no key left out. Some of the texts are also put into a small project, and the stage
whose section has changed is run as a person runs it. A stage that takes longer than 10 seconds is stopped by Ctrl-C,
and has to end then.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.base.errors import ParamsError
from pipeline.base.project import Project
from pipeline.base.section import load_yaml, read_section
from pipeline.params import Params
from tests.house.rooms import STAGE_NAMES as STAGES
from tests.support.hostile_yaml import Mutant, mutant
from tests.support.media import write_raw
from tests.trials import forked_commands
from tests.trials.forked_commands import ACCEPTED, PATIENCE_SECONDS, REFUSED, Usual
from tests.trials.killed_stages import INTERRUPTED
from tests.trials.small_chain import ROOT, make_project

MOST_LINE = 4000  # letters; more is no line for a person


def judge(path: Path) -> str:
    """Read every section of a params file; return the verdict."""
    accepted = []
    for name, field in Params.model_fields.items():
        section: Any = field.annotation
        try:
            values = read_section(path, name, section)
        except ParamsError as error:
            if fault := _fault_of_line(str(error), path):
                return fault
        except RecursionError:
            return "exit code 70: RecursionError"
        except Exception as error:  # noqa: BLE001  # any other exception would have been an internal error
            return f"exit code 70: {type(error).__name__}: {error}"
        else:
            accepted.append((name, values.model_dump()))
    if not accepted:
        return REFUSED
    stated = load_yaml(path)
    for name, read in accepted:
        if difference := difference_of(stated[name], read, name):
            return f"another value without a line: {difference}"
    return ACCEPTED if len(accepted) == len(Params.model_fields) else REFUSED


def difference_of(stated: Any, read: Any, key: str) -> str:
    """Say where a section holds another value, or one of another type, than the file; empty where it does not.

    Args:
        stated: the value in the file.
        read: the value in the section.
        key: its dotted name.
    """
    if isinstance(read, dict) and isinstance(stated, dict):
        if set(read) != set(stated):
            return f"{key}: {sorted(map(str, set(read) ^ set(stated)))}"
        parts: Iterator[str] = (difference_of(stated[name], read[name], f"{key}.{name}") for name in read)
        return next(filter(None, parts), "")
    if isinstance(read, (list, tuple)) and isinstance(stated, list) and len(read) == len(stated):
        pairs = enumerate(zip(stated, read, strict=True))
        return next(filter(None, (difference_of(*pair, f"{key}.{number}") for number, pair in pairs)), "")
    are_numbers = {type(stated), type(read)} <= {int, float}
    return (
        "" if (are_numbers or type(stated) is type(read)) and stated == read else f"{key}: {stated!r} became {read!r}"
    )


def _fault_of_line(line: str, path: Path) -> str:
    if path.name not in line:
        return f"a line without the file's name: {line[:300]}"
    return f"a line of {len(line)} letters" if len(line) > MOST_LINE else ""


def read_all(numbers: range, seed: int, folder: Path) -> Iterator[tuple[Mutant, str]]:
    """Let forked children read texts, and yield each with its verdict; a child that ends early is a verdict too."""
    sound, path = (ROOT / "params.yaml").read_text(encoding="utf-8"), folder / "params.yaml"
    waiting = list(numbers)
    while waiting:
        log = folder / "verdicts"
        log.write_bytes(b"")

        def serve(waiting: list[int] = waiting, log: Path = log) -> None:
            forked_commands.limited_memory(8 * 2**30)()
            with log.open("a", encoding="utf-8") as file:
                for number in waiting:
                    path.write_bytes(mutant(number, sound, seed).content)
                    signal.alarm(int(PATIENCE_SECONDS))
                    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                        verdict = judge(path)
                    signal.alarm(0)
                    file.write(json.dumps(verdict) + "\n")
                    file.flush()
            raise SystemExit(0)

        end = forked_commands.run(["--version"], folder, folder / "scratch", serve)
        verdicts = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
        if len(verdicts) < len(waiting):
            verdicts.append("hang" if end.code == -signal.SIGALRM else f"ended with {end.code}: {end.errors[-300:]}")
        for number, verdict in zip(waiting, verdicts, strict=False):
            yield mutant(number, sound, seed), verdict
        waiting = waiting[len(verdicts) :]


def run_some(numbers: range, seed: int, folder: Path) -> Iterator[tuple[Mutant, str]]:
    """Run the stage whose section a text has changed, and yield each text with its verdict."""
    sound = Project(folder / "sound")
    text = sound.params_yaml.read_text(encoding="utf-8")
    usual: dict[str, Usual] = {}
    for number in numbers:
        changed = mutant(number, text, seed)
        stage = {"model": "train", "image": "train", "parity": "export"}.get(changed.section, changed.section)
        stage = stage if stage in STAGES else STAGES[number % 3]
        if stage not in usual:
            end = _run(stage, sound.params_yaml.read_bytes(), folder, Usual(60, 0))
            usual[stage] = Usual(end.seconds, end.peak_mib)
        end = _run(stage, changed.content, folder, usual[stage])
        if end.code == INTERRUPTED:
            yield changed, ACCEPTED
            continue
        fault = forked_commands.fault_of(end, usual[stage], ())
        verdict = fault or (REFUSED if end.code else ACCEPTED)
        yield changed, f"{verdict}: {stage}: {end.lines[-1:] or end.errors[-300:]}" if fault else verdict


def _run(stage: str, params: bytes, folder: Path, usual: Usual) -> forked_commands.End:
    run = folder / "run"
    shutil.rmtree(run, ignore_errors=True)
    project = Project(shutil.copytree(folder / "sound", run / "project"))
    project.params_yaml.write_bytes(params)
    limit = forked_commands.limited_memory(24 * 2**30)
    forked = forked_commands.start([stage], project.root, run, limit)
    deadline = time.monotonic() + usual.seconds + PATIENCE_SECONDS
    while not forked.has_ended() and time.monotonic() < deadline:
        time.sleep(0.01)
    if not forked.has_ended():
        forked.send(signal.SIGINT, everybody=True)
    return forked.wait(usual.seconds + 3 * PATIENCE_SECONDS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, help="where the project lies; made where absent")
    parser.add_argument("texts", type=int, nargs="?", default=1000)
    parser.add_argument("commands", type=int, nargs="?", default=40)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    if (folder / "sound").exists():
        parser.error(f"{folder / 'sound'} exists; name a new folder")
    forked_commands.warm_up()
    project = make_project(folder / "sound", "small_cnn", 64)
    write_raw(project.raw, clips=3)
    for stage in STAGES[:6]:
        end = forked_commands.run([stage], project.root, folder / "making")
        if end.code:
            raise SystemExit(f"{stage} of a sound project: {end.errors}")
    outcomes = []
    for kind, pairs in (
        ("read", read_all(range(arguments.texts), arguments.seed, folder)),
        ("run", run_some(range(arguments.commands), arguments.seed + 1, folder)),
    ):
        for changed, verdict in pairs:
            outcomes.append((f"{kind}: {changed.kind}", verdict))
            if verdict not in (REFUSED, ACCEPTED):
                print(f"{len(outcomes) - 1} {kind}: {changed.kind} {changed.section}: {verdict}", flush=True)
    print(forked_commands.table("text", outcomes))
    sys.exit(any(verdict not in (REFUSED, ACCEPTED) for _, verdict in outcomes))


if __name__ == "__main__":
    main()
