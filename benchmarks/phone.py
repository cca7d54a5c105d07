"""What the phone's page costs: `python benchmarks/phone.py BUNDLE.zip [--quick] [--json]`.

Needs chromium, chromedriver and npm. Prints the time of one golden picture in Chromium's WebAssembly, on one thread and
on as many as the page takes, and in native onnxruntime on one thread, for the same graph; the bytes of the page, and of
the same files with gzip; and the seconds from opening the page to the end of its check, at two visits.
Native and browser run in turns. CPU times are of the process and, for the browser, of all its processes: on a busy
machine they tell more than the clock. A ratio is the native CPU time divided by the browser's, so below 1 the browser
is slower.

With `--webgpu` it prints instead, for each graph of the bundle, how far its golden logits are off in WebAssembly and in
WebGPU, and the time of a picture. Chromium's SwiftShader computes WebGPU on the processor: the numbers count there,
and the times do not.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import psutil

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from export.phone import page_files  # noqa: E402  # of this checkout
from export.phone.folder import phone  # noqa: E402
from pipeline.base.project import Project  # noqa: E402
from runtime.archive import unpack  # noqa: E402
from runtime.classifier import CONTRACT, Classifier  # noqa: E402
from runtime.contract import Contract  # noqa: E402
from runtime.golden import GOLDEN, Golden, read_pixels  # noqa: E402
from runtime.session import Opening  # noqa: E402
from tests.support.phone_page import PhoneBrowser, fetch_package, serving  # noqa: E402

PICTURES = 5  # in a round
ONE_THREAD = "Object.defineProperty(navigator, 'serviceWorker', { value: undefined })"
PREPARE = """
const { selfcheck } = await import("./selfcheck.js");
const { pixelsOfFile } = await import("./pixels.js");
const { bytesOf } = await import("./files.js");
const about = JSON.parse(new TextDecoder().decode(await bytesOf("page.json")));
const model = await selfcheck(about, () => {});
const pixels = await pixelsOfFile(new Blob([await bytesOf(about.golden[0].pixels)], { type: "image/png" }));
globalThis.answers = async (count) => {
  const times = [];
  for (let n = 0; n < count; n += 1) times.push((await model.engine.answer(pixels, model.contract)).milliseconds);
  return times;
};
await globalThis.answers(3);
return Number(document.documentElement.dataset.threads);
"""

GOLDEN_MOST = 3  # golden pictures: SwiftShader takes seconds for each
NO_WEBGPU_ON_PAGE = "Object.defineProperty(Navigator.prototype, 'gpu', { value: undefined });"
OPEN_ENGINE = """
const { Engine, LIBRARIES } = await import("./engine.js");
const { pixelsOfFile } = await import("./pixels.js");
const { bytesOf } = await import("./files.js");
const json = async (name) => JSON.parse(new TextDecoder().decode(await bytesOf(name)));
const [about, contract] = [await json("page.json"), await json("model/contract.json")];
const cpuNodes = given[0] ? about.webgpu.cpu_nodes : undefined;
const wasm = await bytesOf(LIBRARIES[given[0] ? "webgpu" : "processor"].wasm);
globalThis.engine?.close();
globalThis.engine = await Engine.open({ wasm, graph: await bytesOf(about.graph), cpuNodes }, contract);
globalThis.answer = async (number) => {
  const pixels = await pixelsOfFile(new Blob([await bytesOf(about.golden[number].pixels)], { type: "image/png" }));
  return globalThis.engine.answer(pixels, contract);
};
"""


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--quick", action="store_true", help="2 rounds instead of 10")
    parser.add_argument("--webgpu", action="store_true", help="compare WebAssembly and WebGPU in software instead")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="phone-") as folder:
        if arguments.webgpu:
            result = _compare_webgpu(arguments.bundle, Path(folder))
        else:
            result = _measure(arguments.bundle, Path(folder), 2 if arguments.quick else 10)
    print(json.dumps(result, indent=2) if arguments.json else "\n".join(_lines(result)))


def _lines(result: dict[str, Any]) -> list[str]:
    lines = []
    for name, value in result.items():
        lines += (
            [name, *(f"  {key:36} {each}" for key, each in value.items())]
            if isinstance(value, dict)
            else [f"{name} {value}"]
        )
    return lines


def _measure(bundle_zip: Path, work: Path, rounds: int) -> dict[str, Any]:
    unpack(bundle_zip, work / "bundle")
    package = fetch_package(ROOT / "build" / "ort")
    report = phone(Project(work), bundle_zip, package, work / "page", single=False)
    one_file = phone(Project(work), bundle_zip, package, work / "page.html", single=True)
    sample = Golden.read(work / "bundle" / GOLDEN).samples[0]
    image = read_pixels(work / "bundle" / GOLDEN, sample)[np.newaxis]
    native = Classifier.load(work / "bundle", report.variant, Opening(threads=1))
    visits: dict[str, float] = {}
    with serving(work / "page") as address:
        with PhoneBrowser() as browser:
            for visit in ("first", "second"):
                started = time.perf_counter()
                browser.open(address)
                visits[f"{visit}_visit_seconds"] = round(time.perf_counter() - started, 2)
        times: dict[str, list[float]] = {}
        threads: dict[str, int] = {}
        for name, script in (("browser_one_thread", ONE_THREAD), ("browser_threads", None)):
            with PhoneBrowser() as browser:
                if script is not None:
                    browser.before_load(script)
                browser.open(address)
                threads[name] = browser.run(PREPARE)
                processes = _with_children(browser.driver.service.process.pid)
                for _ in range(rounds):
                    before, started = time.process_time(), time.perf_counter()
                    for _ in range(PICTURES):
                        native.logits(image)
                    _note(times, "native_one_thread", time.perf_counter() - started, time.process_time() - before)
                    before = _cpu_seconds(processes)
                    spent = browser.run(f"return globalThis.answers({PICTURES})")
                    _note(times, name, sum(spent) / 1000, _cpu_seconds(processes) - before)
    medians = {f"{name}_ms": round(statistics.median(values), 2) for name, values in times.items()}
    files = [path for path in (work / "page").rglob("*") if path.is_file()]
    ours = medians["browser_one_thread_cpu_ms"]
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} processors",
        "picture": f"{sample.width} x {sample.height}, {report.variant}",
        "threads": threads,
        "medians": medians,
        "ratios": {"native_to_browser_one_thread": round(medians["native_one_thread_cpu_ms"] / ours, 3)},
        "megabytes": {
            "folder": round(report.bytes / 1e6, 2),
            "folder_with_gzip": round(sum(len(gzip.compress(path.read_bytes())) for path in files) / 1e6, 2),
            "single_file": round(one_file.bytes / 1e6, 2),
        },
        "visits": visits,
    }


def _compare_webgpu(bundle_zip: Path, work: Path) -> dict[str, Any]:
    unpack(bundle_zip, work / "bundle")
    result: dict[str, Any] = {}
    for variant in Contract.read(work / "bundle" / CONTRACT).variants:
        page = work / variant.name
        with (
            mock.patch.object(page_files, "_PREFERRED", (variant.name,)),
            mock.patch.object(page_files, "_FLOAT", (variant.precision,)),  # the page tries no others
        ):
            report = phone(Project(work), bundle_zip, fetch_package(ROOT / "build" / "ort"), page, single=False)
        about = json.loads((page / "page.json").read_text(encoding="utf-8"))
        rows: dict[str, Any] = {"allowed": round(about["allowed_logit"], 6), "megabytes": round(report.bytes / 1e6, 2)}
        with serving(page) as address, PhoneBrowser(webgpu=True) as browser:
            browser.before_load(NO_WEBGPU_ON_PAGE)
            browser.open(address)
            for where in ("wasm", "webgpu"):
                try:
                    browser.run(OPEN_ENGINE, where == "webgpu")
                    answers = [
                        browser.run("return globalThis.answer(given[0])", number) for number in range(GOLDEN_MOST)
                    ]
                except AssertionError as error:
                    rows[where] = str(error)
                    continue
                expected = [sample["logits"] for sample in about["golden"][:GOLDEN_MOST]]
                found = [answer["logits"] for answer in answers]
                difference = float(np.abs(np.subtract(found, expected)).max())
                rows[where] = f"off by {difference:.2g}, {answers[-1]['milliseconds']:.0f} ms"
        result[variant.name] = rows
    return result


def _note(times: dict[str, list[float]], name: str, seconds: float, cpu_seconds: float) -> None:
    times.setdefault(name, []).append(1000 * seconds / PICTURES)
    times.setdefault(f"{name}_cpu", []).append(1000 * cpu_seconds / PICTURES)


def _with_children(number: int) -> list[psutil.Process]:
    process = psutil.Process(number)
    return [process, *process.children(recursive=True)]


def _cpu_seconds(processes: list[psutil.Process]) -> float:
    used = [process.cpu_times() for process in processes if process.is_running()]
    return sum(times.user + times.system for times in used)


if __name__ == "__main__":
    main()
