"""Trial of the JavaScript and C++ examples on an emulated x86 processor without VNNI.

python -m tests.trials.examples_without_vnni

There, onnxruntime's usual int8 kernels overflow. The trial runs the programs of docs/device.md on an emulated Haswell
(Debian's qemu-user), with a bundle whose int8 graph overflows. A program must give the golden logits. Without its
option for exact kernels it must exit 3: the negative control. What cannot be built here is named.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.support.examples import (
    CPP_OPTION,
    JAVASCRIPT_OPTION,
    NotHereError,
    compile_cpp,
    documented,
    install_javascript,
)
from tests.support.overflowing_bundle import overflowing_bundle

EMULATOR = ("qemu-x86_64", "-cpu", "Haswell")
GOLDEN, OTHER_LOGITS = 0, 3  # exit codes
SECONDS = 300

Program = tuple[str, list[str], int]  # what it is, its command line, the exit code that it must have


def javascript(folder: Path) -> Iterator[Program]:
    """The JavaScript as documented, and without its option."""
    program = install_javascript(folder)
    text = program.read_text(encoding="utf-8")
    assert text.count(JAVASCRIPT_OPTION) == 1
    usual = folder / "usual.mjs"
    usual.write_text(text.replace(JAVASCRIPT_OPTION, ""), encoding="utf-8")
    node = shutil.which("node") or ""
    yield "JavaScript", [node, str(program)], GOLDEN
    yield "JavaScript without its option", [node, str(usual)], OTHER_LOGITS


def cpp(folder: Path) -> Iterator[Program]:
    """The C++ as documented, and without its option."""
    source = documented("cpp")
    assert source.count(CPP_OPTION) == 1
    yield "C++", [str(compile_cpp(folder, source))], GOLDEN
    yield "C++ without its option", [str(compile_cpp(folder, source.replace(CPP_OPTION, "")))], OTHER_LOGITS


def main() -> int:
    """Run every program that can be built here; exit 1 if one gave another exit code than it must."""
    if shutil.which(EMULATOR[0]) is None:
        print(f"not run: {EMULATOR[0]} is not installed (Debian's qemu-user)")
        return 1
    n_wrong = 0
    with tempfile.TemporaryDirectory(prefix="examples-") as parent:
        folder = Path(parent)
        bundle = overflowing_bundle(folder)
        for language, programs in (("JavaScript", javascript), ("C++", cpp)):
            (folder / programs.__name__).mkdir()
            try:
                for name, command, code in programs(folder / programs.__name__):
                    n_wrong += _run(name, command, code, bundle)
            except NotHereError as error:
                print(f"{language}: not run: {error}")
    return 1 if n_wrong else 0


def _run(name: str, command: list[str], code: int, bundle: Path) -> bool:
    """Run a program in the emulator, print the result, and return whether it is wrong."""
    finished = subprocess.run(
        [*EMULATOR, *command, str(bundle)], cwd=bundle.parent, capture_output=True, timeout=SECONDS, check=False
    )
    is_wrong = finished.returncode != code
    print(f"{name}: exit {finished.returncode}, expected {code}{'  <- wrong' if is_wrong else ''}", flush=True)
    return is_wrong


if __name__ == "__main__":
    sys.exit(main())
