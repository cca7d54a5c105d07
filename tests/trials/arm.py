"""Selfchecks and classifies with a bundle on emulated 64-bit ARM processors, and prints a table.

python -m tests.trials.arm BUNDLE.zip [--work build/arm64] [--pictures 2] [--processors cortex-a72 cortex-a76 max]

Needs root and Debian's packages mmdebstrap and qemu-user-static. The system for ARM holds Debian's Python and the
bundle's requirements. It is extracted once and never configured, so that no ARM program runs while it is built.
onnxruntime asks `/proc/cpuinfo` and `/sys` which processor it has. The kernel would show the host's, at which the
library crashes. So each emulated processor gets a text of its own in its own mount namespace.

Ends with 1 if a variant fails on a processor. As a negative control, a golden logit is changed on the first processor,
and selfcheck must refuse it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.archive import unpack
from runtime.golden import GOLDEN, GOLDEN_JSON
from tests.support.tiny_bundle import rewrite_sums

DEBIAN, DEBIANS_PYTHON = "bookworm", "3.11"
PACKAGES = "python3,libstdc++6"
WHEELS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")
SITE = "usr/lib/python3/dist-packages"
QEMU = "qemu-aarch64-static"
PATIENCE_SECONDS = 7200  # qemu takes minutes for a picture on `max`

ARMV8_0 = "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"
ARMV8_2 = f"{ARMV8_0} atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp"
NEWEST = (
    f"{ARMV8_2} jscvt fcma sha3 sm3 sm4 sha512 sve asimdfhm uscat ilrcpc flagm sb dcpodp sve2 frint svei8mm i8mm bf16"
)

# Its arguments: the system's folder, the text of /proc/cpuinfo, and the command.
IN_THE_SYSTEM = """
set -e
mount --rbind /proc "$1/proc"
mount --rbind /sys "$1/sys"
mount --rbind /dev "$1/dev"
mount --bind "$2" "$1/proc/cpuinfo"
system="$1"
shift 2
exec chroot "$system" "$@"
"""
COMMAND = "import os, sys; os.chdir('/bundle'); from runtime.__main__ import main; sys.exit(main(sys.argv[1:]))"


@dataclass(frozen=True)
class Processor:
    """An emulated processor: qemu's name of it, and what Linux would say of it."""

    name: str
    options: str  # of qemu, behind the name
    implementer: str
    variant: str
    part: str
    revision: int
    features: str

    def cpuinfo(self, n_processors: int) -> str:
        """The text of `/proc/cpuinfo`."""
        return "".join(
            f"processor\t: {number}\nBogoMIPS\t: 108.00\nFeatures\t: {self.features}\n"
            f"CPU implementer\t: {self.implementer}\nCPU architecture: 8\nCPU variant\t: {self.variant}\n"
            f"CPU part\t: {self.part}\nCPU revision\t: {self.revision}\n\n"
            for number in range(n_processors)
        )


PROCESSORS = (
    Processor("cortex-a72", "", "0x41", "0x0", "0xd08", 3, ARMV8_0),  # Raspberry Pi 4
    Processor("cortex-a76", "", "0x41", "0x4", "0xd0b", 1, ARMV8_2),  # Raspberry Pi 5: arithmetic in half precision
    # Everything that qemu knows. Its usual signing of pointers is slow, and says nothing about numbers.
    Processor("max", ",pauth-impdef=on", "0x00", "0x0", "0x051", 0, NEWEST),
)


@dataclass(frozen=True)
class System:
    """A folder with an ARM system and the bundle."""

    root: Path

    @property
    def bundle(self) -> Path:
        return self.root / "bundle"

    def run(self, processor: Processor, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the bundle on a processor."""
        cpuinfo = self.root.parent / f"cpuinfo.{processor.name}"
        cpuinfo.write_text(processor.cpuinfo(len(os.sched_getaffinity(0))), encoding="ascii")
        emulated = [f"/usr/bin/{QEMU}", "-cpu", processor.name + processor.options, "/usr/bin/python3", "-B", "-c"]
        command = ["unshare", "--mount", "bash", "-c", IN_THE_SYSTEM, "bash", self.root, cpuinfo, *emulated, COMMAND]
        return subprocess.run(
            [*map(str, command), *arguments],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "PYTHONPATH": "/bundle"},
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )


def require_tools() -> None:
    """End with one line where something that the trial needs is missing."""
    missing = [tool for tool in ("mmdebstrap", QEMU, "unshare", "chroot") if shutil.which(tool) is None]
    if missing:
        sys.exit(f"{', '.join(missing)}: not found; apt install mmdebstrap qemu-user-static util-linux coreutils")
    if os.geteuid() != 0:
        sys.exit("this trial mounts folders and changes its root; run it as root")


def build_system(root: Path, requirements: Path) -> System:
    """Extract Debian's packages for ARM, and put the wheels of the bundle's requirements beside them."""
    if not (root / "complete").exists():
        shutil.rmtree(root, ignore_errors=True)
        root.parent.mkdir(parents=True, exist_ok=True)
        _do(
            "mmdebstrap", "--quiet", "--variant=extract", "--architectures=arm64", f"--include={PACKAGES}", DEBIAN, root
        )
        for folder in ("proc", "sys", "dev"):
            (root / folder).mkdir(exist_ok=True)
        shutil.copy(shutil.which(QEMU) or "", root / "usr" / "bin")
        platforms = [f"--platform={wheel}" for wheel in WHEELS]
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", root / SITE, "--only-binary=:all:"]
        _do(*pip, *platforms, f"--python-version={DEBIANS_PYTHON}", "--requirement", requirements)
        (root / "complete").touch()
    return System(root)


def _do(*command: str | Path) -> None:
    subprocess.run([str(part) for part in command], check=True)


def keep_pictures(bundle: Path, n_pictures: int) -> None:
    """Cut the golden pictures of an unpacked bundle to a few, of as many classes as possible."""
    path = bundle / GOLDEN / GOLDEN_JSON
    golden = json.loads(path.read_text(encoding="utf-8"))
    labels = [sample["label"] for sample in golden["samples"]]
    by_turns = sorted(range(len(labels)), key=lambda index: (labels[:index].count(labels[index]), index))
    kept = sorted(by_turns[:n_pictures])
    for index in set(range(len(labels))) - set(kept):
        for file in ("image", "pixels"):
            (bundle / GOLDEN / golden["samples"][index][file]).unlink()
    golden["samples"] = [golden["samples"][index] for index in kept]
    for key in ("logits", "scores"):
        golden[key] = {name: [values[index] for index in kept] for name, values in golden[key].items()}
    path.write_text(json.dumps(golden), encoding="utf-8")
    rewrite_sums(bundle)


def plant_fault(bundle: Path) -> None:
    """Change one golden logit of every variant by a tenth of the logits' range."""
    path = bundle / GOLDEN / GOLDEN_JSON
    golden = json.loads(path.read_text(encoding="utf-8"))
    for rows in golden["logits"].values():
        values = [value for row in rows for value in row]
        rows[0][0] += 0.1 * (max(values) - min(values))
    path.write_text(json.dumps(golden), encoding="utf-8")
    rewrite_sums(bundle)


@dataclass(frozen=True)
class Row:
    """One variant on one processor."""

    processor: str
    check: dict[str, Any]  # of selfcheck's JSON
    share: float  # the largest difference of a logit, as a share of the golden logits' range; NaN where it gave none
    n_pictures: int

    @property
    def passed(self) -> bool:
        return bool(self.check["passed"])

    def __str__(self) -> str:
        verdict = "passed" if self.passed else "failed"
        agree = f"{self.check['labels_agree']} of {self.n_pictures}"
        return f"| {self.processor} | {self.check['variant']} | {self.share:.2g} | {agree} | {verdict} |"


def rows_of(system: System, processor: Processor) -> Iterator[Row]:
    """Selfcheck on a processor."""
    finished = system.run(processor, "selfcheck", "--json")
    if finished.returncode not in (0, 3):
        sys.exit(f"{processor.name}: selfcheck ended with {finished.returncode}: {finished.stderr[-500:]}")
    report = json.loads(finished.stdout)
    contract = json.loads((system.bundle / "contract.json").read_text(encoding="utf-8"))
    tolerances = {variant["name"]: variant["golden_tolerance"] for variant in contract["variants"]}
    for check in report["variants"]:
        difference = check["max_abs_logit_difference"]
        share = math.nan if difference is None else difference / check["allowed_logit_difference"]
        share *= tolerances[check["variant"]]
        yield Row(processor.name, check, share, report["n_samples"])


def classified_right(system: System, processor: Processor) -> str:
    """Classify the golden files with the recommended graph, and count those with the label of the build."""
    golden = json.loads((system.bundle / GOLDEN / GOLDEN_JSON).read_text(encoding="utf-8"))
    contract = json.loads((system.bundle / "contract.json").read_text(encoding="utf-8"))
    rows = golden["logits"][contract["recommended"]]
    expected = [contract["classes"][row.index(max(row))] for row in rows]
    finished = system.run(processor, "classify", "--json", *(f"{GOLDEN}/{each['image']}" for each in golden["samples"]))
    if finished.returncode != 0:
        sys.exit(f"{processor.name}: classify ended with {finished.returncode}: {finished.stderr[-500:]}")
    answers = json.loads(finished.stdout)
    best = [max(answer["probabilities"], key=answer["probabilities"].__getitem__) for answer in answers]
    right = sum(a == b for a, b in zip(best, expected, strict=True))
    return f"{processor.name}: classify gave the build's label for {right} of {len(expected)} files"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the trial; the exit code is 1 if a variant failed or the planted fault passed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("bundle", type=Path, help="a bundle's zip")
    parser.add_argument("--work", type=Path, default=Path("build/arm64"), help="folder for the ARM system")
    parser.add_argument("--pictures", type=int, default=2, help="golden pictures to keep")
    names = [processor.name for processor in PROCESSORS]
    parser.add_argument("--processors", nargs="+", choices=names, default=names)
    options = parser.parse_args(arguments)
    require_tools()
    work = options.work.resolve()
    shutil.rmtree(work / "unpacked", ignore_errors=True)
    work.mkdir(parents=True, exist_ok=True)
    unpack(options.bundle, work / "unpacked")
    system = build_system(work / "system", work / "unpacked" / "requirements.txt")
    shutil.rmtree(system.bundle, ignore_errors=True)
    shutil.move(work / "unpacked", system.bundle)
    keep_pictures(system.bundle, options.pictures)
    return trial(system, [processor for processor in PROCESSORS if processor.name in options.processors])


def trial(system: System, processors: Sequence[Processor]) -> int:
    """Print the table of all processors, and let selfcheck find a planted fault on the first one."""
    print("| processor | variant | logits differ by, of their range | labels | selfcheck |\n|---|---|---|---|---|")
    rows = []
    for processor in processors:
        for row in rows_of(system, processor):
            rows.append(row)
            print(row, flush=True)
    for processor in processors:
        print(classified_right(system, processor), flush=True)
    plant_fault(system.bundle)
    missed = [row.check["variant"] for row in rows_of(system, processors[0]) if row.passed]
    print(f"a planted fault was missed in {', '.join(missed)}" if missed else "a planted fault was refused")
    return 1 if missed or not all(row.passed for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
