"""One graph in onnxruntime, opened only if it is the file that the contract names and agrees with it."""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.contract import METADATA_CLASSES, METADATA_SHA256, METADATA_VERSION, Contract, Variant
from runtime.errors import ContractError, DeviceError, ProviderError
from runtime.providers import asked, missing_library, preload, why_not

EXACT_INT8 = "session.x64quantprecision"  # onnxruntime's name of the option; "1" asks for exact kernels
_FATAL = 4  # onnxruntime's severity: what goes wrong arrives as an exception, or in the list of active providers


@dataclass(frozen=True)
class Opening:
    """How to open a graph where not simply as the contract says."""

    provider: str | None = None  # this one of the contract's must load; those behind it take the nodes that it cannot
    threads: int | None = None  # of the CPU, for one run; None: as many as onnxruntime thinks right
    profile: Path | None = None  # begin a profile in a file of which this is the beginning of the name


def open_session(contract: Contract, variant: Variant, graphs: Path, opening: Opening) -> Any:
    """Open the graph of a variant on the contract's providers.

    Args:
        contract: what the graph must agree with.
        variant: one of its variants.
        graphs: the folder that holds the graph.
        opening: what is to be otherwise than usual.

    Returns:
        An `onnxruntime.InferenceSession`.

    Raises:
        ContractError: the graph is not the file that the contract names, or disagrees with it.
        DeviceError: onnxruntime is not installed.
        ProviderError: none of the allowed providers works here; the message names what is missing.
    """
    path = graphs / variant.file
    graph = _read_graph(path, variant)
    options = _options(onnxruntime(), path, opening)
    providers = contract.providers
    if opening.provider:
        session = _start_on_the_first(providers[providers.index(opening.provider) :], graph, path, options)
    elif contract.allow_fallback:
        session = _start_on_any(providers, graph, path, options)
    else:
        try:
            session = _start_on_the_first(providers, graph, path, options)
        except ProviderError as error:
            raise ProviderError(f"{error}; the contract allows no fallback") from error
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


def _start_on_any(providers: Sequence[str], graph: bytes, path: Path, options: Any) -> Any:
    """A session on the first of the providers that works, and those behind it."""
    library = onnxruntime()
    wanted = [name for name in providers if name in library.get_available_providers()]
    if not wanted:
        found = ", ".join(library.get_available_providers())
        raise ProviderError(f"onnxruntime has {found}; the contract expects one of {', '.join(providers)}")
    preload(library, wanted)
    problem: Exception | None = None
    while wanted:
        try:
            session = library.InferenceSession(graph, options, providers=asked(wanted), enable_fallback=0)
        except failures() as error:
            problem, wanted = error, wanted[1:]
            continue
        # Where none of them has its libraries, the CPU is there unasked.
        if session.get_providers()[0] not in wanted:
            raise _refusal(wanted[0])
        return session
    raise ContractError(f"{path}: onnxruntime cannot open it ({_said_by(problem)})") from problem


def _start_on_the_first(providers: Sequence[str], graph: bytes, path: Path, options: Any) -> Any:
    """A session on the first of the providers, or none."""
    library, first = onnxruntime(), providers[0]
    wanted = [name for name in providers if name in library.get_available_providers()]
    if first not in wanted:
        raise _refusal(first)
    preload(library, wanted)
    try:
        session = library.InferenceSession(graph, options, providers=asked(wanted), enable_fallback=0)
    except failures() as error:
        if missing_library(library, first):
            raise _refusal(first) from error
        raise ProviderError(f"{path}: {first} cannot open it ({_said_by(error)})") from error
    # A provider that lacks a library raises nothing: the next one is there in its place.
    if session.get_providers()[0] != first:
        raise _refusal(first)
    return session


def _said_by(error: Exception | None) -> str:
    """What onnxruntime says went wrong; of a failure of CUDA without the lines of C++ around it."""
    found = re.search(r"(CUDA|CUDNN|CUBLAS) failure \d+: [^;]+", str(error))
    return found[0].strip() if found else str(error)


def _refusal(provider: str) -> ProviderError:
    return ProviderError(f"{provider} does not load: {why_not(onnxruntime(), provider)}")


def _options(library: Any, path: Path, opening: Opening) -> Any:
    options = library.SessionOptions()
    options.intra_op_num_threads = opening.threads or 0
    if opening.profile:
        options.enable_profiling = True
        options.profile_file_prefix = str(opening.profile)
    options.log_severity_level = _FATAL
    options.add_session_config_entry("session.load_model_format", "ONNX")
    keep_int8_exact(options)
    # The hash vouches for these bytes alone: weights in a second file are looked for where there can be none.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", f"{path}/none")
    return options


def keep_int8_exact(options: Any) -> None:
    """Ask for exact int8 kernels on processors whose usual ones overflow; every session of ours is opened with this."""
    if _int8_may_overflow():
        options.add_session_config_entry(EXACT_INT8, "1")


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


def _check_agreement(session: Any, path: Path, contract: Contract) -> None:
    try:
        found = dict(session.get_modelmeta().custom_metadata_map)
        ports = [(port.name, port.type) for port in (*session.get_inputs(), *session.get_outputs())]
    except failures() as error:  # names that are no UTF-8
        raise ContractError(f"{path}: its metadata cannot be read ({error})") from error
    expected = contract.metadata()
    for key in (METADATA_VERSION, METADATA_SHA256, METADATA_CLASSES):
        if found.get(key) != expected[key]:
            raise ContractError(f"{path}: its {key} is {found.get(key)!r}; the contract expects {expected[key]!r}")
    wanted = [(contract.input.name, "tensor(uint8)"), (contract.output.name, "tensor(float)")]
    if ports != wanted:
        raise ContractError(f"{path}: its input and output are {json.dumps(ports)}; expected {json.dumps(wanted)}")
