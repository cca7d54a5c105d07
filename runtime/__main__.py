"""The device's command line: `python -m runtime selfcheck | classify PATH… | video PATH | bench | info`.

Exit codes: 0 it holds; 1 something the person can fix, one line says what; 2 usage; 3 the device does not compute what
the bundle promised; 130 interrupted.
"""

from __future__ import annotations

import argparse
import io
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from runtime import schema
from runtime.bench import Latency, VariantBench, bench
from runtime.classifier import CONTRACT, Classifier, Prediction
from runtime.contract import Contract
from runtime.errors import DeviceError, ImageError, SelfcheckError
from runtime.images import SUFFIXES
from runtime.selfcheck import DecoderCheck, Selfcheck, VariantCheck, selfcheck
from runtime.session import onnxruntime
from runtime.video import ClipAnswer, classify_clip

_MOST_THREADS = 10_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the returned number is the exit code."""
    options = _parser().parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal may lack the letters of a class's name
    try:
        options.command(options)
        if sys.stdout is not None:  # closed by whoever started us: the exit code is all they want
            sys.stdout.flush()
    except DeviceError as error:
        _complain(error)
        return error.exit_code
    except OSError as error:
        _discard_output()
        if not isinstance(error, BrokenPipeError):  # a reader that has gone is nothing to speak of
            _complain(f"{error.filename or 'output'}: {error.strerror}")
        return 1
    except KeyboardInterrupt:
        _complain("interrupted")
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m runtime", description="Classify pictures with this bundle.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print JSON")
    bundle = Path(__file__).resolve().parent.parent
    common.add_argument("--bundle", type=Path, default=bundle, metavar="DIR", help="another unpacked bundle")
    variant = argparse.ArgumentParser(add_help=False)
    variant.add_argument("--variant", metavar="NAME", help="another graph than the recommended one")

    command = commands.add_parser("selfcheck", parents=[common], help="does this device compute what was promised?")
    command.set_defaults(command=_selfcheck)
    command = commands.add_parser("classify", parents=[common, variant], help="classify pictures, and those in folders")
    command.add_argument("paths", nargs="+", type=Path, metavar="PATH")
    command.set_defaults(command=_classify)
    command = commands.add_parser("video", parents=[common, variant], help="classify a clip, second by second (OpenCV)")
    command.add_argument("path", type=Path, metavar="PATH")
    command.set_defaults(command=_video)
    command = commands.add_parser("bench", parents=[common], help="how long one picture takes, and how much memory")
    command.add_argument("--variant", metavar="NAME", help="one graph (default: each)")
    command.add_argument("--repeats", type=_at_least_one, default=20, metavar="N", help="rounds (default: 20)")
    command.add_argument("--threads", type=_threads, metavar="N", help="(default: as onnxruntime thinks right)")
    command.set_defaults(command=_bench)
    command = commands.add_parser("info", parents=[common], help="what this bundle is, and what runs it")
    command.set_defaults(command=_info)
    return parser


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1")
    return int(text)


def _threads(text: str) -> int:
    number = _at_least_one(text)
    if number > _MOST_THREADS:
        raise argparse.ArgumentTypeError(f"{text!r} is more than {_MOST_THREADS}")
    return number


def _selfcheck(options: argparse.Namespace) -> None:
    found = selfcheck(options.bundle)
    _print_json(asdict(found)) if options.json else _print_selfcheck(found)
    for check in found.variants:
        if check.reason:
            raise SelfcheckError(f"{check.variant} on {check.provider}: {check.reason}")


def _print_selfcheck(found: Selfcheck) -> None:
    print(f"{found.n_files} files are as listed")
    for check in found.variants:
        print(_describe_variant(check, found.n_samples))
    for provider, problem in found.not_used.items():
        print(f"{provider} is not used: {problem.removeprefix(f'{provider} ')}")
    same = sum(check.max_abs_pixel_difference == 0 for check in found.decoder)
    print(f"decoder: {same} of {found.n_samples} pictures decode to the very pixels of the build")
    for each in found.decoder:
        if each.max_abs_pixel_difference != 0:
            print(_describe_decoder(each))
    print("selfcheck passed" if found.passed else "selfcheck failed")


def _describe_variant(check: VariantCheck, n_samples: int) -> str:
    placement, share = check.placement, check.placement.time_shares.get(check.provider, 0)
    return (
        f"{check.variant} on {check.provider}: logits within {check.max_abs_logit_difference:.3g} (allowed"
        f" {check.allowed_logit_difference:.3g}), {check.labels_agree} of {n_samples} labels agree,"
        f" {placement.nodes_on(check.provider)} of {placement.n_nodes} nodes and {share:.0%} of their time there,"
        f" {check.median_ms:.1f} ms a picture"
    )


def _describe_decoder(check: DecoderCheck) -> str:
    if check.remark:
        return f"  {check.sample}: {check.remark}"
    same = "same label" if check.label_agrees else "another label"
    return f"  {check.sample}: pixels differ by up to {check.max_abs_pixel_difference} of 255, {same}"


def _classify(options: argparse.Namespace) -> None:
    classifier = Classifier.load(options.bundle, options.variant)
    results: list[dict[str, object]] = []
    failed = 0
    for path in _pictures(options.paths):
        try:
            prediction = classifier.classify(path)
        except ImageError as error:
            failed += 1
            _complain(error)
            results.append({"path": str(path), "error": str(error)})
            continue
        results.append({"path": str(path), **asdict(prediction)})
        if not options.json:
            print(_describe_prediction(prediction, path))
    if options.json:
        _print_json(results)
    if failed:
        raise DeviceError(f"{failed} of {len(results)} pictures could not be classified")


def _pictures(paths: list[Path]) -> Iterator[Path]:
    """The files among `paths`, and the pictures in the folders among them, sorted.

    Raises:
        DeviceError: a folder holds no picture.
    """
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        inside = sorted(each for each in path.rglob("*") if each.suffix.lower() in SUFFIXES and each.is_file())
        if not inside:
            raise DeviceError(f"{path}: no picture in this folder; expected one of {', '.join(sorted(SUFFIXES))}")
        yield from inside


def _describe_prediction(prediction: Prediction | ClipAnswer, what: object) -> str:
    return f"{prediction.probability:6.1%}  {prediction.label or '(none of the classes)'}  {what}"


def _video(options: argparse.Namespace) -> None:
    found = classify_clip(Classifier.load(options.bundle, options.variant), options.path)
    if options.json:
        frames = [{"time_seconds": each.time_seconds, **asdict(each.prediction)} for each in found.frames]
        _print_json({"path": str(options.path), **asdict(found), "frames": frames})
        return
    for each in found.frames:
        print(f"{each.time_seconds:8.2f} s  {_describe_prediction(each.prediction, '').rstrip()}")
    print(_describe_prediction(found, options.path))


def _bench(options: argparse.Namespace) -> None:
    found = bench(options.bundle, options.variant, options.repeats, options.threads)
    if options.json:
        _print_json(asdict(found))
        return
    threads = f"{found.threads} threads" if found.threads else "threads as onnxruntime thinks right"
    print(f"one picture at a time; {threads}, {found.processors} processors")
    for each in found.variants:
        print(_describe_bench(each))


def _describe_bench(found: VariantBench) -> str:
    peak = f", at most {found.peak_memory_mib:.0f} MiB of memory" if found.peak_memory_mib else ""
    return "\n".join([
        f"{found.variant} on {found.providers[0]}: opened in {found.load_ms:.0f} ms{peak}",
        f"  {_describe_latency('from pixels', found.pixels)}",
        f"  {_describe_latency('from a file', found.file)}",
    ])  # fmt: skip


def _describe_latency(what: str, latency: Latency) -> str:
    return (
        f"{what}: median {latency.median_ms:.2f} ms, 95 % within {latency.p95_ms:.2f} ms,"
        f" first {latency.first_ms:.2f} ms, {latency.calls} calls"
    )


def _info(options: argparse.Namespace) -> None:
    contract = Contract.read(options.bundle / CONTRACT)
    library = onnxruntime()
    classifier = Classifier.load(options.bundle)
    values: dict[str, object] = {
        "classes": contract.classes,
        "variants": [f"{each.name} ({each.bytes} bytes)" for each in contract.variants],
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
        print(f"{name}: {', '.join(value) if isinstance(value, (list, tuple)) else value}")


def _print_json(value: object) -> None:
    print(schema.printable(value, getattr(sys.stdout, "encoding", None)))


def _complain(message: object) -> None:
    print(f"runtime: {message}", file=sys.stderr)


def _discard_output() -> None:
    """Point standard output nowhere, so that Python's own flush at the end has nothing to fail on."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
