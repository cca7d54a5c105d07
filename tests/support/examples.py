"""The JavaScript and C++ of docs/device.md, beside the libraries that they need."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path

from tests.support.tiny_bundle import ROOT

JAVASCRIPT_OPTION = ', { extra: { session: { x64quantprecision: "1" } } }'
CPP_OPTION = 'options.AddConfigEntry("session.x64quantprecision", "1");'

_PACKAGE = "onnxruntime-node@1"
_HEADERS = "/usr/include/onnxruntime"  # Debian's libonnxruntime-dev; elsewhere, CPLUS_INCLUDE_PATH tells the compiler
_SECONDS = 120


class NotHereError(Exception):
    """An example cannot be built on this machine. The message says what is missing."""


def documented(language: str) -> str:
    """The program of a language, `js` or `cpp`."""
    page = (ROOT / "docs" / "device.md").read_text(encoding="utf-8")
    return page.split(f"```{language}\n")[1].split("```")[0]


def install_javascript(folder: Path) -> Path:
    """Write the JavaScript beside its packages, which take some 300 MB.

    Raises:
        NotHereError: Node or npm is not installed, or npm's registry cannot be reached.
    """
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise NotHereError("Node or npm is not installed")
    (folder / "package.json").write_text('{"private": true}')
    # Without scripts: the package's own script fetches CUDA's libraries from another host.
    flags = ["--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--fetch-retries=0"]
    try:
        command = ["npm", "install", *flags, _PACKAGE]
        finished = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise NotHereError(f"npm did not fetch {_PACKAGE} within {_SECONDS} s") from error
    if finished.returncode != 0:
        raise NotHereError(f"npm cannot fetch {_PACKAGE}: {finished.stderr.strip().splitlines()[-1:]}")
    program = folder / "classify.mjs"
    program.write_text(documented("js"), encoding="utf-8")
    return program


def compile_cpp(folder: Path, source: str) -> Path:
    """Compile a program against the library in onnxruntime's wheel, and return it.

    Raises:
        NotHereError: the compiler, a header or the library is not installed.
    """
    package = importlib.util.find_spec("onnxruntime")
    assert package is not None
    assert package.origin is not None
    libraries = sorted((Path(package.origin).parent / "capi").glob("libonnxruntime.so.*"))
    if shutil.which("c++") is None or not libraries:
        raise NotHereError("no C++ compiler, or no libonnxruntime.so in onnxruntime's wheel")
    packages = {"onnxruntime_cxx_api.h": "libonnxruntime-dev (Debian 13)", "nlohmann/json.hpp": "nlohmann-json3-dev"}
    for header, debian in packages.items():
        command = ["c++", f"-I{_HEADERS}", "-E", "-x", "c++", "-"]
        found = subprocess.run(command, input=f"#include <{header}>", capture_output=True, text=True, check=False)
        if found.returncode:
            raise NotHereError(f"{header} is not there: install {debian}, or set CPLUS_INCLUDE_PATH")
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):  # for the linker, and for the program
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(libraries[-1])
    (folder / "classify.cpp").write_text(source, encoding="utf-8")
    command = ["c++", "-std=c++17", "-Wall", "-Wextra", f"-isystem{_HEADERS}", "classify.cpp", "-o", "classify"]
    linked = [f"-L{folder}", "-lonnxruntime", f"-Wl,-rpath,{folder}"]
    finished = subprocess.run([*command, *linked], cwd=folder, capture_output=True, text=True, check=False)
    assert (finished.returncode, finished.stderr) == (0, "")
    return folder / "classify"
