"""Makes an environment with all packages of this Python and some more, for `tests/trials/gpu_check.py`.

`python -m tests.trials.gpu_packages ENV WHEELS NAME==VERSION...` makes ENV.

The packages come from a folder of wheels, without a network and without their dependencies. This Python itself stays as
it is: systems forbid to install into theirs.
"""

from __future__ import annotations

import site
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str]) -> int:
    """Make the environment; return pip's exit code."""
    folder, wheels, *names = arguments
    make_environment(Path(folder))
    install = ["install", "--quiet", "--no-index", "--find-links", wheels, "--no-deps", *names]
    pip = [sys.executable, "-m", "pip", "--python", str(python_of(Path(folder)))]
    return subprocess.run([*pip, *install], check=False).returncode


def make_environment(folder: Path) -> None:
    """Make an environment that sees the packages of this Python, which may be an environment itself."""
    venv.EnvBuilder(symlinks=True).create(folder)
    paths = {"base": str(folder), "platbase": str(folder)}
    own = Path(sysconfig.get_path("purelib", "venv", vars=paths))
    seen = dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages()])
    lines = "".join(f"import site; site.addsitedir({path!r})\n" for path in seen)
    (own / "machine.pth").write_text(lines, encoding="utf-8")


def python_of(folder: Path) -> Path:
    """Return the Python of an environment."""
    return folder / "bin" / "python"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
