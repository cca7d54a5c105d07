"""What is loaded for a provider, and what is said when it does not load."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from export.graphs.runner import Graph
from pipeline.tools.doctor import ONE_NODE_GRAPH, run_one_node
from runtime import Classifier, providers
from runtime.errors import ProviderError
from runtime.providers import preload, why_not_loaded, with_options
from runtime.session import Opening
from tests.support.tiny_bundle import draft_contract, write_models

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
# What onnxruntime 1.31 raises where the libraries are there and the GPU is not.
NO_DEVICE = (
    "/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_call.cc:154 std::conditional_t<THRW, void, "
    "onnxruntime::common::Status> onnxruntime::CudaCall(ERRTYPE, const char*) [with ERRTYPE = cudaError] "
    "CUDA failure 100: no CUDA-capable device is detected ; GPU=-1 ; file=cuda_execution_provider.cc ; line=355 ; "
)


def library(folder: Path, *available: str) -> Any:
    """Stands for onnxruntime in a package of its own; counts how often it is told to preload, and prints as it does."""
    calls: list[bool] = []

    def preload_dlls() -> None:
        calls.append(True)
        sys.stdout.write("Failed to load libcublas.so.13")

    found = {"get_available_providers": lambda: [*available, CPU], "preload_dlls": preload_dlls, "calls": calls}
    return SimpleNamespace(__file__=str(folder / "__init__.py"), __version__="1.2.3", **found)


def compile_library(path: Path, *linked: Path) -> None:
    """An empty shared library, linked to others."""
    source = path.with_suffix(".c")
    source.write_text("int present(void) { return 1; }\n")
    command = ["gcc", "-shared", "-fPIC", "-Wl,--no-as-needed", "-o", path, source, *linked]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)


@pytest.fixture
def with_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "_DRIVER", "libm.so.6")


def test_libraries_are_loaded_first_where_a_provider_needs_them(
    with_driver: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fake = library(tmp_path, CUDA)
    preload(fake, [CPU])
    assert fake.calls == []
    preload(fake, [CUDA, CPU])
    preload(fake, ["TensorrtExecutionProvider"])
    assert fake.calls == [True, True]
    assert capfd.readouterr() == ("", "")


def test_without_a_driver_nothing_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "_DRIVER", "libnosuchdriver.so.1")
    fake = library(tmp_path, CUDA)
    preload(fake, [CUDA])
    assert fake.calls == []


def test_an_older_onnxruntime_cannot_preload_and_is_not_asked(with_driver: None, tmp_path: Path) -> None:
    fake = library(tmp_path, CUDA)
    del fake.preload_dlls
    preload(fake, [CUDA])


def test_every_session_that_may_use_cuda_preloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[list[str]] = []

    def noted(_: Any, names: list[str]) -> None:
        loaded.append(list(names))

    for place in ("runtime.session", "export.graphs.runner", "runtime.providers"):
        monkeypatch.setattr(f"{place}.preload", noted)
    write_models(tmp_path / "contract.json", tmp_path, draft_contract())
    Classifier.load(tmp_path)
    Graph(ONE_NODE_GRAPH)
    run_one_node(CPU)
    assert [names[-1] for names in loaded] == [CPU] * 3


def test_float32_means_float32_and_a_provider_without_options_stands_alone() -> None:
    assert with_options([CUDA, CPU]) == [(CUDA, {"use_tf32": "0"}), CPU]


def test_a_provider_that_is_not_in_the_wheel_is_said_with_the_wheel_that_has_it(tmp_path: Path) -> None:
    fake = library(tmp_path)
    assert why_not_loaded(fake, CUDA) == "onnxruntime 1.2.3 was built without it; install onnxruntime-gpu in its place"
    assert why_not_loaded(fake, "NoSuchExecutionProvider") == "onnxruntime 1.2.3 was built without it"


def test_a_missing_driver_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "_DRIVER", "libnosuchdriver.so.1")
    assert "libnosuchdriver.so.1" in why_not_loaded(library(tmp_path, CUDA), CUDA)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler to make a library with")
def test_a_missing_library_behind_the_provider_is_named(with_driver: None, tmp_path: Path) -> None:
    capi = tmp_path / "capi"
    capi.mkdir()
    fake, missing = library(tmp_path, CUDA), tmp_path / "libnosuchcublas.so"
    compile_library(missing)
    compile_library(capi / "libonnxruntime_providers_shared.so")
    compile_library(capi / "libonnxruntime_providers_cuda.so", missing)
    missing.unlink()
    assert "libnosuchcublas.so: cannot open shared object file" in why_not_loaded(fake, CUDA)
    compile_library(capi / "libonnxruntime_providers_cuda.so")  # with all that it needs
    Path(capi / "libonnxruntime_providers_cuda.so").rename(capi / "libonnxruntime_providers_tensorrt.so")
    assert why_not_loaded(library(tmp_path, "TensorrtExecutionProvider"), "TensorrtExecutionProvider").startswith("its libr")


def test_a_provider_that_is_asked_for_alone_answers_or_nobody_does(tmp_path: Path) -> None:
    contract = dataclasses.replace(draft_contract(), providers=("NoSuchExecutionProvider", CPU), allow_fallback=True)
    write_models(tmp_path / "contract.json", tmp_path, contract)
    assert Classifier.load(tmp_path, opening=Opening(provider=CPU)).providers == (CPU,)
    with pytest.raises(ProviderError, match="NoSuchExecutionProvider does not load"):
        Classifier.load(tmp_path, opening=Opening(provider="NoSuchExecutionProvider"))


def test_where_the_cpu_steps_in_unasked_the_session_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A CUDA wheel on a machine without a GPU: onnxruntime raises nothing, and answers from the CPU."""
    contract = dataclasses.replace(draft_contract(), allow_fallback=False)
    write_models(tmp_path / "contract.json", tmp_path, contract)
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: [CUDA, CPU])
    session = SimpleNamespace(get_providers=lambda: [CPU])
    monkeypatch.setattr("onnxruntime.InferenceSession", lambda *_, **__: session)
    monkeypatch.setattr(providers, "_DRIVER", "libnosuchdriver.so.1")
    with pytest.raises(ProviderError, match=r"CUDAExecutionProvider does not load: libnosuchdriver\.so\.1: cannot"):
        Classifier.load(tmp_path)


def test_a_fallback_that_the_contract_does_not_name_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contract = dataclasses.replace(draft_contract(), providers=(CUDA,), allow_fallback=True)
    write_models(tmp_path / "contract.json", tmp_path, contract)
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr("onnxruntime.InferenceSession", lambda *_, **__: SimpleNamespace(get_providers=lambda: [CPU]))
    monkeypatch.setattr(providers, "_DRIVER", "libnosuchdriver.so.1")
    with pytest.raises(ProviderError, match=r"CUDAExecutionProvider does not load: libnosuchdriver\.so\.1"):
        Classifier.load(tmp_path)


@pytest.mark.parametrize(
    ("driver", "said"),
    [
        ("libnosuchdriver.so.1", "does not load: libnosuch"),
        (None, r"cannot open it \(CUDA failure 100: no CUDA-capable device is detected\)"),
    ],
)
def test_a_session_that_fails_names_the_missing_library_or_else_the_graph(
    driver: str | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorRT raises where CUDA lets the CPU step in."""
    contract = dataclasses.replace(draft_contract(), allow_fallback=False)
    write_models(tmp_path / "contract.json", tmp_path, contract)

    def fails(*_: object, **__: object) -> None:
        raise RuntimeError(NO_DEVICE)

    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr("onnxruntime.InferenceSession", fails)
    monkeypatch.setattr(providers, "_DRIVER", driver)
    monkeypatch.setattr(providers, "_own_libraries", lambda *_: [])
    if driver is None:
        monkeypatch.setattr(providers, "_NVIDIA", frozenset())
    with pytest.raises(ProviderError, match=f"CUDAExecutionProvider {said}.*; the contract allows no fallback"):
        Classifier.load(tmp_path)
