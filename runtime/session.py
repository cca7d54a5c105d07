"""Opening of one graph in onnxruntime, after checking that it is the contract's file and agrees with the contract."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.answers import KNOWN_SCORE
from runtime.contract import METADATA_CLASSES, METADATA_SHA256, METADATA_VERSION, Contract, Variant
from runtime.errors import ContractError, DeviceError, ProviderError
from runtime.providers import missing_library, preload, why_not_loaded, with_options

EXACT_INT8 = "session.x64quantprecision"  # onnxruntime's option; "1" selects exact kernels
_STOP_SPINNING = "session.force_spinning_stop"  # onnxruntime's option; "1" lets threads sleep once a run has ended
_FATAL = 4  # onnxruntime's severity; errors arrive as exceptions or in the list of active providers


@dataclass(frozen=True)
class Opening:
    """How to open a graph, where not as the contract says."""

    provider: str | None = None  # this provider must load; the contract's later ones run the nodes that it cannot
    threads: int | None = None  # CPU threads for one run; None: onnxruntime chooses
    profile: Path | None = None  # start a profile in a file whose name begins with this path


def open_session(contract: Contract, variant: Variant, graphs: Path, opening: Opening) -> Any:
    """Open the graph of a variant on the contract's providers.

    Args:
        contract: the graph must agree with it; it also names the providers.
        variant: the contract's variant to open.
        graphs: the folder that holds the graph.
        opening: how to open the graph, where not as the contract says.

    Returns:
        An `onnxruntime.InferenceSession`.

    Raises:
        ContractError: the graph is not the file that the contract names, or disagrees with it.
        DeviceError: onnxruntime is not installed.
        ProviderError: none of the allowed providers works here; the message names what is missing.
    """
    path = graphs / variant.file
    graph = _read_graph(path, variant)
    options = _options(onnxruntime(), opening)
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
    """Return every type of exception that onnxruntime raises; they have no common base class."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = [value for value in vars(state).values() if isinstance(value, type) and issubclass(value, Exception)]
    return (*own, RuntimeError, ValueError)


def onnxruntime() -> Any:
    """Import onnxruntime with its telemetry and its log switched off. Nothing else here may import it first.

    From 1.29 on, onnxruntime writes a lasting device id and a queue of events into the home folder and tries to send
    them; 1.30's events held class names. It reads the switch once, when its library is loaded.

    Raises:
        DeviceError: onnxruntime is not installed.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    try:
        import onnxruntime as library
    except ImportError as error:
        if isinstance(error.__cause__ or error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from error
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
    digest = hashlib.sha256(graph).hexdigest()
    if digest != variant.sha256:
        raise ContractError(f"{path}: sha256 is {digest}; the contract says {variant.sha256}")
    return graph


def _start_on_any(providers: Sequence[str], graph: bytes, path: Path, options: Any) -> Any:
    """Return a session on the first provider that works and those after it."""
    library = onnxruntime()
    wanted = [name for name in providers if name in library.get_available_providers()]
    if not wanted:
        available = ", ".join(library.get_available_providers())
        raise ProviderError(f"onnxruntime has {available}; the contract expects one of {', '.join(providers)}")
    preload(library, wanted)
    problem: Exception | None = None
    while wanted:
        try:
            session = library.InferenceSession(graph, options, providers=with_options(wanted), enable_fallback=0)
        except failures() as error:
            problem, wanted = error, wanted[1:]
            continue
        # Where no wanted provider has its libraries, onnxruntime silently takes the CPU.
        if session.get_providers()[0] not in wanted:
            raise _refusal(wanted[0])
        return session
    raise ContractError(f"{path}: onnxruntime cannot open it ({_reason_in(problem)})") from problem


def _start_on_the_first(providers: Sequence[str], graph: bytes, path: Path, options: Any) -> Any:
    """Return a session whose first provider is the first of `providers`, or raise ProviderError."""
    library, first = onnxruntime(), providers[0]
    wanted = [name for name in providers if name in library.get_available_providers()]
    if first not in wanted:
        raise _refusal(first)
    preload(library, wanted)
    try:
        session = library.InferenceSession(graph, options, providers=with_options(wanted), enable_fallback=0)
    except failures() as error:
        if missing_library(library, first):
            raise _refusal(first) from error
        raise ProviderError(f"{path}: {first} cannot open it ({_reason_in(error)})") from error
    # A provider that lacks a library raises no error: onnxruntime takes the next one in its place.
    if session.get_providers()[0] != first:
        raise _refusal(first)
    return session


def _reason_in(error: Exception | None) -> str:
    """Return onnxruntime's message; of a CUDA failure without the C++ around it."""
    cuda_failure = re.search(r"(CUDA|CUDNN|CUBLAS) failure \d+: [^;]+", str(error))
    return cuda_failure[0].strip() if cuda_failure else str(error)


def _refusal(provider: str) -> ProviderError:
    return ProviderError(f"{provider} does not load: {why_not_loaded(onnxruntime(), provider)}")


def _options(library: Any, opening: Opening) -> Any:
    options = session_options(library, opening.threads)
    if opening.profile:
        options.enable_profiling = True
        options.profile_file_prefix = str(opening.profile)
    options.add_session_config_entry("session.load_model_format", "ONNX")
    # The hash covers these bytes alone, so weights in a second file are searched in a folder that cannot exist. It is
    # not one below the graph's: onnxruntime takes only names in UTF-8, and the bundle's folder may have another one.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", f"{os.devnull}/none")
    return options


def session_options(library: Any, threads: int | None = None) -> Any:
    """Return the options of every session of this project, here and on the PC: exact int8, and no log.

    By default the threads of a session wait busily for its next run, and take the processor from what comes between:
    the next picture's decoding, or another session. Without that a run takes 1 to 2 % longer (benchmarks/spinning.py).

    Args:
        library: onnxruntime, as `onnxruntime` returns it.
        threads: CPU threads for one run; None: onnxruntime chooses.
    """
    options = library.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = _FATAL
    options.add_session_config_entry(_STOP_SPINNING, "1")
    keep_int8_exact(options)
    return options


def keep_int8_exact(options: Any) -> None:
    """Select exact int8 kernels on processors whose usual ones overflow."""
    if _int8_may_overflow():
        options.add_session_config_entry(EXACT_INT8, "1")


def _int8_may_overflow(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether onnxruntime's usual int8 kernels are inexact here: on x86 without VNNI they sum products in 16 bits."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    try:
        with cpuinfo.open("rb") as file:
            first_processor = file.read(8192)
    except OSError:
        return True  # unknown processor: prefer exact to fast
    return b"vnni" not in first_processor


def _check_agreement(session: Any, path: Path, contract: Contract) -> None:
    try:
        metadata = dict(session.get_modelmeta().custom_metadata_map)
        ports = [(port.name, port.type) for port in (*session.get_inputs(), *session.get_outputs())]
    except failures() as error:  # names that are not UTF-8
        raise ContractError(f"{path}: its metadata cannot be read ({error})") from error
    expected = contract.metadata()
    for key in (METADATA_VERSION, METADATA_SHA256, METADATA_CLASSES):
        if metadata.get(key) != expected[key]:
            raise ContractError(f"{path}: its {key} is {metadata.get(key)!r}; the contract expects {expected[key]!r}")
    wanted = [(contract.input.name, "tensor(uint8)"), (contract.output.name, "tensor(float)")]
    if contract.unknown_score == KNOWN_SCORE:
        wanted.append((KNOWN_SCORE, "tensor(float)"))
    if ports != wanted:
        raise ContractError(f"{path}: its input and outputs are {json.dumps(ports)}; expected {json.dumps(wanted)}")
