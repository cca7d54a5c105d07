"""One graph in onnxruntime, opened only if it is the file that the contract names and agrees with it."""

from __future__ import annotations

import hashlib
import json
import platform
from pathlib import Path
from typing import Any

from runtime.contract import METADATA_CLASSES, METADATA_SHA256, METADATA_VERSION, Contract, Variant
from runtime.errors import ContractError, DeviceError

_FATAL = 4  # onnxruntime's severity: what goes wrong arrives as an exception, or in the list of active providers
PROVIDER_OPTIONS = {"CUDAExecutionProvider": {"use_tf32": "0"}}  # float32 means float32


def open_session(contract: Contract, variant: Variant, graphs: Path) -> Any:
    """Open the graph of a variant on the contract's providers.

    Args:
        contract: what the graph must agree with.
        variant: one of its variants.
        graphs: the folder that holds the graph.

    Returns:
        An `onnxruntime.InferenceSession`.

    Raises:
        ContractError: the graph is not the file that the contract names, or disagrees with it.
        DeviceError: onnxruntime is not installed, or none of the allowed providers works here.
    """
    path = graphs / variant.file
    session = _start(_read_graph(path, variant), path, contract)
    _check_agreement(session, path, contract)
    return session


def failures() -> tuple[type[Exception], ...]:
    """Every exception that onnxruntime raises; they have no common base."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = [value for value in vars(state).values() if isinstance(value, type) and issubclass(value, Exception)]
    return (*own, RuntimeError, ValueError)


def onnxruntime() -> Any:
    """The library, imported when first needed and told to keep quiet.

    Raises:
        DeviceError: it is not installed.
    """
    try:
        import onnxruntime as library
    except ImportError as error:
        raise DeviceError(f"onnxruntime cannot be imported ({error}); pip install -r requirements.txt") from error
    library.set_default_logger_severity(_FATAL)
    return library


def _read_graph(path: Path, variant: Variant) -> bytes:
    try:
        size = path.stat().st_size
        graph = path.read_bytes() if size == variant.bytes else b""
    except OSError as error:
        raise ContractError(f"{path}: cannot be read ({error.strerror}); the contract names it") from error
    if size != variant.bytes:
        raise ContractError(f"{path}: {size} bytes; the contract says {variant.bytes}")
    found = hashlib.sha256(graph).hexdigest()
    if found != variant.sha256:
        raise ContractError(f"{path}: sha256 is {found}; the contract says {variant.sha256}")
    return graph


def _start(graph: bytes, path: Path, contract: Contract) -> Any:
    """A session on the first of the contract's providers that works, and those behind it."""
    library = onnxruntime()
    available = library.get_available_providers()
    providers = [name for name in contract.providers if name in available]
    if not providers:
        wanted = ", ".join(contract.providers)
        raise DeviceError(f"onnxruntime has {', '.join(available)}; the contract expects one of {wanted}")
    problem: Exception | None = None
    while providers:
        asked = [(name, PROVIDER_OPTIONS.get(name, {})) for name in providers]
        try:
            session = library.InferenceSession(graph, _options(library, path), providers=asked, enable_fallback=0)
        except failures() as error:
            problem, providers = error, providers[1:]
        else:
            return _check_provider(session, contract)
    raise ContractError(f"{path}: onnxruntime cannot open it ({problem})") from problem


def _options(library: Any, path: Path) -> Any:
    options = library.SessionOptions()
    options.log_severity_level = _FATAL
    options.add_session_config_entry("session.load_model_format", "ONNX")
    if _int8_may_overflow():
        options.add_session_config_entry("session.x64quantprecision", "1")
    # The hash vouches for these bytes alone: weights in a second file are looked for where there can be none.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", f"{path}/none")
    return options


def _int8_may_overflow(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether onnxruntime's usual int8 kernels are inexact here: x86 without VNNI sums products in 16 bits."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    try:
        with cpuinfo.open("rb") as file:
            first_processor = file.read(8192)
    except OSError:
        return True  # nobody knows: exact rather than fast
    return b"vnni" not in first_processor


def _check_provider(session: Any, contract: Contract) -> Any:
    """The session itself, unless a fallback answers where none is allowed."""
    active, first = session.get_providers(), contract.providers[0]
    if not contract.allow_fallback and active[0] != first:
        raise DeviceError(f"{first} did not load, {active[0]} did; the contract allows no fallback")
    return session


def _check_agreement(session: Any, path: Path, contract: Contract) -> None:
    found = dict(session.get_modelmeta().custom_metadata_map)
    expected = contract.metadata()
    for key in (METADATA_VERSION, METADATA_SHA256, METADATA_CLASSES):
        if found.get(key) != expected[key]:
            raise ContractError(f"{path}: its {key} is {found.get(key)!r}; the contract expects {expected[key]!r}")
    ports = [(port.name, port.type) for port in (*session.get_inputs(), *session.get_outputs())]
    wanted = [(contract.input.name, "tensor(uint8)"), (contract.output.name, "tensor(float)")]
    if ports != wanted:
        raise ContractError(f"{path}: its input and output are {json.dumps(ports)}; expected {json.dumps(wanted)}")
