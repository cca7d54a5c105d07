"""An environment that has the toolchain from its wheel, and every library from the environment of the tests."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

from tests.support.bare_environment import bare_environment
from tests.support.command import ROOT


@dataclass(frozen=True)
class WheelEnvironment:
    """A Python in whose own folder lies the installed wheel."""

    folder: Path

    @property
    def packages(self) -> Path:
        """The folder of the installed packages."""
        (folder,) = (self.folder / "env" / "lib").glob("python*/site-packages")
        return folder

    def variables(self) -> dict[str, str]:
        """The variables of a person who has activated the environment; git knows this person."""
        bare = bare_environment(self.folder / "home")
        return {**bare, "PATH": f"{self.folder / 'env' / 'bin'}:{bare['PATH']}", "OMP_NUM_THREADS": "1"}

    def run(self, cwd: Path, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment; the caller looks at the exit code."""
        return subprocess.run(command, cwd=cwd, env=self.variables(), capture_output=True, text=True, check=False)

    def output(self, cwd: Path, *command: str) -> str:
        """Run a program of the environment that must not fail; give its standard output."""
        finished = self.run(cwd, *command)
        assert finished.returncode == 0, f"{command}: {finished.stdout}\n{finished.stderr}"
        return finished.stdout


def wheel_environment(folder: Path) -> WheelEnvironment:
    """Build the wheel and install it into a new environment, without its dependencies; nothing is downloaded."""
    (folder / "home").mkdir()
    (folder / "home" / ".gitconfig").write_text("[user]\n\tname = a\n\temail = a@example.org\n", encoding="utf-8")
    _run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder / "dist"))
    (wheel,) = (folder / "dist").glob("*.whl")
    venv.create(folder / "env", symlinks=True)
    environment = WheelEnvironment(folder)
    (environment.packages / "libraries.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    python = str(folder / "env" / "bin" / "python")
    install = ["install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check", str(wheel)]
    _run(sys.executable, "-m", "pip", "--python", python, *install)
    return environment


def _run(*command: str) -> None:
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, f"{command}: {finished.stdout}\n{finished.stderr}"
