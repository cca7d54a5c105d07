"""The device's command line: `python -m runtime selfcheck | classify PATH… | video PATH | bench | info`.

Exit codes: 0 success; 1 a problem that the person can fix, named in one line; 2 wrong usage; 3 the recommended graph
does not compute here what the bundle promised, or no picture can be decoded; 130 interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from runtime import schema
from runtime.archive import bundle_id
from runtime.bench import Latency, VariantBench, bench
from runtime.classifier import CONTRACT, Classifier, Prediction
from runtime.contract import Contract
from runtime.errors import DeviceError, ImageError, SelfcheckError
from runtime.images import SUFFIXES, heic, reader
from runtime.images.pixels import most_bytes
from runtime.selfcheck import DecoderCheck, Selfcheck, VariantCheck, selfcheck
from runtime.session import Opening, onnxruntime
from runtime.system.litter import is_litter
from runtime.system.utf8_mode import restart_in_utf8_mode
from runtime.system.visible_text import visible
from runtime.video import ClipAnswer, classify_clip

_MOST_THREADS = 10_000
_THREADS_HELP = "CPU threads (default: onnxruntime chooses)"
_STANDARD_INPUT = "-"
_READ_AT_ONCE = 1 << 20  # bytes of standard input; one large read would reserve all its memory at once


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # the terminal's encoding may lack letters of a class name
    try:
        options.command(options)
        if sys.stdout is not None:  # None when the caller closed it: then only the exit code counts
            sys.stdout.flush()
    except DeviceError as error:
        _print_error(error)
        return error.exit_code
    except OSError as error:
        _discard_output()
        if not isinstance(error, BrokenPipeError):  # the reader has gone; that is no error of ours
            _print_error(f"{error.filename or 'output'}: {error.strerror}")
        return 1
    except KeyboardInterrupt:
        _print_error("interrupted")
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m runtime", description="Classify pictures with this bundle.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print JSON")
    bundle = Path(__file__).resolve().parent.parent
    common.add_argument(
        "--bundle",
        type=Path,
        default=bundle,
        metavar="DIR",
        help="an unpacked bundle (default: the one around this code)",
    )
    variant = argparse.ArgumentParser(add_help=False)
    variant.add_argument("--variant", metavar="NAME", help="the graph to use (default: the recommended one)")

    command = commands.add_parser(
        "selfcheck", parents=[common], help="check that this device computes what was promised"
    )
    command.set_defaults(command=_selfcheck)
    command = commands.add_parser(
        "classify", parents=[common, variant], help="classify pictures and folders of pictures"
    )
    command.add_argument("paths", nargs="+", metavar="PATH", help="a picture, a folder, or - for standard input")
    command.add_argument("--jsonl", action="store_true", help="print one line of JSON as soon as a picture is answered")
    command.add_argument("--threads", type=_threads, metavar="N", help=_THREADS_HELP)
    command.set_defaults(command=_classify, refuse=command.error)
    command = commands.add_parser("video", parents=[common, variant], help="classify a clip once a second (needs PyAV)")
    command.add_argument("path", type=Path, metavar="PATH")
    command.set_defaults(command=_video)
    command = commands.add_parser("bench", parents=[common], help="measure latency of one picture and peak memory")
    command.add_argument("--variant", metavar="NAME", help="the graph to measure (default: all)")
    command.add_argument(
        "--repeats", type=_at_least_one, default=20, metavar="N", help="rounds over the pictures (default: 20)"
    )
    command.add_argument("--threads", type=_threads, metavar="N", help=_THREADS_HELP)
    command.set_defaults(command=_bench)
    command = commands.add_parser("info", parents=[common], help="print classes, graphs, versions and providers")
    command.set_defaults(command=_info)
    return parser


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1")
    return int(text)


def _threads(text: str) -> int:
    n_threads = _at_least_one(text)
    if n_threads > _MOST_THREADS:
        raise argparse.ArgumentTypeError(f"{text!r} is more than {_MOST_THREADS}")
    return n_threads


def _selfcheck(options: argparse.Namespace) -> None:
    report = selfcheck(options.bundle)
    _print_json(asdict(report)) if options.json else _print_selfcheck(report)
    for check in report.variants:
        if not check.passed and check.variant != report.recommended:
            _print_error(f"warning: {check.variant} on {check.provider}: {check.reason}; do not use it here")
    if failures := report.failures(report.recommended):
        raise SelfcheckError("; ".join([*map(_describe_failure, failures), _advise(report)]))
    if report.decoder_reason:
        raise SelfcheckError(report.decoder_reason)


def _describe_failure(check: VariantCheck) -> str:
    return f"{check.variant} on {check.provider}: {check.reason}"


def _advise(report: Selfcheck) -> str:
    """Say what to do where the recommended variant fails."""
    if not report.holding:
        return "no other variant holds here"
    others = f" (or {', '.join(report.holding[1:])})" if len(report.holding) > 1 else ""
    return f"use --variant {report.holding[0]}{others}, which holds here"


def _print_selfcheck(report: Selfcheck) -> None:
    _say(f"bundle_id: {report.bundle_id}")
    _say(f"{report.n_files} files match SHA256SUMS")
    for check in report.variants:
        _say(_describe_variant(check, report.n_samples))
    for provider, problem in report.not_used.items():
        _say(f"{provider} is not used: {problem.removeprefix(f'{provider} does not load: ')}")
    same = sum(check.max_abs_pixel_difference == 0 for check in report.decoder)
    _say(f"decoder: {same} of {report.n_samples} pictures decode to exactly the pixels of the build")
    for decoder_check in report.decoder:
        if decoder_check.max_abs_pixel_difference != 0:
            _say(_describe_decoder(decoder_check))
    _say("selfcheck passed" if report.passed else "selfcheck failed")


def _describe_variant(check: VariantCheck, n_samples: int) -> str:
    placement, difference = check.placement, check.max_abs_logit_difference
    if placement is None or difference is None:
        return _describe_failure(check)
    share = placement.time_shares.get(check.provider, 0)
    return (
        f"{check.variant} on {check.provider}: logits within {difference:.3g} (allowed"
        f" {check.allowed_logit_difference:.3g}), {check.labels_agree} of {n_samples} labels agree,"
        f" {placement.nodes_on(check.provider)} of {placement.n_nodes} nodes and {share:.0%} of their time on it,"
        f" {check.median_ms:.1f} ms a picture{'' if check.passed else '; failed'}"
    )


def _describe_decoder(check: DecoderCheck) -> str:
    if check.remark:
        return f"  {check.sample}: {check.remark}"
    same = "same label" if check.label_agrees else "another label"
    return f"  {check.sample}: pixels differ by up to {check.max_abs_pixel_difference} of 255, {same}"


def _classify(options: argparse.Namespace) -> None:
    if options.json and options.jsonl:
        options.refuse("--json and --jsonl exclude each other")
    reader()  # raises one error here instead of one for each picture
    classifier = Classifier.load(options.bundle, options.variant, Opening(threads=options.threads))
    of_bundle = {"bundle_id": bundle_id(options.bundle)}
    results: list[dict[str, object]] = []
    n_pictures = n_failed = 0
    for path, answer in _answers(classifier, options.paths):
        n_pictures += 1
        if isinstance(answer, DeviceError):
            n_failed += 1
            _print_error(answer)
            result: dict[str, object] = {"path": path, "error": str(answer), **of_bundle}
        else:
            result = {"path": path, **asdict(answer), **of_bundle}
        if options.json:
            results.append(result)
        elif options.jsonl:
            _print_json(result, indent=None)
        elif isinstance(answer, Prediction):
            _say(_describe_prediction(answer, path))
    if options.json:
        _print_json(results)
    if n_failed:
        raise DeviceError(f"{n_failed} of {n_pictures} pictures could not be classified")


def _answers(classifier: Classifier, paths: list[str]) -> Iterator[tuple[str, Prediction | DeviceError]]:
    """Classify every picture that the paths name. Yield its path with the answer, or with the reason for none."""
    for path in paths:
        if path == _STANDARD_INPUT:
            yield path, _answer_standard_input(classifier)
            continue
        if not path:
            yield path, DeviceError("an empty PATH; expected a picture or a folder")
        elif _is_folder(Path(path)):
            yield from _answers_of_folder(classifier, Path(path))
        else:
            yield str(Path(path)), _answer(classifier, Path(path))


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # what cannot be looked at is named when it is read
        return False


def _answers_of_folder(classifier: Classifier, folder: Path) -> Iterator[tuple[str, Prediction | DeviceError]]:
    """Classify the pictures below a folder, in the order of their paths, without hidden ones and litter.

    HEIC files count as pictures, so that each of them is named as one that cannot be read; so do links to nothing.
    """
    closed: list[OSError] = []
    suffixes = SUFFIXES | heic.SUFFIXES
    pictures = sorted(file for file in _files(folder, closed) if file.suffix.lower() in suffixes)
    for picture in pictures:
        yield str(picture), _answer(classifier, picture)
    for error in closed:
        yield str(error.filename), DeviceError(f"{error.filename}: cannot be read ({error.strerror})")
    if not pictures and not closed:
        expected = ", ".join(sorted(SUFFIXES))
        yield str(folder), DeviceError(f"{folder}: no picture in this folder; expected one of {expected}")


def _answer(classifier: Classifier, picture: Path | bytes) -> Prediction | DeviceError:
    try:
        return classifier.classify(picture)
    except DeviceError as error:
        return error


def _answer_standard_input(classifier: Classifier) -> Prediction | DeviceError:
    try:
        answer = _answer(classifier, _read_standard_input(classifier.contract.max_pixels))
    except ImageError as error:
        answer = error
    return DeviceError(f"standard input: {answer}") if isinstance(answer, DeviceError) else answer


def _read_standard_input(max_pixels: int) -> bytes:
    """Read the bytes of one picture.

    Raises:
        ImageError: it is closed or cannot be read, or holds more bytes than a picture of `max_pixels` can need.
    """
    if sys.stdin is None:
        raise ImageError("closed; expected the bytes of a picture")
    most = most_bytes(max_pixels)
    content = bytearray()
    try:
        while len(content) <= most and (part := sys.stdin.buffer.read(_READ_AT_ONCE)):
            content += part
    except OSError as error:
        raise ImageError(f"cannot be read ({error.strerror}); expected the bytes of a picture") from error
    if len(content) > most:
        raise ImageError(f"more than {most} bytes; expected a picture of at most {max_pixels} pixels")
    return bytes(content)


def _files(folder: Path, closed: list[OSError]) -> Iterator[Path]:
    """Yield the files below a folder. Links to folders are named and not followed, since they may lead in a circle.

    Args:
        folder: where to begin.
        closed: gets the error of each folder that cannot be read.
    """
    for parent, folders, files in os.walk(folder, onerror=closed.append):
        folders[:] = sorted(name for name in folders if not _is_skipped(name))
        for name in folders:
            if (Path(parent) / name).is_symlink():
                _print_error(f"{Path(parent) / name}: a link to a folder, which is not followed; name it as a PATH too")
        yield from (Path(parent) / name for name in files if not _is_skipped(name))


def _is_skipped(name: str) -> bool:
    return name.startswith(".") or is_litter(name)


def _describe_prediction(prediction: Prediction | ClipAnswer, source: object) -> str:
    return f"{prediction.probability:6.1%}  {prediction.label or '(none of the classes)'}  {source}"


def _video(options: argparse.Namespace) -> None:
    answer = classify_clip(Classifier.load(options.bundle, options.variant), options.path)
    for warning in answer.warnings:
        _print_error(f"{options.path}: warning: {warning}")
    if options.json:
        frames = [{"time_seconds": frame.time_seconds, **asdict(frame.prediction)} for frame in answer.frames]
        _print_json({"path": str(options.path), **asdict(answer), "frames": frames})
        return
    for frame in answer.frames:
        _say(f"{frame.time_seconds:8.2f} s  {_describe_prediction(frame.prediction, '').rstrip()}")
    _say(_describe_prediction(answer, options.path))


def _bench(options: argparse.Namespace) -> None:
    report = bench(options.bundle, options.variant, options.repeats, options.threads)
    faster = report.faster_variant()
    if options.json:
        _print_json({**asdict(report), "faster_than_recommended": faster[0].variant if faster else None})
        return
    threads = f"{report.threads} threads" if report.threads else "as many threads as onnxruntime chooses"
    _say(f"one picture at a time; {threads}; {report.processors} processors ({report.processor})")
    for variant in report.variants:
        _say(*_describe_bench(variant).split("\n"))
    if faster:
        _say(_describe_faster(*faster, report.timed_on))


def _describe_faster(fastest: VariantBench, recommended: VariantBench, timed_on: str | None) -> str:
    return (
        f"{fastest.variant} is faster here than {recommended.variant}, the recommended one:"
        f" {fastest.pixels.median_ms:.2f} ms against {recommended.pixels.median_ms:.2f} ms; use --variant"
        f" {fastest.variant}. {recommended.variant} was chosen by its time on {timed_on or 'another processor'}"
    )


def _describe_bench(variant: VariantBench) -> str:
    peak = f", at most {variant.peak_memory_mib:.0f} MiB of memory" if variant.peak_memory_mib else ""
    return "\n".join([
        f"{variant.variant} on {variant.providers[0]}: opened in {variant.load_ms:.0f} ms{peak}",
        f"  {_describe_latency('from pixels', variant.pixels)}",
        f"  {_describe_latency('from a file', variant.file)}",
    ])  # fmt: skip


def _describe_latency(source: str, latency: Latency) -> str:
    return (
        f"{source}: median {latency.median_ms:.2f} ms, 95 % within {latency.p95_ms:.2f} ms,"
        f" first {latency.first_ms:.2f} ms, {latency.calls} calls"
    )


def _info(options: argparse.Namespace) -> None:
    contract = Contract.read(options.bundle / CONTRACT)
    library = onnxruntime()
    classifier = Classifier.load(options.bundle)
    values: dict[str, object] = {
        "bundle_id": bundle_id(options.bundle),
        "classes": contract.classes,
        "variants": [f"{variant.name} ({variant.bytes} bytes)" for variant in contract.variants],
        "recommended": contract.recommended,
        "contract_sha256": contract.interface_sha256(),
        "max_pixels": contract.max_pixels,
        "providers_wanted": contract.providers,
        "providers_in_onnxruntime": library.get_available_providers(),
        "providers_active": classifier.providers,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "onnxruntime": library.__version__,
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors",
    }
    if options.json:
        _print_json(values)
        return
    for name, value in values.items():
        _say(f"{name}: {', '.join(value) if isinstance(value, (list, tuple)) else value}")


def _print_json(value: object, indent: int | None = 2) -> None:
    print(schema.printable(value, getattr(sys.stdout, "encoding", None), indent), flush=True)


def _say(*lines: str) -> None:
    for line in lines:
        print(visible(line))


def _print_error(message: object) -> None:
    """Print a line on standard error; where that is closed or full, the exit code still tells."""
    if sys.stderr is not None:  # else print would take standard output
        with contextlib.suppress(OSError):
            print(visible(f"runtime: {message}"), file=sys.stderr)


def _discard_output() -> None:
    """Point standard output to the null device, so that Python's flush at exit cannot fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    restart_in_utf8_mode()
    sys.exit(main())
