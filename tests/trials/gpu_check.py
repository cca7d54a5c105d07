"""Checks the toolchain on a machine with an NVIDIA GPU, in 8 minutes at most: `scripts/gpu_check.sh OUT`.

Each part is a command of its own with its own time limit. A part that fails or takes too long is killed and noted, and
the next one starts. OUT/gpu_check.json and the table OUT/gpu_check.md are written anew after each part; OUT/<part>.out
and .err hold what it printed. This module needs nothing but Python; `--wheels` names a folder with what is missing.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

ROOT = Path(__file__).parents[2]
MOST_SECONDS = 480
WHEELS_SECONDS = 30
NOT_POSSIBLE = 77  # the exit code of a part that this machine cannot run; its last line says why
PASSED, FAILED, TOO_SLOW = "passed", "failed", "took too long"
LACKING, NO_TIME = "not possible here", "no time left"
_CUDA_TESTS = ("-m", "pytest", "-q", "-n4", "--dist=worksteal", "tests/integration/test_cuda.py")
_HEADING = "| part | outcome | seconds | limit | what it said |\n|---|---|---|---|---|"
_LONGEST_CELL = 200  # characters


@dataclass(frozen=True)
class Part:
    """One check: arguments of Python, which run in the repository's root."""

    name: str
    arguments: tuple[str, ...]
    limit_seconds: float
    must_say: str = ""  # a regular expression; a part whose output lacks it has failed, as where all tests are skipped
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """How a part ended."""

    part: str
    outcome: str
    seconds: float
    limit_seconds: float
    said: str  # the last line, or the figures that are no lists of records
    figures: Any = None  # its standard output, where that is JSON

    @property
    def line(self) -> str:
        """The part's line of the table."""
        said = self.said.replace("|", "¦")[:_LONGEST_CELL]
        return f"| {self.part} | {self.outcome} | {self.seconds:.0f} | {self.limit_seconds:.0f} | {said} |"


def parts(out: Path) -> list[Part]:
    """All parts; together they may take 8 minutes.

    Args:
        out: the folder of the results, where parts put their projects too.
    """
    ours = ("-m", "tests.trials.gpu_parts")
    on_cpu = {"CUDA_VISIBLE_DEVICES": ""}
    return [
        Part("machine", (*ours, "machine"), 30),
        Part("views", (*ours, "views"), 15),
        Part("cuda tests", (*_CUDA_TESTS, "-k", "not half_precision"), 65, r"\d+ passed"),
        Part("training in bf16 and fp16", (*_CUDA_TESTS, "-k", "half_precision"), 55, r"\d+ passed"),
        Part("chain", (*ours, "chain", str(out / "chain")), 105),
        Part("tensorrt", (*ours, "tensorrt", str(out / "chain")), 20),
        Part("busy", (*ours, "busy", str(out / "busy")), 40),
        Part("train.py", ("benchmarks/train.py", "--quick", "--json"), 40),
        Part("train.py on the CPU", ("benchmarks/train.py", "--quick", "--json"), 50, environment=on_cpu),
        Part("infer.py", ("benchmarks/infer.py", "--quick", "--json"), 30),
    ]


def main(arguments: Sequence[str] | None = None, parts_of: Callable[[Path], list[Part]] = parts) -> int:
    """Run the parts, print a line for each, and return 1 if one has failed."""
    parser = argparse.ArgumentParser(prog="scripts/gpu_check.sh", description="Check the toolchain on a GPU.")
    parser.add_argument("out", type=Path, metavar="OUT", help="the folder of the results")
    parser.add_argument("--wheels", type=Path, metavar="FOLDER", help="wheels of packages that may be missing here")
    parser.add_argument("--only", action="append", metavar="PART", help="run this part; may be given several times")
    parser.add_argument("--dry-run", action="store_true", help="print the commands and their limits, and run none")
    options = parser.parse_args(arguments)
    out = options.out.resolve()
    chosen = parts_of(out)
    if unknown := sorted(set(options.only or ()) - {part.name for part in chosen}):
        parser.error(f"--only: found {', '.join(unknown)}; expected one of {', '.join(part.name for part in chosen)}")
    if options.wheels and not options.wheels.is_dir():
        parser.error(f"--wheels: found no folder {options.wheels}; expected one with .whl files")
    chosen = [part for part in chosen if not options.only or part.name in options.only]
    if options.wheels and (needed := missing_packages(options.wheels)):
        install = ("-m", "tests.trials.gpu_packages", str(out / "venv"), str(options.wheels.resolve()), *needed)
        chosen.insert(0, Part("wheels", install, WHEELS_SECONDS))
    if options.dry_run:
        for part in chosen:
            print(f"{part.limit_seconds:4.0f} s  {part.name}: python {' '.join(part.arguments)}")
        return 0
    return _run(chosen, out)


def _run(chosen: Sequence[Part], out: Path) -> int:
    out.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(out / "venv", ignore_errors=True)  # of an earlier run; the part `wheels` makes it
    started, outcomes = time.monotonic(), list[Outcome]()
    print(_HEADING, flush=True)
    for outcome in run_parts(chosen, out, MOST_SECONDS):
        print(outcome.line, flush=True)
        outcomes.append(outcome)
        write_results(outcomes, time.monotonic() - started, out)
    return int(any(outcome.outcome not in (PASSED, LACKING) for outcome in outcomes))


def run_parts(chosen: Sequence[Part], out: Path, most_seconds: float) -> Iterator[Outcome]:
    """Run parts one after the other, whatever becomes of each.

    Args:
        chosen: the parts.
        out: the folder for what they print.
        most_seconds: for all together; the last ones have what the others left.
    """
    end = time.monotonic() + most_seconds
    for part in chosen:
        left = end - time.monotonic()
        if left <= 0:
            yield Outcome(part.name, NO_TIME, 0.0, part.limit_seconds, "")
        else:
            yield run_part(part, out, min(left, part.limit_seconds))


def run_part(part: Part, out: Path, limit_seconds: float) -> Outcome:
    """Run a part; after its time, kill it and everything that it has started.

    Args:
        part: the part.
        out: the folder for what it prints.
        limit_seconds: its own, or what is left.
    """
    stem = part.name.replace(" ", "_")
    output, errors = out / f"{stem}.out", out / f"{stem}.err"
    python = out / "venv" / "bin" / "python"
    command = [str(python) if python.exists() else sys.executable, *part.arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **part.environment}
    started = time.monotonic()
    with output.open("w") as stdout, errors.open("w") as stderr:
        code = _exit_code(command, environment, (stdout, stderr), limit_seconds)
    seconds = time.monotonic() - started
    text = output.read_text(encoding="utf-8", errors="replace")
    figures = _json(text)
    said = _summary(figures) if isinstance(figures, dict) else _last_line(text)
    if code not in (0, NOT_POSSIBLE) and not figures:
        said = _last_line(errors.read_text(encoding="utf-8", errors="replace")) or said
    return Outcome(part.name, _outcome(code, part, text), seconds, limit_seconds, said, figures)


def _exit_code(
    command: Sequence[str], environment: Mapping[str, str], streams: tuple[TextIO, TextIO], limit_seconds: float
) -> int | None:
    """Return the exit code of a command, or None if it took too long."""
    child = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=streams[0], stderr=streams[1],
        start_new_session=True,
    )  # fmt: skip
    try:
        return child.wait(limit_seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        _kill_group(child.pid)
        child.wait()


def _kill_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:  # it has ended, and left nothing behind
        return


def _outcome(code: int | None, part: Part, text: str) -> str:
    if code is None:
        return TOO_SLOW
    if code == NOT_POSSIBLE:
        return LACKING
    return PASSED if code == 0 and re.search(part.must_say, text) else FAILED


def write_results(outcomes: Sequence[Outcome], seconds: float, out: Path) -> None:
    """Write the JSON and the table.

    Args:
        outcomes: of the parts that are done.
        seconds: since the first part began.
        out: the folder.
    """
    result = {"seconds": round(seconds, 1), "parts": [asdict(outcome) for outcome in outcomes]}
    (out / "gpu_check.json").write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    table = [_HEADING, *(outcome.line for outcome in outcomes), "", f"All parts: {seconds:.0f} s."]
    (out / "gpu_check.md").write_text("\n".join(table) + "\n", encoding="utf-8")


def missing_packages(wheels: Path) -> list[str]:
    """Return name==version of the packages in a folder of wheels that this Python lacks, whatever its versions are."""
    found = {path.name.split("-")[0]: path.name.split("-")[1] for path in sorted(wheels.glob("*.whl"))}
    return [f"{name}=={version}" for name, version in found.items() if not _is_installed(name)]


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.version(name.replace("_", "-"))
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _summary(figures: Mapping[str, Any]) -> str:
    """The figures at the top that fit into a cell: numbers, texts, and lists of texts."""
    lists = {name: ", ".join(value) for name, value in figures.items() if _is_list_of_texts(value)}
    plain = {name: value for name, value in figures.items() if isinstance(value, (str, int, float)) or name in lists}
    return "; ".join(f"{name} {lists.get(name, value)}" for name, value in plain.items())


def _is_list_of_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


if __name__ == "__main__":
    sys.exit(main())
