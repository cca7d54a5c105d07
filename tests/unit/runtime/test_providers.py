"""Loading of a provider's libraries, and the reason when a provider does not load."""

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
# The error of onnxruntime 1.31 where CUDA's libraries are present and a GPU is not.
NO_DEVICE = (
    "/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_call.cc:154 std::conditional_t<THRW, void, "
    "onnxruntime::common::Status> onnxruntime::CudaCall(ERRTYPE, const char*) [with ERRTYPE = cudaError] "
    "CUDA failure 100: no CUDA-capable device is detected ; GPU=-1 ; file=cuda_execution_provider.cc ; line=355 ; "
)


def library(folder: Path, *available: str) -> Any:
    """A stand-in for onnxruntime: counts the calls of `preload_dlls`, and prints as onnxruntime does."""
    calls: list[bool] = []

    def preload_dlls() -> None:
        calls.append(True)
        sys.stdout.write("Failed to load libcublas.so.13")

    attributes = {"get_available_providers": lambda: [*available, CPU], "preload_dlls": preload_dlls, "calls": calls}
    return SimpleNamespace(__file__=str(folder / "__init__.py"), __version__="1.2.3", **attributes)


def compile_library(path: Path, *linked: Path) -> None:
    """Compile an empty shared library, linked to others."""
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


def test_an_older_onnxruntime_without_preloading_is_left_alone(with_driver: None, tmp_path: Path) -> None:
    fake = library(tmp_path, CUDA)
    del fake.preload_dlls
    assert preload(fake, [CUDA]) is None  # does not raise
    assert fake.calls == []


def test_every_session_that_may_use_cuda_preloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[list[str]] = []

    def noted(_: Any, names: list[str]) -> None:
        loaded.append(list(names))

    for module in ("runtime.session", "export.graphs.runner", "runtime.providers"):
        monkeypatch.setattr(f"{module}.preload", noted)
    write_models(tmp_path / "contract.json", tmp_path, draft_contract())
    Classifier.load(tmp_path)
    Graph(ONE_NODE_GRAPH)
    run_one_node(CPU)
    assert [names[-1] for names in loaded] == [CPU] * 3


def test_float32_means_float32_and_a_provider_without_options_stands_alone() -> None:
    assert with_options([CUDA, CPU]) == [(CUDA, {"use_tf32": "0"}), CPU]


def test_a_provider_that_the_wheel_lacks_is_named_with_the_wheel_that_has_it(tmp_path: Path) -> None:
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
    assert why_not_loaded(library(tmp_path, "TensorrtExecutionProvider"), "TensorrtExecutionProvider").startswith(
        "its libr"
    )


def test_a_provider_that_is_required_answers_or_none_does(tmp_path: Path) -> None:
    contract = dataclasses.replace(draft_contract(), providers=("NoSuchExecutionProvider", CPU), allow_fallback=True)
    write_models(tmp_path / "contract.json", tmp_path, contract)
    assert Classifier.load(tmp_path, opening=Opening(provider=CPU)).providers == (CPU,)
    with pytest.raises(ProviderError, match="NoSuchExecutionProvider does not load"):
        Classifier.load(tmp_path, opening=Opening(provider="NoSuchExecutionProvider"))


def test_a_session_that_silently_fell_back_to_the_cpu_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a CUDA wheel and no GPU onnxruntime raises no error, and answers from the CPU."""
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
    ("driver", "reason"),
    [
        ("libnosuchdriver.so.1", "does not load: libnosuch"),
        (None, r"cannot open it \(CUDA failure 100: no CUDA-capable device is detected\)"),
    ],
)
def test_a_session_that_fails_names_the_missing_library_or_else_the_graph(
    driver: str | None, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorRT raises an error where CUDA silently leaves the CPU to answer."""
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
    with pytest.raises(ProviderError, match=f"CUDAExecutionProvider {reason}.*; the contract allows no fallback"):
        Classifier.load(tmp_path)
