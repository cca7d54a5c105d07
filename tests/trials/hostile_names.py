"""Trial of hostile names of classes and files.

python -m tests.trials.hostile_names FOLDER [NAMES] [CHAINS]    prints what did harm, and a table

Each name is given to a class, and to a photo; `pipe extract`, `pipe predict` and the device's `classify` are run in
forked children. They may refuse it in one line, or take it. What is taken must stand in the manifest as it is, no cell
of a table may begin like a formula, and no command may print a control character, a mark that turns the direction of
writing, or a second line. Then whole chains run over some of the names together, and the device answers with the very
names from the bundle.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.base import manifest
from pipeline.base.project import Project
from runtime.archive import unpack
from tests.house.rooms import STAGE_NAMES as STAGES
from tests.support.hostile_names import Name, hostile_name
from tests.support.media import write_photo
from tests.support.small_project import set_params
from tests.trials import forked_commands
from tests.trials.forked_commands import ACCEPTED, PATIENCE_SECONDS, REFUSED, End, Usual
from tests.trials.small_chain import make_project

SUFFIX = b".jpg"
USUAL = Usual(5.0, 700.0)
FORMULA_STARTS = "=+-@\t\r"


def trial(name: Name, role: str, folder: Path) -> str:
    """Give a name to a class or a photo, and run the commands that meet it; return the verdict."""
    project = _project(folder)
    label, stem = (name.content, b"photo") if role == "class" else (b"flake", name.content)
    photo = _draw(project, label, stem, 1)
    if photo is None:
        return REFUSED  # by the file system
    _draw(project, b"powder", b"photo", 9)
    for arguments in (["predict", os.fsdecode(photo)], ["runtime", "classify", os.fsdecode(photo)]):
        if fault := forked_commands.fault_of(_run(arguments, project, folder), USUAL, ()):
            return f"{fault} ({arguments[0]})"
    end = _run(["extract"], project, folder)
    if fault := forked_commands.fault_of(end, USUAL, ()):
        return f"{fault} (extract)"
    if end.code:
        return REFUSED
    return fault_of_tables(project) or _fault_of_rows(project, role, name.content)


def _fault_of_rows(project: Project, role: str, content: bytes) -> str:
    rows = manifest.read(project.frames_csv)
    stated = {row.label for row in rows} if role == "class" else {Path(row.source).stem for row in rows}
    expected = os.fsdecode(content) if role == "class" else Path(os.fsdecode(content + SUFFIX)).stem
    report = json.loads(project.extract_json.read_text(encoding="utf-8"))
    if expected in stated:
        return ACCEPTED
    is_left_out = expected.startswith(".") or str(report.get("ignored", "")) != "[]"  # hidden files are no recordings
    return ACCEPTED if is_left_out else f"another name without a line: {sorted(stated)}"


def fault_of_tables(project: Project) -> str:
    """Say which table of a project has a cell that a spreadsheet runs; empty where none has."""
    for path in sorted(project.root.rglob("*.csv")):
        text = path.read_text(encoding="utf-8")
        for cells in csv.reader(io.StringIO(text, newline=""), strict=True):
            for cell in cells:
                if cell[:1] in FORMULA_STARTS and cell and not _is_number(cell):
                    return f"{path.name}: the cell {cell[:40]!a}"
    return ""


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def chain(names: Sequence[Name], folder: Path) -> str:
    """Run the whole chain over classes of some names, each with photos of these names; return the verdict."""
    project = _project(folder)
    set_params(project, split={"photo_groups": "each"})
    labels = [os.fsdecode(name.content) for name in names]
    for number, name in enumerate(names):
        for position, other in enumerate([*names, *names[:2]]):
            _draw(project, name.content, other.content[:200] + str(position).encode(), 8 * number + position)
    commands = [[stage] for stage in STAGES] + [["dataset"], ["predict", "data/raw"], ["explain", "data/raw"]]
    for arguments in commands:
        end = _run(arguments, project, folder, 60)
        if arguments == ["parity"] and end.code == 3:
            return REFUSED  # a network of one second; its gate is not what is tried here
        fault = forked_commands.fault_of(end, Usual(60, 1500), ())
        if fault or (end.code and arguments[0] in STAGES):
            return f"{fault or 'refused'} ({arguments[0]}): {end.lines[-1:]}"
    unpack(project.bundle_zip, folder / "unpacked")
    photo = next(path for path in sorted(project.raw.rglob("*")) if path.is_file())
    end = _run(["runtime", "classify", "--json", "--bundle", str(folder / "unpacked"), str(photo)], project, folder)
    known = set(json.loads((folder / "unpacked" / "contract.json").read_text(encoding="utf-8"))["classes"])
    if end.code or known != set(labels):
        return f"the device answers with other names: {end.errors[-200:]}"
    return fault_of_tables(project) or ACCEPTED


def _project(folder: Path) -> Project:
    for name in ("project", "unpacked"):
        shutil.rmtree(folder / name, ignore_errors=True)
    return Project(shutil.copytree(folder / "sound", folder / "project"))


def _draw(project: Project, label: bytes, stem: bytes, number: int) -> bytes | None:
    """Draw a photo under a name; None where the file system takes no such name."""
    drawn = write_photo(project.root / "drawn.jpg", number, (64 + number, 48))
    target = os.path.join(os.fsencode(project.raw), label, stem + SUFFIX)  # noqa: PTH118  # bytes that are no text
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)  # noqa: PTH103, PTH120
        os.replace(os.fsencode(drawn), target)  # noqa: PTH105
    except OSError:
        drawn.unlink()
        return None
    return target


def _run(arguments: Sequence[str], project: Project, folder: Path, seconds: float = 5) -> End:
    return forked_commands.run(arguments, project.root, folder / "scratch", most_seconds=seconds + PATIENCE_SECONDS)


def names_of_classes(numbers: range, seed: int, folder: Path) -> Iterator[tuple[Name, str, str]]:
    """Try names as classes and as photos; yield each with its role and verdict."""
    for number in numbers:
        name, role = hostile_name(number // 2, seed), ("class", "photo")[number % 2]
        yield name, role, trial(name, role, folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, help="where the projects lie; made where absent")
    parser.add_argument("names", type=int, nargs="?", default=220)
    parser.add_argument("chains", type=int, nargs="?", default=5)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    if (folder / "sound").exists():
        parser.error(f"{folder / 'sound'} exists; name a new folder")
    forked_commands.warm_up()
    make_project(folder / "sound", "small_cnn", 64)
    outcomes, taken = [], list[Name]()
    for name, role, verdict in names_of_classes(range(arguments.names), arguments.seed, folder):
        outcomes.append((name.kind, verdict))
        if verdict == ACCEPTED and role == "class" and not name.content.startswith(b"."):
            taken.append(name)
        if verdict not in (REFUSED, ACCEPTED):
            print(f"{len(outcomes) - 1} {role} {name.content!r}: {verdict}", flush=True)
    for number in range(arguments.chains):
        names = taken[number :: arguments.chains][:6]
        verdict = chain(names, folder)
        outcomes.append(("whole chains of six", verdict))
        if verdict not in (REFUSED, ACCEPTED):
            print(f"chain {number} {[name.content for name in names]}: {verdict}", flush=True)
    print(forked_commands.table("name", outcomes))
    sys.exit(any(verdict not in (REFUSED, ACCEPTED) for _, verdict in outcomes))


if __name__ == "__main__":
    main()
