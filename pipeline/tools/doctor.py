"""What this machine has and lacks: each finding is looked at, not assumed."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Level = Literal["ok", "warn", "fail"]

_OLDEST_PYTHON = (3, 11)
_PROBE_TIMEOUT_SECONDS = 120  # loading CUDA for the first time takes a while
_LOW_DISK_GIB = 10
_NO_DISK_GIB = 1
_FEW_OPEN_FILES = 1024

# A graph of one node, y = x + x over float32 (1,), opset 18, IR 8: onnx itself comes with the extra `train` only.
ONE_NODE_GRAPH = bytes.fromhex(
    "08083a370a0e0a01780a0178120179220341646412036f6e655a0f0a0178120a0a08080112040a020801"
    "620f0a0179120a0a08080112040a02080142040a001012"
)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. Work is possible with a `warn`, and not with a `fail`."""

    level: Level
    name: str
    text: str

    def __str__(self) -> str:
        return f"{self.level:4} {self.name}: {self.text}"


def examine() -> list[Finding]:
    """Look at Python, torch, onnxruntime and its providers, OpenCV, PyAV, DVC, git, disk and open files."""
    return [
        _python(),
        _torch(),
        _onnxruntime(),
        *_providers(),
        _library("OpenCV", "cv2"),
        _library("PyAV", "av"),
        _library("DVC", "dvc"),
        _git(),
        _disk(Path.cwd()),
        *_open_files(),
    ]


def run_one_node(provider: str) -> None:
    """Load one execution provider of onnxruntime and let it compute 1 + 1.

    Raises:
        RuntimeError: another provider stepped in, or the sum is wrong. What a provider itself raises is let through.
    """
    import numpy as np
    import onnxruntime

    from runtime.providers import preload

    preload(onnxruntime, [provider])
    session: Any = onnxruntime.InferenceSession(ONE_NODE_GRAPH, providers=[provider], enable_fallback=0)
    loaded = session.get_providers()[0]
    if loaded != provider:
        raise RuntimeError(f"{provider} did not load, {loaded} did")
    (result,) = session.run(None, {"x": np.ones(1, np.float32)})
    if result.tolist() != [2.0]:
        raise RuntimeError(f"{provider} computed 1 + 1 = {result.tolist()}")


def _python() -> Finding:
    version = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info < _OLDEST_PYTHON:
        return Finding("fail", "Python", f"{version}; expected at least {'.'.join(map(str, _OLDEST_PYTHON))}")
    return Finding("ok", "Python", version)


def _torch() -> Finding:
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: a library of CUDA that does not fit
        return Finding(
            "warn", "torch", f"cannot be imported ({_one_line(error)}); training needs `pip install '.[train]'`"
        )
    if torch.cuda.is_available():
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        device = f"CUDA, {torch.cuda.get_device_name()}"
    else:
        bf16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        device = f"cpu, {torch.get_num_threads()} threads"
    return Finding("ok", "torch", f"{torch.__version__} on {device}, {'bf16' if bf16 else 'no bf16'}")


def _onnxruntime() -> Finding:
    found = {name: _version(name) for name in ("onnxruntime", "onnxruntime-gpu")}
    installed = [f"{name} {version}" for name, version in found.items() if version]
    if len(installed) == 1:
        return Finding("ok", "onnxruntime", installed[0])
    if installed:
        way_out = "they share a folder and break each other: uninstall both, then install one"
        return Finding("fail", "onnxruntime", f"{' and '.join(installed)} are both installed; {way_out}")
    return Finding(
        "fail", "onnxruntime", "not installed; expected onnxruntime-gpu where it has a wheel, or onnxruntime"
    )


def _providers() -> Iterator[Finding]:
    try:
        onnxruntime = importlib.import_module("onnxruntime")
        providers = onnxruntime.get_available_providers()
    except (ImportError, AttributeError) as error:  # AttributeError: half a package, after one of two was uninstalled
        yield Finding("fail", "providers", f"onnxruntime cannot be used ({_one_line(error)}); reinstall it")
        return
    for provider in sorted(providers):
        yield _provider(provider)


def _provider(provider: str) -> Finding:
    """Try a provider in a child process: some print when they fail, some crash."""
    command = [sys.executable, "-c", f"from pipeline.tools.doctor import run_one_node; run_one_node({provider!r})"]
    searched = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path)
    }  # the child must find this package, wherever it is
    limit = _PROBE_TIMEOUT_SECONDS
    try:
        child = subprocess.run(command, env=searched, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return Finding("fail", provider, f"gave no answer within {limit} s")
    if child.returncode == 0:
        return Finding("ok", provider, "loads and runs a node")
    if provider == "CPUExecutionProvider":
        return Finding("fail", provider, f"does not run ({_reason(child.stderr)}); reinstall onnxruntime")
    if provider == "CUDAExecutionProvider" and Path("/dev/nvidiactl").exists():
        return Finding("warn", provider, f"there is an NVIDIA device, but it does not load ({_reason(child.stderr)})")
    return Finding("ok", provider, "is in the wheel and does not load here; later providers answer")


def _library(name: str, module: str) -> Finding:
    try:
        version = importlib.import_module(module).__version__
    except (ImportError, OSError) as error:
        return Finding("fail", name, f"cannot be imported ({_one_line(error)}); run `pip install .`")
    return Finding("ok", name, version)


def _git() -> Finding:
    if shutil.which("git") is None:
        return Finding("fail", "git", "not found; DVC's experiments need it")
    answer = subprocess.run(["git", "--version"], capture_output=True, text=True, check=False)
    return Finding("ok", "git", answer.stdout.strip().removeprefix("git version "))


def _disk(folder: Path) -> Finding:
    free_gib = shutil.disk_usage(folder).free / 2**30
    text = f"{free_gib:.1f} GiB free in {folder}"
    if free_gib < _NO_DISK_GIB:
        return Finding("fail", "disk", f"{text}; expected at least {_NO_DISK_GIB}")
    return Finding("warn" if free_gib < _LOW_DISK_GIB else "ok", "disk", text)


def _open_files() -> Iterator[Finding]:
    if sys.platform == "win32":
        return
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = 0 <= limit < _FEW_OPEN_FILES  # unlimited is negative
    yield Finding("warn" if few else "ok", "open files", f"limit {limit}{'; raise it with `ulimit -n`' if few else ''}")


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _reason(stderr: str) -> str:
    """What a child died of: the library that was not found, or the exception."""
    missing = re.search(r"with error: (.+)", stderr)
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return missing.group(1) if missing else (lines or ["it crashed"])[-1]


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
