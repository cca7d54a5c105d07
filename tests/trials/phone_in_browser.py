"""Trial of the phone's page in Chromium: answers as the runtime, planted faults and planted gaps of the browser.

python -m tests.trials.phone_in_browser [BUNDLE.zip]    needs chromium, chromedriver and npm; about four minutes

Without a bundle it makes one whose graph names the colour of a picture. Of a bundle each variant gets a page. What goes
wrong is marked, and the exit code is 1.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from unittest import mock

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from export.bundle.stage import bundle
from export.phone import page_files
from export.phone.folder import phone
from pipeline.base.project import Project
from pipeline.tools.adding.from_phone import add_from_phone
from runtime.answers import KNOWN_SCORE
from runtime.archive import unpack
from runtime.classifier import Classifier
from runtime.contract import Contract
from runtime.golden import GOLDEN, Golden, read_pixels
from runtime.images import read_image
from runtime.video import classify_clip
from tests.support.examples import NotHereError
from tests.support.phone_page import PhoneBrowser, ServedPage, fetch_package, renew_hash, serving, write_camera_film
from tests.support.phone_webgpu import FAULTS, GOOD_WEBGPU, resizing_bundle
from tests.support.tiny_bundle import (
    CLASSES,
    ROOT,
    draft_contract,
    picture,
    scored_graph,
    with_thresholds,
    write_colour_clip,
    write_project,
)

ANSWERED = "return document.querySelectorAll('#shares li').length > 0"
STILL_ANSWERED = f"{ANSWERED} && document.getElementById('state').textContent === 'Picture'"
REFUSED = "No answers"
LOGITS = """
const [page, names] = given;
const { selfcheck } = await import("./selfcheck.js");
const { pixelsOfFile } = await import("./pixels.js");
const { bytesOf } = await import("./files.js");
const about = JSON.parse(new TextDecoder().decode(await bytesOf("page.json")));
const model = await selfcheck(about, () => {});
const answers = [];
for (const name of names) {
  const pixels = await pixelsOfFile(new Blob([await bytesOf(name)], { type: "image/png" }));
  answers.push(await model.engine.answer(pixels, model.contract));
}
return answers;
"""


PIXELS = """
const { pixelsOfFile } = await import("./pixels.js");
const { bytesOf } = await import("./files.js");
const { rgb, width, height } = await pixelsOfFile(new Blob([await bytesOf(given[0])]));
return { rgb: Array.from(rgb), width, height };
"""

CONVERTED = """
const { pixelsOf } = await import("./pixels.js");
const { bytesOf } = await import("./files.js");
const bitmap = await createImageBitmap(new Blob([await bytesOf(given[0])]));
return Array.from(pixelsOf(bitmap, bitmap.width, bitmap.height).rgb);
"""
SLOW_CAMERA = """
Object.assign(globalThis, { asked: 0, streams: 0, canvases: 0, drawn: 0 });
const allowed = new Promise((resolve) => { globalThis.allow = resolve; });
const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
navigator.mediaDevices.getUserMedia = async (wanted) => {
  globalThis.asked += 1;
  await allowed;
  globalThis.streams += 1;
  return ask(wanted);
};
const make = document.createElement.bind(document);
document.createElement = (name) => { globalThis.canvases += name === "canvas"; return make(name); };
const draw = CanvasRenderingContext2D.prototype.drawImage;
CanvasRenderingContext2D.prototype.drawImage = function (...given) { globalThis.drawn += 1; draw.apply(this, given); };
"""
HOLD_DECODER = """
const decode = globalThis.createImageBitmap;
globalThis.release = undefined;
globalThis.createImageBitmap = (...given) => {
  globalThis.createImageBitmap = decode;
  return new Promise((resolve) => {
    globalThis.release = () => { const bitmap = decode(...given); resolve(bitmap); return bitmap.then(() => null); };
  });
};
"""
HOLD_SEEK = """
const time = Object.getOwnPropertyDescriptor(HTMLMediaElement.prototype, "currentTime");
globalThis.release = undefined;
Object.defineProperty(HTMLMediaElement.prototype, "currentTime", { configurable: true, get: time.get, set(second) {
  Object.defineProperty(HTMLMediaElement.prototype, "currentTime", time);
  globalThis.release = () => new Promise((resolve) => {
    this.addEventListener("seeked", resolve, { once: true });
    this.currentTime = second;
  });
} });
"""
LISTEN = """
globalThis.heard = [];
const post = Worker.prototype.postMessage;
Worker.prototype.postMessage = function (message, ...rest) {
  if (message?.task === "run" && document.getElementById("state").textContent === "Live") {
    const { number, height, width } = message, rgb = Array.from(message.rgb);
    this.addEventListener("message", ({ data }) => {
      if (data.number !== number || data.result === undefined) return;
      const { logits } = data.result, best = logits.indexOf(Math.max(...logits));
      if (globalThis.heard.some((other) => other.best === best)) return;
      globalThis.heard.push({ rgb, height, width, logits, best });
    });
  }
  post.call(this, message, ...rest);
};
"""
CONTRASTS = """
const light = (colour) => {
  const parts = colour.match(/[0-9.]+/g).slice(0, 3).map((part) => part / 255);
  const [red, green, blue] = parts.map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
};
const behind = (element) => {
  const colour = getComputedStyle(element).backgroundColor;
  return colour === "rgba(0, 0, 0, 0)" ? behind(element.parentElement) : colour;
};
return given[0].map((part) => {
  const element = document.querySelector(part);
  const [darker, lighter] = [getComputedStyle(element).color, behind(element)].map(light).sort((a, b) => a - b);
  return (lighter + 0.05) / (darker + 0.05);
});
"""
THREE_PICTURES = "for (let n = 0; n < 3; n += 1) await new Promise(requestAnimationFrame);"
AN_HOUR_LATER = """
const { Date: Now } = globalThis;
globalThis.Date = class extends Now {
  constructor(...given) { super(...(given.length ? given : [Now.now() + 3600000])); }
};
"""
SAMPLES = """
const { Samples } = await import("./samples.js");
return (await (await Samples.open()).all()).map(({ blob, ...about }) => ({ ...about, bytes: blob.size }));
"""
ON_WEBGPU = "Computes on the graphics processor (WebGPU)"
STORED = """
const folder = async () => {
  const root = await navigator.storage.getDirectory();
  for await (const [name, handle] of root.entries()) {
    if (decodeURIComponent(name) === "clip2edge samples /") return handle;
  }
};
const inFolder = await folder();
const files = {};
if (inFolder) for await (const [name, handle] of inFolder.entries()) files[name] = (await handle.getFile()).size;
const database = await new Promise((resolve) => {
  indexedDB.open("clip2edge samples /").onsuccess = ({ target }) => resolve(target.result);
});
const records = await new Promise((resolve) => {
  database.transaction("samples").objectStore("samples").getAll().onsuccess = ({ target }) => resolve(target.result);
});
database.close();
return { files, records: records.map(({ label, stored, blob }) => ({ label, file: stored?.name, bytes: blob?.size })) };
"""
LOST_FILE = """
const root = await navigator.storage.getDirectory();
const folder = await root.getDirectoryHandle(encodeURIComponent("clip2edge samples /"));
const writable = await (await folder.getFileHandle("lost", { create: true })).createWritable();
await writable.write("a picture whose tab has ended");
await writable.close();
"""
CUT_FILE = """
const root = await navigator.storage.getDirectory();
const folder = await root.getDirectoryHandle(encodeURIComponent("clip2edge samples /"));
for await (const handle of folder.values()) {
  const writable = await handle.createWritable({ keepExistingData: true });
  await writable.truncate(100);
  await writable.close();
}
"""
OLD_SAMPLE = """
const request = indexedDB.open("clip2edge samples /", 1);
request.onupgradeneeded = () => {
  const store = request.result.createObjectStore("samples", { keyPath: "id", autoIncrement: true });
  const blob = new Blob([new Uint8Array(1000)], { type: "image/jpeg" });
  const answer = { label: null, probability: 0.5, score: 0.5 };
  const when = { recorded_at: "2026-11-01T12:00:00+01:00", session: "2026-11-01T11:00:00+01:00" };
  const about = { kind: "picture", origin: "camera", bundle_id: "b", variant: "int8", region: null };
  store.add({ ...about, ...when, label: "of version 1", answer, blob });
};
request.onsuccess = () => request.result.close();
"""
CATCH_ZIP = """
HTMLAnchorElement.prototype.click = () => {};
const make = URL.createObjectURL;
URL.createObjectURL = (blob) => {
  if (blob.type === "application/zip") globalThis.zip = blob;
  return make.call(URL, blob);
};
"""
SPEAKS_GERMAN = "Object.defineProperty(navigator, 'languages', { value: ['fr', 'de-AT'] });"


@dataclass(frozen=True)
class Gap:
    """A part of the browser that is taken away, and what the page then says."""

    name: str
    script: str
    says: str
    part: str = "#line"  # of the page, where it says so
    answers: bool = True  # whether the page still answers for pictures
    press: str = ""  # the button that makes the page say it


def without(owner: str, name: str) -> str:
    """A script that takes a part of the browser away."""
    return f"Object.defineProperty({owner}, '{name}', {{ value: undefined }});"


def failing(function: str, error: str, message: str = "") -> str:
    """A script that lets a function of the browser throw an error of its kind."""
    return f"{function} = function () {{ throw new DOMException('{message}', '{error}'); }};"


CAMERA = "navigator.mediaDevices.getUserMedia"
OPFS = "navigator.storage.getDirectory"
NO_WRITING = "delete FileSystemFileHandle.prototype.createWritable;"
NO_FILES = "has no file storage (OPFS)"
CHANGED_PIXELS = """
const read = CanvasRenderingContext2D.prototype.getImageData;
CanvasRenderingContext2D.prototype.getImageData = function (...box) {
  const image = read.apply(this, box);
  image.data[0] ^= 1;
  return image;
};
"""
NO_STORAGE = (
    "Object.defineProperty(globalThis, 'localStorage', { get() { throw new DOMException('', 'SecurityError'); } });"
)
MOST_UNTIL_FULL = 500
LEAST_CONTRAST = 4.5  # WCAG 2, level AA
GAPS = (
    Gap("no camera", failing(CAMERA, "NotFoundError"), "this device has none"),
    Gap("camera not allowed", failing(CAMERA, "NotAllowedError"), "it is not allowed"),
    Gap("camera in use", failing(CAMERA, "NotReadableError"), "another app or tab uses it"),
    Gap("no mediaDevices", without("navigator", "mediaDevices"), "this browser offers none"),
    Gap(
        "no secure context",
        without("globalThis", "isSecureContext") + without("crypto", "subtle"),
        "https and localhost only",
    ),
    Gap("no service worker", without("navigator", "serviceWorker"), "keeps no pages", "#about"),
    Gap(
        "service worker refused",
        failing("ServiceWorkerContainer.prototype.register", "AbortError", "interrupted"),
        "refused to keep the page (interrupted)",
        "#about",
    ),
    Gap("no IndexedDB", without("globalThis", "indexedDB"), "Samples cannot be kept", press="#show-samples"),
    Gap(
        "storage that fails",
        failing("IDBFactory.prototype.open", "SecurityError", "planted"),
        "Samples cannot be kept: planted",
        press="#wrong",
    ),
    Gap("no OPFS", without("StorageManager.prototype", "getDirectory"), NO_FILES, "#about"),
    Gap("OPFS refused", failing(OPFS, "SecurityError"), NO_FILES, "#about"),
    Gap("OPFS that cannot be written, as in Safari before 26", NO_WRITING, NO_FILES, "#about"),
    Gap("no MediaRecorder", without("globalThis", "MediaRecorder"), "the clip cannot be kept", press="#record"),
    Gap("no localStorage", NO_STORAGE, ""),
    Gap("no WebAssembly", without("globalThis", "WebAssembly"), "has no WebAssembly", answers=False),
    Gap("no workers", failing("globalThis.Worker", "SecurityError"), "starts no workers", answers=False),
    Gap("pixels that are changed", CHANGED_PIXELS, "This browser changes pixels", answers=False),
)


class Trial:
    """The checks, and how many went wrong."""

    def __init__(self, work: Path, bundle_zip: Path, film: Path) -> None:
        """Prepare a page in `work`."""
        self.work, self.bundle_zip, self.film = work, bundle_zip, film
        self.package = fetch_package(ROOT / "build" / "ort")
        self.bundle = work / "bundle"
        unpack(bundle_zip, self.bundle)
        self.contract = Contract.read(self.bundle / "contract.json")
        self.page = work / "page"
        phone(Project(work), bundle_zip, self.package, self.page, single=False)
        self.wrong = 0

    def check(self, name: str, holds: object, remark: object = "") -> None:
        """Print one line."""
        self.wrong += not holds
        print(f"{'ok   ' if holds else 'WRONG'} {name}{f': {remark}' if remark != '' else ''}", flush=True)

    @contextmanager
    def opened(self, page: Path, gap: str | None = None) -> Iterator[PhoneBrowser]:
        """Serve a page and open it in a new browser."""
        with serving(page) as address, PhoneBrowser(self.film) as browser:
            if gap is not None:
                browser.before_load(gap)
            browser.open(address)
            yield browser

    def copy(self, name: str) -> Path:
        """A page that may be broken."""
        target = self.work / f"broken {name}"
        return Path(shutil.copytree(self.page, target))

    def same_answers(self) -> None:
        """Each variant computes in the browser what the runtime computes, on golden pictures and on other frames."""
        golden = Golden.read(self.bundle / GOLDEN)
        pictures = [read_pixels(self.bundle / GOLDEN, sample) for sample in golden.samples]
        pictures += [np.ascontiguousarray(pixels[:-1, 1:, ::-1]) for pixels in pictures]
        for variant in self.contract.variants:
            page = self.work / f"page {variant.name}"
            with mock.patch.object(page_files, "_PREFERRED", (variant.name,)):
                phone(Project(self.work), self.bundle_zip, self.package, page, single=False)
            names = [f"frame{number}.png" for number in range(len(pictures))]
            for name, pixels in zip(names, pictures, strict=True):
                Image.fromarray(pixels).save(page / name)
            with self.opened(page) as browser:
                answers = browser.run(LOGITS, "page", names)
                threads = browser.run("return document.documentElement.dataset.threads")
                outside = [url for url in browser.requests() if not url.startswith(("http://localhost:", "blob:"))]
            classifier = Classifier.load(self.bundle, variant.name)
            expected = [classifier.answers(pixels[np.newaxis]) for pixels in pictures]
            logits = np.concatenate([each.logits for each in expected])
            found = np.array([answer["logits"] for answer in answers])
            difference = float(np.abs(found - logits).max())
            allowed = variant.golden_tolerance * float(np.ptp(golden.expected(variant.name, logits.shape[1])))
            same = bool((found.argmax(1) == logits.argmax(1)).all())
            remark = (
                f"{len(pictures)} pictures, logits differ by {difference:.2g}, allowed {allowed:.2g}, {threads} threads"
            )
            self.check(f"{variant.name} answers as the runtime", difference <= allowed and same, remark)
            self.check(f"{variant.name} asks nobody else", not outside, outside or "")

    def live_frames(self) -> None:
        """What the camera shows gets the logits that the runtime computes from the same pixels."""
        with serving(self.page) as address, PhoneBrowser(self.film) as browser:
            browser.before_load(LISTEN)
            browser.open(address)
            browser.until("return globalThis.heard.length > 1")
            heard = browser.run("return globalThis.heard")
        variant = self.contract.variant(json.loads((self.page / "page.json").read_text(encoding="utf-8"))["variant"])
        classifier = Classifier.load(self.bundle, variant.name)
        frames = [np.array(live["rgb"], np.uint8).reshape(1, live["height"], live["width"], 3) for live in heard]
        logits = np.concatenate([classifier.answers(frame_nhwc).logits for frame_nhwc in frames])
        found = np.array([live["logits"] for live in heard])
        allowed = variant.golden_tolerance * float(np.ptp(logits))
        difference, other = (float(np.abs(found - rows).max()) for rows in (logits, logits[::-1]))
        right = difference <= allowed < other and bool((found.argmax(1) == logits.argmax(1)).all())
        remark = f"{len(heard)} frames, logits differ by {difference:.2g}, allowed {allowed:.2g}; swapped {other:.2g}"
        self.check("live frames get the runtime's answers", right, remark)

    def same_pixels(self) -> None:
        """Files become the pixels that the runtime reads: upright, alpha over white, no colour profile applied."""
        folder = self.copy("pixels")
        files = write_pictures(folder)
        with_profile = "profile.png"
        with self.opened(folder) as browser:
            for name, levels in files.items():
                expected = read_image(folder / name, max_pixels=10**6)
                found = browser.run(PIXELS, name)
                shape = (found["height"], found["width"], 3)
                if shape != expected.shape:
                    self.check(f"pixels of {name}", False, shape)
                    continue
                pixels = np.array(found["rgb"], np.int16).reshape(shape)
                difference = float(np.abs(pixels - expected).mean())
                self.check(
                    f"pixels of {name}", difference <= levels, f"{difference:.2f} levels apart, allowed {levels}"
                )
            stored = read_image(folder / with_profile, max_pixels=10**6)
            converted = np.array(browser.run(CONVERTED, with_profile), np.int16).reshape(stored.shape)
            levels = float(np.abs(converted - stored).mean())
            self.check("with its profile applied it differs", levels > 5, f"{levels:.2f} levels apart")

    def clip_file(self) -> None:
        """A clip's file gets the verdict of the runtime, also one that states no length."""
        if self.contract.classes != CLASSES:
            print("none  a clip's file: only for the bundle that the trial makes", flush=True)
            return
        colours = [0, 1, 1, 2]
        stated, endless = write_colour_clip(self.work / "clip.mp4", colours), self.work / "clip.webm"
        write_endless_clip(endless, colours)
        for path in (stated, endless):
            expected = classify_clip(Classifier.load(self.bundle), path)
            with self.opened(self.page) as browser:
                browser.give_file(path)
                browser.until("return document.getElementById('state').textContent.startsWith('Clip')")
                shown = browser.text("#label"), browser.text("#state")
            same = shown == (expected.label, f"Clip, {len(expected.frames)} frames")
            self.check(f"{path.name} gets the runtime's verdict", same, f"{shown}, {expected.label}")

    def latest_answer(self) -> None:
        """What was asked for last is shown, one camera is opened, and live pictures need few canvases."""
        first, second = self.work / "first.png", self.work / "second.png"
        Image.fromarray(picture(0, 40, 60)).save(first)
        Image.fromarray(picture(1, 24, 32)).save(second)
        with serving(self.page) as address, PhoneBrowser(self.film) as browser:
            browser.before_load(SLOW_CAMERA)
            browser.open(address)
            browser.until("return globalThis.asked === 1")
            browser.press("#camera")
            browser.run("globalThis.allow()")
            browser.until(ANSWERED)
            counts = browser.run("return [globalThis.asked, globalThis.streams]")
            self.check("two presses open one camera", counts == [1, 1], counts)
            before = browser.run("return globalThis.canvases")
            browser.until("return globalThis.drawn > 20")
            made = browser.run("return globalThis.canvases") - before
            self.check("live pictures need no more canvases", made == 0, made)
            browser.open(address)
            browser.until("return globalThis.asked === 1")
            browser.give_file(second)
            browser.until(STILL_ANSWERED)
            browser.run("globalThis.allow()")
            browser.until("return document.getElementById('video').videoWidth > 0")
            browser.run(THREE_PICTURES)
            self.check("a camera that opens late changes no answer", on_stage(browser) == ["Picture", 32, 24])
            browser.run(HOLD_DECODER)
            browser.give_file(first)
            browser.until("return globalThis.release !== undefined")
            browser.give_file(second)
            browser.until(STILL_ANSWERED)
            answer = browser.text("#answer")
            browser.run(f"await globalThis.release(); {THREE_PICTURES}")
            same = on_stage(browser) == ["Picture", 32, 24] and browser.text("#answer") == answer
            self.check("a file that is read late changes no answer", same, on_stage(browser))
            clip = write_colour_clip(self.work / "held.mp4", [0, 1, 1, 2])
            browser.run(HOLD_SEEK)
            browser.give_file(clip)
            browser.until("return globalThis.release !== undefined")
            browser.press("#camera")
            browser.until(f"{ANSWERED} && document.getElementById('state').textContent === 'Live'")
            browser.run(f"await globalThis.release(); {THREE_PICTURES}")
            live = browser.run("return !document.getElementById('video').hidden") and browser.text("#state") == "Live"
            keep(browser, "live")
            kinds = [sample["kind"] for sample in browser.run(SAMPLES)]
            self.check("a clip that is no longer wanted ends", live and kinds == ["picture"], kinds)

    def unreadable(self) -> None:
        """A file that cannot be read is told, and ends neither the live answers nor the way to them."""
        broken = self.work / "broken.png"
        broken.write_bytes(b"no picture")
        with self.opened(self.page) as browser:
            browser.until(ANSWERED)
            browser.give_file(broken)
            browser.until("return document.getElementById('line').textContent !== ''")
            browser.until(f"{ANSWERED} && document.getElementById('state').textContent === 'Live'")
            line = browser.text("#line")
            self.check("behind a file that cannot be read live answers go on", line != "", line)
            browser.press("#photo")
            browser.until(STILL_ANSWERED)
            browser.give_file(broken)
            browser.until("return document.getElementById('state').textContent === 'No answer'")
            browser.press("#camera")
            browser.until(f"{ANSWERED} && document.getElementById('state').textContent === 'Live'")
            browser.run(
                "globalThis.pixels = CanvasRenderingContext2D.prototype.getImageData;"
                "CanvasRenderingContext2D.prototype.getImageData = () => { throw new Error('planted'); };"
            )
            browser.until("return !document.getElementById('camera').hidden")
            line = browser.text("#line")
            browser.run("CanvasRenderingContext2D.prototype.getImageData = globalThis.pixels;")
            browser.press("#camera")
            browser.until(f"{ANSWERED} && document.getElementById('state').textContent === 'Live'")
            self.check("after an error “Live camera” starts anew", "planted" in line, line)

    def names_of_classes(self) -> None:
        """A class that is typed in capitals is the known one, a name of no folder is refused, and Enter keeps."""
        known = self.contract.classes[0]
        with self.opened(self.page) as browser:
            browser.until(ANSWERED)
            browser.press("#wrong")
            field = browser.driver.find_element("id", "new-class")
            field.send_keys("a/b")
            refused = browser.text("#class-line"), browser.run("return document.getElementById('keep-new').disabled")
            self.check("a name with a slash is refused", "no slash" in refused[0] and refused[1], refused[0])
            field.clear()
            field.send_keys("Something new\n")
            browser.until("return document.getElementById('show-samples').innerText === 'Samples (1)'")
            keep(browser, "SOMETHING NEW")
            keep(browser, known.upper())
            labels = [sample["label"] for sample in browser.run(SAMPLES)]
            self.check("one class has one spelling", labels == ["Something new", "Something new", known], labels)

    def about_samples(self) -> None:
        """A sample has the region and the time of its picture, whatever is set before it is kept."""
        with self.opened(self.page) as browser:
            browser.until(ANSWERED)
            browser.press("#photo")
            browser.until(STILL_ANSWERED)
            browser.press("#set-region")
            browser.drag("#frame", (0.25, 0.25), (0.75, 0.5))
            browser.until("return !document.getElementById('region').hidden")
            browser.run(AN_HOUR_LATER)
            keep(browser, "whole")
            [sample] = browser.run(SAMPLES)
            is_early = datetime.fromisoformat(sample["recorded_at"]) <= datetime.now(UTC)
            self.check("a sample says what its picture was", sample["region"] is None and is_early, sample)

    def language(self) -> None:
        """A language is a file; what it lacks is English."""
        page = self.copy("language")
        (page / "strings.de.json").write_text(json.dumps({"file": "Datei öffnen"}), encoding="utf-8")
        about = json.loads((page / "page.json").read_text(encoding="utf-8"))
        (page / "page.json").write_text(json.dumps(about | {"languages": ["de", "en"]}), encoding="utf-8")
        with self.opened(page, SPEAKS_GERMAN) as browser:
            texts = browser.text("#file"), browser.text("#set-region")
            self.check("a language is a file", texts == ("Datei öffnen", "Set region"), texts)

    def schemes(self) -> None:
        """Words stand out from what is behind them, light and dark, and a phone's width needs no scrolling sideways."""
        parts = ["#state", "#label", "#shares span:last-child", "#about", "#photo", "#record", "#wrong"]
        backs = set()
        with self.opened(self.page) as browser:
            browser.be_narrow()
            browser.until(ANSWERED)
            for scheme in ("light", "dark"):
                features = [{"name": "prefers-color-scheme", "value": scheme}]
                browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
                browser.run(THREE_PICTURES)
                backs.add(browser.run("return getComputedStyle(document.documentElement).backgroundColor"))
                lowest = min(browser.run(CONTRASTS, parts))
                self.check(f"words can be read, {scheme}", lowest >= LEAST_CONTRAST, f"contrast {lowest:.1f}")
            browser.run("document.querySelector('#label').style.color = '#445'")
            lowest = min(browser.run(CONTRASTS, parts))
            self.check("dark words on dark are noticed", lowest < LEAST_CONTRAST, f"contrast {lowest:.1f}")
            width = browser.run("return document.documentElement.scrollWidth")
            self.check("the page is as wide as the phone, and has two schemes", width == 390 and len(backs) == 2, width)

    def offline(self) -> None:
        """With the server gone, the page checks itself, answers live and keeps samples."""
        with PhoneBrowser(self.film) as browser:
            with serving(self.page) as address:
                browser.open(address)
                browser.until(ANSWERED)
                self.check("the page says that it is kept", "Works without a network" in browser.text("#about"))
            browser.open(address)
            browser.until(ANSWERED)
            isolated = browser.run("return crossOriginIsolated")
            self.check("without the server it answers live, with threads", isolated, browser.text("#label"))
            browser.press("#photo")
            browser.until("return document.getElementById('state').textContent === 'Picture'")
            keep(browser, "offline")
            self.check("without the server it keeps a sample", "Samples (1)" in browser.text("#show-samples"))

    def faults(self) -> None:
        """Changed files are refused, and so are wrong numbers whose hashes are right."""
        flipped = self.copy("graph")
        graph = flipped / json.loads((self.page / "page.json").read_text(encoding="utf-8"))["graph"]
        name = graph.relative_to(flipped).as_posix()
        content = bytearray(graph.read_bytes())
        content[len(content) // 2] ^= 1
        graph.write_bytes(content)
        self._refused("a flipped byte in the graph", flipped, f"{name} is not the file")
        renew_hash(flipped, name)
        self._refused("the same, named by page.json", flipped, "contract.json names another graph")
        wasm = self.copy("wasm")
        binary = wasm / "ort" / "ort-wasm-simd-threaded.wasm"
        binary.write_bytes(binary.read_bytes()[:-1000])
        self._refused("a truncated wasm", wasm, "ort-wasm-simd-threaded.wasm is not the file")
        renew_hash(wasm, "ort/ort-wasm-simd-threaded.wasm")
        self._refused("the same, named by page.json", wasm, "The classifier failed")
        missing = self.copy("missing")
        (missing / "model" / "contract.json").unlink()
        self._refused("a missing contract", missing, "model/contract.json cannot be loaded")
        for fault, change, says in (
            ("no golden pictures", lambda about: about.update(golden=[]), "has no golden pictures"),
            ("a golden score that is missing", lambda about: about["golden"][0].update(score=None), "not all of their"),
        ):
            if self.contract.unknown_score != KNOWN_SCORE and "score" in fault:
                continue
            golden = self.copy(fault)
            about = json.loads((golden / "page.json").read_text(encoding="utf-8"))
            change(about)
            (golden / "page.json").write_text(json.dumps(about), encoding="utf-8")
            self._refused(fault, golden, says)
        for fault, key, says in (
            ("logit", "logits", "computes other numbers"),
            ("score", "score", "computes other numbers"),
        ):
            golden = self.copy(f"golden {fault}")
            about = json.loads((golden / "page.json").read_text(encoding="utf-8"))
            if about["golden"][0][key] is None:
                continue
            if key == "logits":
                about["golden"][0][key][0] += 1.0
            else:
                about["golden"][0][key] += 1.0
            (golden / "page.json").write_text(json.dumps(about), encoding="utf-8")
            self._refused(f"a wrong golden {fault}", golden, says)
        decoder = self.copy("decoder")
        sample = json.loads((decoder / "page.json").read_text(encoding="utf-8"))["golden"][0]
        with Image.open(decoder / sample["pixels"]) as pixels:
            Image.fromarray(np.asarray(pixels)[..., ::-1]).save(decoder / sample["image"], "JPEG", quality=95)
        renew_hash(decoder, sample["image"])
        self._refused("a JPEG of swapped channels", decoder, "JPEG decoder changes")

    def _refused(self, name: str, page: Path, says: str) -> None:
        with self.opened(page) as browser:
            shown = browser.text()
            offers = browser.run("return !document.getElementById('actions').hidden")
        self.check(f"refused: {name}", REFUSED in shown and says in shown and not offers, browser_line(shown))

    def gaps(self) -> None:
        """What a browser lacks is said in one line; where the page can still answer, it does."""
        for gap in GAPS:
            with self.opened(self.page, gap.script) as browser:
                if gap.press:
                    browser.until(ANSWERED)
                    browser.press(gap.press)
                if gap.says:
                    says = json.dumps(gap.says)
                    browser.until(f"return document.querySelector('{gap.part}').innerText.includes({says})", 20)
                if gap.answers:
                    remark = browser.text(gap.part).replace("\n", " ") if gap.says else ""
                    browser.give_file(self.bundle / GOLDEN / Golden.read(self.bundle / GOLDEN).samples[0].image)
                    browser.until(
                        f"return document.getElementById('state').textContent === 'Picture' && ({ANSWERED[7:]})"
                    )
                else:
                    remark = browser.text(gap.part)
                refuses = REFUSED in browser.text()
                self.check(
                    f"gap: {gap.name}", (browser.run(ANSWERED), refuses) == (gap.answers, not gap.answers), remark
                )

    def full_storage(self) -> None:
        """A full storage is said, and the samples that were there stay.

        Chromium may look at the quota anew every half minute only, and lets samples in until then.
        """
        with serving(self.page) as address, PhoneBrowser(self.film) as browser:
            browser.open(address)
            browser.until(ANSWERED)
            keep(browser, "first")
            quota = {"origin": address, "quotaSize": 1}
            browser.driver.execute_cdp_cmd("Storage.overrideQuotaForOrigin", quota)
            kept = 1
            for _ in range(MOST_UNTIL_FULL):
                browser.run("document.getElementById('line').textContent = ''")
                browser.press("#wrong")
                browser.until("return document.getElementById('correct').open")
                browser.press("#classes button")
                browser.until("return document.getElementById('line').textContent !== ''")
                if not browser.text("#line").startswith("Kept"):
                    break
                kept += 1
            right = "storage is full" in browser.text("#line") and f"Samples ({kept})" in browser.text("#show-samples")
            self.check("gap: storage full", right, f"{kept} kept; {browser.text('#line')}")
            stored = browser.run(STORED)
            halves = len(stored["files"]) - kept, len(stored["records"]) - kept
            self.check("full storage keeps no half of a sample", halves == (0, 0), stored["records"][-1])

    def full_at_each_write(self) -> None:
        """Storage that is full when the file is written, or its record, leaves neither."""
        for what, function in (
            ("the file", "FileSystemWritableFileStream.prototype.write"),
            ("the file's end", "FileSystemWritableFileStream.prototype.close"),
            ("the record", "IDBObjectStore.prototype.add"),
        ):
            with self.opened(self.page) as browser:
                browser.until(ANSWERED)
                keep(browser, "first")
                browser.run(failing(function, "QuotaExceededError"))
                browser.press("#wrong")
                browser.until("return document.getElementById('correct').open")
                browser.press("#classes button")
                browser.until("return document.getElementById('line').textContent.includes('storage is full')")
                stored = browser.run(STORED)
                whole = [record["file"] for record in stored["records"]] == list(stored["files"])
                self.check(f"full when {what} is written", whole and len(stored["files"]) == 1, browser.text("#line"))

    def files_of_samples(self) -> None:
        """A sample's file lies in OPFS, or in the database where there is none. Lost files go, others stay."""
        downloads = self.work / "both kinds"
        downloads.mkdir()
        in_database = (
            f"if (localStorage.getItem('opfs') === null) {{ {without('StorageManager.prototype', 'getDirectory')} }}"
        )
        with serving(self.page) as address, PhoneBrowser(self.film, downloads=downloads) as browser:
            browser.before_load(OLD_SAMPLE + in_database)
            browser.open(address)
            browser.until(ANSWERED)
            keep(browser, "in the database")
            browser.run("localStorage.setItem('opfs', 'yes')")
            browser.open(address)
            browser.until(ANSWERED)
            keep(browser, "in a file")
            stored = browser.run(STORED)
            *earlier, last = stored["records"]
            in_file = (
                last["bytes"] is None and stored["files"].get(last["file"], 0) > 1000 and len(stored["files"]) == 1
            )
            self.check("a sample's file lies in OPFS, and its record names it", in_file, stored["files"])
            held = [record["label"] for record in earlier if record["bytes"]] == ["of version 1", "in the database"]
            self.check("without OPFS, and in a version before, the record holds it", held, earlier)
            browser.press("#show-samples")
            browser.until("return document.querySelectorAll('#samples-list li').length === 3")
            browser.press("#take-home")
            wait_for((downloads / "samples.zip").is_file)
            with zipfile.ZipFile(downloads / "samples.zip") as archive:
                labels = [sample["label"] for sample in json.loads(archive.read("samples.json"))["samples"]]
                sound = archive.testzip() is None and len(archive.namelist()) == 4
            both = labels == ["of version 1", "in the database", "in a file"]
            self.check("one zip has samples of both kinds", sound and both, labels)
            self._lost_files(browser, address)
            self._deleted_while_saved(browser, address)
            self._cut_file(browser, address, downloads)

    def _lost_files(self, browser: PhoneBrowser, address: str) -> None:
        first = browser.driver.current_window_handle
        browser.run(LOST_FILE)
        browser.run("navigator.locks.request('clip2edge samples /', { mode: 'shared' }, () => new Promise(() => {}))")
        browser.driver.switch_to.new_window("tab")
        browser.open(address)
        browser.until(ANSWERED)
        names = list(browser.run(STORED)["files"])
        self.check(
            "while a tab keeps a sample, another tab removes no file", "lost" in names and len(names) == 2, names
        )
        browser.driver.close()
        browser.driver.switch_to.window(first)
        browser.open(address)
        browser.until(ANSWERED)
        browser.until(f"return (async () => {{ {STORED} }})().then(({{ files }}) => !('lost' in files))")
        labels = [sample["label"] for sample in browser.run(SAMPLES)]
        self.check("a file that no record names is removed at the start", len(labels) == 3, labels)

    def _deleted_while_saved(self, browser: PhoneBrowser, address: str) -> None:
        browser.run(CATCH_ZIP)
        browser.press("#show-samples")
        browser.until("return document.querySelectorAll('#samples-list li').length === 3")
        browser.press("#take-home")
        browser.until("return globalThis.zip !== undefined")
        for _ in range(2):
            browser.press("#delete-all")
        browser.until("return document.querySelectorAll('#samples-list li').length === 0")
        first = browser.driver.current_window_handle
        browser.driver.switch_to.new_window("tab")
        browser.open(address)
        browser.until(ANSWERED)
        browser.driver.close()
        browser.driver.switch_to.window(first)
        sizes = browser.run("return [zip.size, (await zip.arrayBuffer()).byteLength]")
        self.check(
            "what is deleted while it is saved is in the zip, though another tab starts",
            sizes[0] == sizes[1] > 1000,
            sizes,
        )
        browser.open(address)
        browser.until(f"return (async () => {{ {STORED} }})().then(({{ files }}) => Object.keys(files).length === 0)")
        self.check("and its file is gone at the next start", browser.run(SAMPLES) == [])

    def _cut_file(self, browser: PhoneBrowser, address: str, downloads: Path) -> None:
        """A file that a power cut shortened is told, and hides no other sample."""
        keep(browser, "cut")
        browser.run(CUT_FILE)
        keep(browser, "whole")
        browser.press("#show-samples")
        browser.until("return document.querySelectorAll('#samples-list li').length === 2")
        line, items = browser.text("#samples-line"), browser.text("#samples-list")
        told = "1 cannot be read" in line and items.count("cannot be read") == 1
        self.check("a file that a power cut shortened is told beside the others", told, (line, items))
        (downloads / "samples.zip").unlink()
        browser.press("#take-home")
        wait_for((downloads / "samples.zip").is_file)
        with zipfile.ZipFile(downloads / "samples.zip") as archive:
            labels = [sample["label"] for sample in json.loads(archive.read("samples.json"))["samples"]]
        self.check("and the zip has the others", labels == ["whole"], labels)
        for _ in range(2):
            browser.press("#delete-all")
        browser.until("return document.querySelectorAll('#samples-list li').length === 0")
        self.check("and it can be deleted", browser.run(SAMPLES) == [])

    def two_tabs(self) -> None:
        """Two tabs of one page both answer, and see each other's samples."""
        with serving(self.page) as address, PhoneBrowser(self.film) as browser:
            browser.open(address)
            browser.until(ANSWERED)
            first = browser.driver.current_window_handle
            browser.driver.switch_to.new_window("tab")
            browser.open(address)
            browser.until(ANSWERED)
            keep(browser, "second tab")
            browser.driver.switch_to.window(first)
            browser.press("#show-samples")
            browser.until("return document.querySelectorAll('#samples-list li').length === 1")
            self.check("gap: two tabs", True)

    def home(self) -> None:
        """Samples of two sessions, pictures and a clip, come home through `pipe add --from-phone`."""
        downloads = self.work / "downloads"
        downloads.mkdir()
        with serving(self.page) as address, PhoneBrowser(self.film, downloads=downloads) as browser:
            shown = ""
            for session in ("one", "two"):
                browser.open(address)
                browser.until(f"{ANSWERED} && document.getElementById('label').innerText !== {json.dumps(shown)}")
                shown = browser.text("#label")
                keep(browser, f"class {session}")
            browser.press("#record")
            browser.until("return document.getElementById('recording').innerText.includes('2 s')")
            browser.press("#record")
            browser.until("return document.getElementById('state').textContent.startsWith('Clip')")
            self.check("a recorded clip gets a verdict", "frames" in browser.text("#state"), browser.text("#state"))
            keep(browser, "class two")
            browser.press("#show-samples")
            browser.until("return document.querySelectorAll('#samples-list li').length === 3")
            browser.press("#take-home")
            saved = downloads / "samples.zip"
            wait_for(saved.is_file)
            self._delete(browser, address)
        project = Project(self.work / "home")
        project.root.mkdir()
        report = add_from_phone(saved, project, no_dvc=True)
        clips = [path for path in project.raw.rglob("*") if path.suffix in (".mp4", ".webm")]
        self.check("samples come home", report.n_added == 3 and len(clips) == 1, report.headline)
        text = project.phone_csv.read_text(encoding="utf-8")
        sessions = {line.split(",")[4] for line in text.splitlines()[1:]}
        self.check("they name their two sessions", len(sessions) == 2, sorted(sessions))

    def _delete(self, browser: PhoneBrowser, address: str) -> None:
        """Delete one sample of three, and then all that are listed: what another tab has kept since then stays."""
        browser.press("#samples-list button")
        browser.until("return document.querySelectorAll('#samples-list li').length === 2")
        left = [sample["kind"] for sample in browser.run(SAMPLES)]
        self.check("“Delete” deletes one sample", left == ["picture", "picture"], left)
        first = browser.driver.current_window_handle
        browser.driver.switch_to.new_window("tab")
        browser.open(address)
        browser.until(ANSWERED)
        keep(browser, "another tab")
        browser.driver.switch_to.window(first)
        browser.press("#delete-all")
        asked = browser.text("#delete-all")
        browser.press("#delete-all")
        browser.until("return document.querySelectorAll('#samples-list li').length === 1")
        labels = [sample["label"] for sample in browser.run(SAMPLES)]
        self.check("“Delete all” asks, and deletes what was listed", labels == ["another tab"], f"{asked}; {labels}")

    def one_file(self) -> None:
        """The one file answers from the file system."""
        page = self.work / "phone.html"
        report = phone(Project(self.work), self.bundle_zip, self.package, page, single=True)
        with PhoneBrowser(self.film) as browser:
            browser.open(page.as_uri())
            browser.give_file(self.bundle / GOLDEN / Golden.read(self.bundle / GOLDEN).samples[0].image)
            browser.until(STILL_ANSWERED)
            outside = [url for url in browser.requests() if url.startswith("http")]
            self.check(
                "one file answers without a server",
                not outside,
                f"{report.bytes / 1e6:.1f} MB; {browser.text('#label')}",
            )
            keep(browser, "of one file")
            about = browser.text("#about")
            self.check("one file keeps samples in the database, and says so", NO_FILES in about, about)
        broken = self.work / "broken.html"
        text = page.read_text(encoding="utf-8")
        broken.write_text(
            text.replace("const WINDOW_MILLISECONDS = 2000", "const WINDOW_MILLISECONDS = 2001"), encoding="utf-8"
        )
        with PhoneBrowser(self.film) as browser:
            browser.driver.get(broken.as_uri())
            ran = browser.run("return document.title !== 'clip2edge'")
            self.check(
                "one file whose script was changed does not run",
                not ran and any("Content Security" in line for line in browser.messages()),
            )

    def region_light_and_zoom(self) -> None:
        """A region that is drawn cuts the picture, and stays; light and zoom are offered where the camera has them."""
        with serving(self.page) as address, PhoneBrowser(self.film) as browser:
            browser.before_load(HANDY_CAMERA)
            browser.open(address)
            browser.until(ANSWERED)
            width, height = browser.run(
                "const v = document.getElementById('video'); return [v.videoWidth, v.videoHeight]"
            )
            browser.press("#set-region")
            browser.drag("#frame", (0.25, 0.25), (0.75, 0.5))
            browser.until("return !document.getElementById('region').hidden")
            browser.open(address)
            browser.until(ANSWERED)
            browser.press("#photo")
            browser.until(STILL_ANSWERED)
            cut = browser.run("const s = document.getElementById('still'); return [s.width, s.height]")
            near = abs(cut[0] - width / 2) <= 8 and abs(cut[1] - height / 4) <= 8
            self.check("a region cuts the picture, and is remembered", near, f"{cut} of {[width, height]}")
            browser.press("#set-region")
            browser.press("#camera")
            browser.until(ANSWERED)
            browser.press("#photo")
            browser.until(STILL_ANSWERED)
            whole = browser.run("const s = document.getElementById('still'); return [s.width, s.height]")
            self.check("without the region the whole picture is seen", whole == [width, height], whole)
            browser.press("#camera")
            browser.press("#torch")
            browser.until("return document.getElementById('torch').getAttribute('aria-pressed') === 'true'")
            asked = browser.run("return globalThis.asked")
            self.check(
                "the light is switched on, and a zoom is offered", asked == [{"torch": True}], browser.text("#zoom")
            )
            spoken = browser.until("return document.getElementById('spoken').textContent")
            self.check(
                "screen readers get the answer",
                any(name in spoken for name in (*self.contract.classes, "None")),
                spoken,
            )

    def newer_build(self) -> None:
        """A newer page at the same address takes over at the next visit but one, and the older one works until then."""
        served = self.copy("earlier build")
        with serving(served) as address, PhoneBrowser(self.film) as browser:
            notices = (served / "NOTICES.md").read_text(encoding="utf-8")
            (served / "NOTICES.md").write_text(notices + "of another build", encoding="utf-8")
            browser.open(address)
            browser.until(ANSWERED)
            kept = browser.run("return (await caches.keys()).length")
            mixed = kept == 0 and "could not load or store all files" in browser.text("#about")
            self.check("files of two builds are not kept", mixed, browser.text("#about"))
            (served / "NOTICES.md").write_text(notices, encoding="utf-8")
            browser.open(address)
            browser.until(ANSWERED)
            self.check("at the next visit they are", "Works without a network" in browser.text("#about"))
            about = json.loads((served / "page.json").read_text(encoding="utf-8"))
            (served / "page.json").write_text(json.dumps(about | {"bundle_id": "newer"}), encoding="utf-8")
            worker = (served / "sw.js").read_text(encoding="utf-8")
            build = json.loads(worker.split("\n")[0].removeprefix("const BUILD = ").removesuffix(";"))
            digest = hashlib.sha256((served / "page.json").read_bytes()).hexdigest()
            newer = worker.replace(build["id"], "0" * 16).replace(build["files"]["page.json"], digest)
            (served / "sw.js").write_text(newer, encoding="utf-8")
            browser.open(address)
            browser.until("return navigator.serviceWorker.getRegistration().then((one) => one.waiting !== null)")
            self.check("the older page works while a newer one comes", "newer" not in browser.text("#about"))
            browser.open(address)
            browser.until("return document.getElementById('about').innerText.includes('newer')")
            kept = browser.run("return (await caches.keys()).length")
            self.check("the newer page takes over, and the older one is forgotten", kept == 1, browser.text("#about"))

    def webgpu(self) -> None:
        """WebGPU answers where it gives the golden numbers and is no slower; else the processor does, with a line."""
        bundle_zip, page = resizing_bundle(self.work / "webgpu", "fp32"), self.work / "page webgpu"
        report = phone(Project(self.work), bundle_zip, self.package, page, single=False)
        names = [f"golden/{number:03d}.pixels.png" for number in range(len(CLASSES))]
        with PhoneBrowser(self.film, webgpu=True) as browser:
            browser.before_load(GOOD_WEBGPU)
            with serving(page) as address:
                browser.open(address)
                browser.until(ANSWERED)
                about = browser.text("#about")
                self.check("WebGPU is taken", ON_WEBGPU in about, f"{report.bytes / 1e6:.1f} MB; {about}")
                answers = browser.run(LOGITS, "page", names)
            golden = json.loads((page / "page.json").read_text(encoding="utf-8"))["golden"]
            difference = max(
                float(np.abs(np.subtract(answer["logits"], sample["logits"])).max())
                for answer, sample in zip(answers, golden, strict=True)
            )
            self.check("WebGPU answers as the runtime", 0 < difference < 1e-4, f"logits differ by {difference:.2g}")
            browser.open(address)
            browser.until(ANSWERED)
            about = browser.text("#about")
            self.check("without the server it is taken too", ON_WEBGPU in about, about)
            browser.driver.execute_cdp_cmd("Browser.crashGpuProcess", {})
            browser.until("return document.getElementById('about').innerText.includes('failed while it was used')")
            browser.run("document.getElementById('shares').replaceChildren()")
            browser.until(f"{ANSWERED} && document.getElementById('state').textContent === 'Live'")
            severe = [message for message in browser.messages() if "Content Security" in message]
            self.check("a device that is lost: live answers go on", not severe, browser.text("#about"))
        self._webgpu_faults(page)

    def _webgpu_faults(self, page: Path) -> None:
        broken = Path(shutil.copytree(page, self.work / "broken webgpu"))
        wasm = broken / "ort" / "ort-wasm-simd-threaded.jspi.wasm"
        wasm.write_bytes(wasm.read_bytes()[:-1] + b"x")
        int8 = self.work / "page webgpu int8"
        bundle_zip = resizing_bundle(self.work / "webgpu int8", "fp32", "int8")
        phone(Project(self.work), bundle_zip, self.package, int8, single=False)
        fp16 = self.work / "page webgpu fp16"
        bundle_zip = resizing_bundle(self.work / "webgpu fp16", "fp32", "fp16")
        with mock.patch.object(page_files, "_PREFERRED", ("fp16",)):
            phone(Project(self.work), bundle_zip, self.package, fp16, single=False)
        planted = [(page, *fault) for fault in FAULTS]
        planted += [
            (
                broken,
                "a changed file of WebGPU",
                GOOD_WEBGPU,
                "jspi.wasm, which WebGPU needs, cannot be loaded or",
                True,
            ),
            (int8, "a graph of int8", GOOD_WEBGPU, "the graph is int8", False),
            (fp16, "a graph of fp16 without half precision", GOOD_WEBGPU, "the graph is fp16", False),
        ]
        for folder, name, script, says, needed in planted:
            with serving(folder) as address, PhoneBrowser(self.film, webgpu=True) as browser:
                browser.before_load(script)
                browser.open(address)
                browser.until(ANSWERED)
                about = browser.text("#about")
                asked = [url for url in browser.requests() if "jspi" in url]
            right = "Computes on the processor: " in about and says in about and bool(asked) == needed
            self.check(f"gap: {name}", right, f"{about}{'; asked for WebGPU' if asked else ''}")

    def served(self) -> None:
        """Behind a self-made certificate the page answers after the browser's warning, and says what it cannot do."""
        with ServedPage(self.page) as served, PhoneBrowser(self.film) as browser:
            browser.driver.get(served.address)
            self.check("the browser warns of the certificate", "page.json" not in browser.driver.page_source)
            browser.go_past_warning()
            browser.until(ANSWERED)
            about, threads = browser.text("#about"), browser.run("return document.documentElement.dataset.threads")
            isolated, cores = browser.run("return [crossOriginIsolated, navigator.hardwareConcurrency]")
            self.check(
                "behind the warning it answers live, with threads",
                "does not trust the certificate" in about and isolated and int(threads) == min(cores, 4),
                f"{threads} threads; {about}",
            )


HANDY_CAMERA = """
globalThis.asked = [];
MediaStreamTrack.prototype.getCapabilities = () => ({ torch: true, zoom: { min: 1, max: 4, step: 0.5 } });
MediaStreamTrack.prototype.applyConstraints = async ({ advanced }) => { globalThis.asked.push(...advanced); };
"""


def write_pictures(folder: Path) -> dict[str, float]:
    """Write pictures that browsers could read in another way; return how many levels apart each may be on average."""
    smooth = np.add.outer(np.arange(48) * 3, np.arange(64) * 1.5)
    colours = np.stack([smooth, smooth[::-1], smooth[:, ::-1]], axis=-1).astype(np.uint8)
    image = Image.fromarray(colours)
    files = {}
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        image.save(folder / f"turned{orientation}.jpg", quality=95, exif=exif)
        files[f"turned{orientation}.jpg"] = 1.5
    with_alpha = image.copy()
    with_alpha.putalpha(Image.fromarray(np.linspace(0, 255, 48 * 64).reshape(48, 64).astype(np.uint8)))
    with_alpha.save(folder / "alpha.png")
    image.quantize(16).save(folder / "palette.png", transparency=3)
    image.convert("L").save(folder / "grey.png")
    image.save(folder / "webp.webp", lossless=True)
    image.save(folder / "profile.png", icc_profile=exchanging_profile())
    return files | {"alpha.png": 1.0, "palette.png": 0.0, "grey.png": 0.0, "webp.webp": 0.0, "profile.png": 0.0}


def exchanging_profile() -> bytes:
    """A colour profile of which red and blue are exchanged, so that whoever applies it changes every pixel."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, blue = profile.find(b"rXYZ"), profile.find(b"bXYZ")
    profile[red : red + 4], profile[blue : blue + 4] = b"bXYZ", b"rXYZ"
    return bytes(profile)


def on_stage(browser: PhoneBrowser) -> list[object]:
    """What the page says that it shows, and the size of its still picture, where it shows one."""
    still = browser.run("const s = document.getElementById('still'); return s.hidden ? [] : [s.width, s.height]")
    return [browser.text("#state"), *still]


def write_endless_clip(path: Path, colours: list[int]) -> None:
    """A WebM that shows each colour for a second and states no length, as a browser's recorder writes it."""
    with av.open(str(path), "w", format="webm", options={"live": "1"}) as container:
        stream = container.add_stream("libvpx", rate=5)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for frame_hwc in np.repeat(np.stack([picture(colour, 32, 32) for colour in colours]), 5, axis=0):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame_hwc, format="rgb24")))
        container.mux(stream.encode())


def keep(browser: PhoneBrowser, label: str) -> None:
    """Keep what was answered last as a sample of another class."""
    before = browser.text("#show-samples")
    browser.press("#wrong")
    browser.until("return document.getElementById('correct').open")
    browser.driver.find_element("id", "new-class").send_keys(label)
    browser.press("#keep-new")
    browser.until(f"return document.getElementById('show-samples').innerText !== {json.dumps(before)}")


def wait_for(holds: Callable[[], bool], seconds: float = 20) -> None:
    """Wait until something holds, looking every few milliseconds."""
    pause = threading.Event()
    for _ in range(round(seconds / 0.02)):
        if holds():
            return
        pause.wait(0.02)
    raise AssertionError(f"not within {seconds} s")


def browser_line(shown: str) -> str:
    """The line of a page that refuses."""
    lines = [line for line in shown.split("\n") if line.strip()]
    return lines[-1] if lines else ""


def tiny_bundle(work: Path) -> Path:
    """A bundle whose graph names the colour of a picture, and gives a known score."""
    contract = dataclasses.replace(
        with_thresholds(draft_contract("fp32"), 0.5, 0.4, "known_score"), max_pixels=10_000_000
    )
    project = write_project(work / "project", contract, scored_graph)
    bundle(project)
    return project.bundle_zip


def film_of(bundle_folder: Path, path: Path) -> Path:
    """A film that shows the golden pictures in turn, cut to one even size."""
    samples = Golden.read(bundle_folder / GOLDEN).samples
    pictures = [read_pixels(bundle_folder / GOLDEN, sample) for sample in samples]
    height, width = (min(pixels.shape[side] for pixels in pictures) // 2 * 2 for side in (0, 1))
    enlarged = [enlarge(pixels[:height, :width]) for pixels in pictures]
    return write_camera_film(path, enlarged)


def enlarge(pixels_hwc: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Repeat pixels until the picture is as large as a camera's."""
    times = max(1, 240 // min(pixels_hwc.shape[:2]))
    return np.repeat(np.repeat(pixels_hwc, times, axis=0), times, axis=1)


def main() -> int:
    """Run all checks; return 1 where one went wrong."""
    with tempfile.TemporaryDirectory(prefix="trial-") as folder:
        work = Path(folder)
        bundle_zip = Path(sys.argv[1]) if len(sys.argv) > 1 else tiny_bundle(work)
        unpack(bundle_zip, work / "for film")
        try:
            trial = Trial(work, bundle_zip, film_of(work / "for film", work / "film.mjpeg"))
        except NotHereError as error:
            print(f"not run: {error}")
            return 0
        for step in (
            trial.same_answers, trial.live_frames, trial.same_pixels, trial.clip_file, trial.language, trial.schemes,
            trial.offline, trial.faults, trial.gaps, trial.full_storage, trial.full_at_each_write,
            trial.files_of_samples, trial.two_tabs, trial.latest_answer,
            trial.unreadable, trial.names_of_classes, trial.about_samples, trial.home, trial.one_file,
            trial.region_light_and_zoom, trial.newer_build, trial.webgpu, trial.served,
        ):  # fmt: skip
            step()
        print(f"{trial.wrong} wrong")
    return 1 if trial.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
