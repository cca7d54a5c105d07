"""Trial of damaged and hostile bundles: a device refuses each one, or answers as from the sound bundle.

python -m tests.trials.mutant_bundles [--count 5000] [--seed 0] [--only NUMBER]

Every mutant of `tests/support/mutants.py` is unpacked and selfchecked as on a device. Child processes do this, many
mutants each, so that a graph that crashes onnxruntime costs one child. A mutant may be refused in one line, or be
accepted and give the golden logits of the sound bundle. Every other outcome is a fault. So are a file outside the given
folder, output on standard error, a minute without an answer, and much more memory than the sound bundle needs.
Each mutant also lies beside the signature of the sound bundle, a foreigner's and the owner's. The verifier must accept
the signed bytes alone.
onnxruntime gives a listed graph whatever memory it asks for. There the child's own limit holds, and running into this
limit must be a refusal too.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.__main__ import main as on_device
from runtime.archive import unpack
from runtime.classifier import CONTRACT, Classifier
from runtime.contract import Contract
from runtime.errors import DeviceError
from runtime.golden import GOLDEN, Golden, read_pixels
from tests.support.command import ROOT
from tests.support.mutants import Files, kind_of, mutant
from tests.support.signed_bundle import SignedBundle

REFUSED, ACCEPTED, HARMLESS = "refused", "accepted", ("refused", "accepted")
WRONG_VERIFIER = "wrong verdict of the verifier"
PATIENCE_SECONDS, MEMORY_MIB, ADDRESS_SPACE_BYTES = 60, 300, 4 * 2**30
JUDGE = "tests.trials.mutant_bundles:judge"


@dataclass(frozen=True)
class Outcome:
    """The result of one mutant."""

    number: int
    kind: str
    verdict: str  # refused, accepted, or the fault
    remark: str  # the error's line, or a detail of the fault


@dataclass(frozen=True)
class Workplace:
    """The folder of a child. Everything that a relative name can reach is watched."""

    root: Path

    @property
    def inner(self) -> Path:
        return self.root / "a" / "b"  # deep, so that names that lead upwards still end inside the root

    @property
    def sound(self) -> Path:
        return self.root.parent / f"{self.root.name}.sound"

    def contents(self) -> dict[str, int]:
        return {
            str(path.relative_to(self.root)): 0 if path.is_dir() else path.lstat().st_mtime_ns
            for path in self.root.rglob("*")
        }


# The child's side


@dataclass(frozen=True)
class Sound:
    """The bundle that the mutants are made from, and its answers."""

    files: Files
    pictures_hwc: Sequence[NDArray[np.uint8]]
    logits: NDArray[np.float32]  # (pictures, classes)
    tolerance: float
    signed: SignedBundle

    @classmethod
    def of(cls, folder: Path) -> Sound:
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        samples = Golden.read(folder / GOLDEN).samples
        pictures = [read_pixels(folder / GOLDEN, sample) for sample in samples]
        classifier = Classifier.load(folder)
        logits = np.concatenate([classifier.logits(picture[None]) for picture in pictures])
        tolerance = Contract.read(folder / CONTRACT).variants[0].golden_tolerance * float(np.ptp(logits))
        return cls(files, pictures, logits, tolerance, SignedBundle.of(files))


def serve(numbers: Sequence[int], seed: int, workplace: Workplace, judge: str) -> Iterator[Outcome]:
    """Try mutants one after the other, and yield their outcomes."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))
    module, name = judge.split(":")
    decide = getattr(importlib.import_module(module), name)
    sound = Sound.of(workplace.sound)
    for number in numbers:
        bundle = mutant(number, sound.files, str(workplace.root), seed)
        (workplace.inner / "mutant.zip").write_bytes(bundle.content)
        before = workplace.contents()
        Path("/proc/self/clear_refs").write_text("5")  # reset the peak memory
        started_mib = _memory_mib("VmRSS")
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            verdict, remark = decide(workplace.inner / "mutant.zip", workplace.inner / "bundle", sound)
        grown_mib = _memory_mib("VmHWM") - started_mib
        shutil.rmtree(workplace.inner / "bundle", ignore_errors=True)
        if (after := workplace.contents()) != before:
            verdict, remark = "wrote outside", str(sorted(set(after.items()) ^ set(before.items())))[:200]
        elif grown_mib > MEMORY_MIB and not bundle.is_other_graph:
            verdict, remark = "much memory", f"{grown_mib:.0f} MiB; {verdict}: {remark}"
        yield Outcome(number, bundle.kind, verdict, remark)


def judge(zip_path: Path, folder: Path, sound: Sound) -> tuple[str, str]:
    """Verify, unpack, selfcheck and run one mutant; return the verdict and a remark."""
    try:
        if fault := sound.signed.fault_with_zip(zip_path):
            return WRONG_VERIFIER, fault
        unpack(zip_path, folder)
        if fault := sound.signed.fault_with_folder(folder):
            return WRONG_VERIFIER, fault
        code, line = _selfcheck(folder)
        if code not in (0, 1, 3) or (code and (not line or "\n" in line)):
            return "no clean refusal", f"exit {code}: {line}"
        return (REFUSED, line) if code else _compared(folder, sound)
    except DeviceError as error:
        return REFUSED if "\n" not in str(error) else "more than a line", str(error)
    except Exception as error:  # noqa: BLE001  # any other exception would have been a traceback
        return "traceback", f"{type(error).__name__}: {error}"


def _selfcheck(folder: Path) -> tuple[int, str]:
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors):
        code = on_device(["selfcheck", "--json", "--bundle", str(folder)])
    return code, errors.getvalue().rstrip("\n")


def _compared(folder: Path, sound: Sound) -> tuple[str, str]:
    classifier = Classifier.load(folder)
    logits = np.concatenate([classifier.logits(picture[None]) for picture in sound.pictures_hwc])
    difference = float(np.abs(logits - sound.logits).max()) if logits.shape == sound.logits.shape else float("inf")
    return (ACCEPTED if difference <= sound.tolerance else "other logits", f"logits differ by {difference:.3g}")


def _memory_mib(field: str) -> float:
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields[field].split()[0]) / 1024


# The parent's side


def trial(numbers: Sequence[int], seed: int, sound: Path, judge: str = JUDGE) -> Iterator[Outcome]:
    """Try mutants of an unpacked bundle in child processes. After a child dies, another one takes the next mutant."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as parent:
        workplace = Workplace(Path(parent) / "watched")
        workplace.inner.mkdir(parents=True)
        (workplace.root / "secret").write_bytes(bytes(96))
        (workplace.root / "tmp").mkdir()
        shutil.copytree(sound, workplace.sound)
        waiting = list(numbers)
        while waiting:
            done = 0
            for outcome in _child(waiting, seed, workplace, judge):
                done += 1
                yield outcome
            waiting = waiting[done:]


def _child(numbers: Sequence[int], seed: int, workplace: Workplace, judge: str) -> Iterator[Outcome]:
    """Yield the outcomes of one child. The last one describes its end, if that was not a clean one."""
    work = {"numbers": list(numbers), "seed": seed, "root": str(workplace.root), "judge": judge}
    here = [str(ROOT), *sys.path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(here), "TMPDIR": str(workplace.root / "tmp")}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    command = [sys.executable, "-m", "tests.trials.mutant_bundles", "--serve"]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=pipe, cwd=workplace.inner, env=environment
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(json.dumps(work).encode())
        process.stdin.close()
        n_done = 0
        while line := _line_in_time(process):
            yield Outcome(**json.loads(line))
            n_done += 1
        code = process.wait()
        noise = process.stderr.read().decode(errors="replace").strip()[-300:]
    if n_done < len(numbers):
        end = signal.Signals(-code).name if code < 0 else f"exit {code}"
        verdict = "hang" if code == -signal.SIGALRM else f"crash ({end})"
        yield Outcome(numbers[n_done], kind_of(numbers[n_done]), verdict, noise)
        shutil.rmtree(workplace.inner / "bundle", ignore_errors=True)
        for leftover in (workplace.root / "tmp").iterdir():
            shutil.rmtree(leftover, ignore_errors=True)
    elif noise:
        yield Outcome(numbers[-1], "of one child", "noise", noise)


def _line_in_time(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    clock = threading.Timer(PATIENCE_SECONDS, process.send_signal, [signal.SIGALRM])
    clock.start()
    try:
        return process.stdout.readline()
    finally:
        clock.cancel()


def sound_bundle(folder: Path) -> Path:
    """Make an unpacked bundle with all parts that a mutant changes: preprocessing, convolutions, golden pictures."""
    import onnx

    from export.bundle.stage import bundle
    from export.graphs.preprocess_graph import join, preprocess_graph
    from pipeline.network.preprocess import Preprocess
    from tests.support.mutants import rehashed
    from tests.support.tiny_bundle import CLASSES, draft_contract, write_project
    from tests.support.tiny_core import small_core

    def graph(metadata: dict[str, str]) -> bytes:
        front = preprocess_graph(Preprocess(8, "center", 0.9, (0.5,) * 3, (0.5,) * 3), 18)
        model = join(front, small_core(n_classes=len(CLASSES)))
        onnx.helper.set_model_props(model, metadata)
        content: bytes = model.SerializeToString()
        return content

    contract = dataclasses.replace(draft_contract(), providers=("CPUExecutionProvider",))
    project = write_project(folder / "project", contract, graph)
    bundle(project)
    unpack(project.bundle_zip, folder / "whole")
    kept = ("README.md", "contract.json", "model.onnx", "golden/")
    whole = folder / "whole"
    files = {path.relative_to(whole).as_posix(): path.read_bytes() for path in whole.rglob("*") if path.is_file()}
    for name, content in rehashed({name: content for name, content in files.items() if name.startswith(kept)}).items():
        (folder / "sound" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "sound" / name).write_bytes(content)
    return folder / "sound"


def main() -> None:
    """Try all mutants and count the outcomes; exit 1 if a mutant did harm."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="one mutant, by its number")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        _serve()
        return
    numbers = range(arguments.count) if arguments.only is None else [arguments.only]
    counts: Counter[tuple[str, str]] = Counter()
    with tempfile.TemporaryDirectory(prefix="sound-") as folder:
        for outcome in trial(numbers, arguments.seed, sound_bundle(Path(folder))):
            counts[outcome.kind, outcome.verdict] += 1
            if outcome.verdict not in HARMLESS or arguments.only is not None:
                print(f"{outcome.number} {outcome.kind}: {outcome.verdict}: {outcome.remark}", flush=True)
    for (kind, verdict), n_mutants in sorted(counts.items()):
        print(f"{kind:32} {verdict:20} {n_mutants:6}")
    by_verdict: Counter[str] = Counter()
    for (_, verdict), n_mutants in counts.items():
        by_verdict[verdict] += n_mutants
    refused, accepted = by_verdict[REFUSED], by_verdict[ACCEPTED]
    harm = by_verdict.total() - refused - accepted
    print(f"{len(numbers)} mutants: {refused} refused, {accepted} accepted with the golden logits, {harm} did harm")
    sys.exit(1 if harm else 0)


def _serve() -> None:
    work = json.load(sys.stdin)
    # Output of libraries is noise, on either stream. Only the outcomes go to the parent.
    to_parent = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for outcome in serve(work["numbers"], work["seed"], Workplace(Path(work["root"])), work["judge"]):
        print(json.dumps(dataclasses.asdict(outcome)), file=to_parent, flush=True)


if __name__ == "__main__":
    main()
