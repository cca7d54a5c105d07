"""The page's own computations, run by Node: they give what Python and the runtime give."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import subprocess
import zipfile
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest

from export.phone.page_files import sources
from export.phone.single_file import join_modules
from pipeline.base.errors import DataError
from pipeline.base.similar_names import refuse_similar_names
from runtime.classifier import Classifier
from runtime.clips.decode_plan import FramePicker, Wanted
from runtime.system import litter
from runtime.verdict import Thresholds, judge_clip
from tests.support.phone_page import PAGE
from tests.support.tiny_bundle import CLASSES, draft_contract, with_thresholds, write_models

NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="Node is not installed")


def node(tmp_path: Path, script: str, values: object = None) -> Any:
    """Run a script beside the page's modules; it gets `values`, and what it prints is JSON."""
    folder = tmp_path / "modules"
    if not folder.exists():
        shutil.copytree(PAGE, folder)
        (folder / "package.json").write_text('{"type": "module"}')
    (folder / "script.js").write_text(
        'import { readFileSync } from "node:fs";\nconst values = JSON.parse(readFileSync(0, "utf8"));\n' + script
    )
    command = [str(NODE), "script.js"]
    finished = subprocess.run(
        command, cwd=folder, input=json.dumps(values), capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


CLIPS = """
import { judgeClip } from "./judge.js";
const answers = values.map(({ frames, frame, clip, classes }) => {
  const variant = { unknown_threshold: frame, unknown_threshold_clip: clip };
  return judgeClip(frames, { classes }, variant);
});
console.log(JSON.stringify(answers));
"""


def drawn_clip(number: int) -> dict[str, Any]:
    """A clip of up to 30 frames whose scores lie around the thresholds, with ties and exact hits among them."""
    rng = np.random.default_rng(number)
    n_frames, n_classes = int(rng.integers(1, 31)), int(rng.integers(2, 7))
    shares = rng.dirichlet(np.ones(n_classes), n_frames)
    if number % 5 == 0:
        shares = np.round(shares * 2) / 2 + 1 / n_classes  # ties
    scores = np.round(rng.normal(size=n_frames).astype(np.float32), 1).astype(np.float32)
    thresholds = [None if number % 3 == 0 else float(scores[0]), None if number % 4 == 0 else float(rng.normal() / 3)]
    rows = zip(shares.tolist(), scores.tolist(), strict=True)
    return {
        "frames": [{"probabilities": row, "score": score} for row, score in rows],
        "frame": thresholds[0],
        "clip": thresholds[1],
        "classes": [f"class {column}" for column in range(n_classes)],
    }


@needs_node
def test_a_clip_gets_the_verdict_of_the_runtime(tmp_path: Path) -> None:
    clips = [drawn_clip(number) for number in range(300)]
    answers = node(tmp_path, CLIPS, clips)
    refused = 0
    for clip, answer in zip(clips, answers, strict=True):
        shares = np.array([frame["probabilities"] for frame in clip["frames"]])
        scores = np.array([frame["score"] for frame in clip["frames"]])
        verdict = judge_clip(shares, scores, Thresholds(clip["frame"], clip["clip"]))
        expected = None if verdict.class_number is None else clip["classes"][verdict.class_number]
        assert answer["label"] == expected
        assert np.allclose(answer["probabilities"], verdict.probabilities, rtol=0, atol=1e-12)
        refused += expected is None
    assert 30 < refused < 270  # both verdicts are among them


@needs_node
def test_a_rule_that_takes_all_frames_is_seen(tmp_path: Path) -> None:
    """The negative control of the test above: the mean over all frames is another verdict."""
    clips = [drawn_clip(number) for number in range(300)]
    fault = CLIPS.replace("unknown_threshold: frame", "unknown_threshold: null")
    assert fault != CLIPS
    assert node(tmp_path, fault, clips) != node(tmp_path, CLIPS, clips)


@needs_node
def test_a_picture_gets_the_answer_of_the_runtime(tmp_path: Path) -> None:
    contract = write_models(tmp_path / "contract.json", tmp_path / "onnx", with_thresholds(draft_contract(), 1.5, 1.0))
    classifier = Classifier(tmp_path / "contract.json", tmp_path / "onnx")
    rng = np.random.default_rng(0)
    rows = rng.normal(scale=3, size=(200, len(CLASSES))).astype(np.float32)
    rows[::7] = np.round(rows[::7])  # ties
    scores = rows.max(axis=1)
    script = """
import { judgePicture } from "./judge.js";
const [variant] = values.contract.variants;
console.log(JSON.stringify(values.rows.map((row, n) => judgePicture(row, values.scores[n], values.contract, variant))));
"""
    values = {"contract": contract.to_json(), "rows": rows.tolist(), "scores": scores.tolist()}
    answers = node(tmp_path, script, values)
    for row, score, answer in zip(rows, scores.tolist(), answers, strict=True):
        expected = classifier.judge(row, score)
        assert answer["label"] == expected.label
        assert np.allclose(answer["probabilities"], list(expected.probabilities.values()), rtol=0, atol=1e-14)
    assert {answer["label"] for answer in answers} == {None, *CLASSES}


RHYTHM = """
import { OneASecond } from "./judge.js";
const due = (times) => { const rhythm = new OneASecond(); return times.map((seconds) => rhythm.isDue(seconds)); };
console.log(JSON.stringify(values.map(due)));
"""


def picked(times: list[float], frames_per_second: float = 1) -> list[bool]:
    """Which frames at these times the runtime takes."""
    picker = FramePicker(Wanted(frames_per_second))
    return [picker.takes(Fraction(time)) for time in times]


@needs_node
def test_a_clips_frames_are_those_that_the_runtime_takes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rates = [0.4, 1, 7, 24, 29.97, 60]  # frames per second, regular and with gaps
    clips = [np.arange(0, 9, 1 / rate).tolist() for rate in rates]
    clips += [np.sort(np.round(rng.uniform(0, 20, 100), 2)).tolist() for _ in range(50)]
    assert node(tmp_path, RHYTHM, clips) == [picked(times) for times in clips]
    assert node(tmp_path, RHYTHM, clips) != [picked(times, 1.01) for times in clips]


@needs_node
def test_sha256_is_that_of_hashlib_with_and_without_the_browsers_help(tmp_path: Path) -> None:
    script = """
import { sha256Hex, sha256Plain } from "./sha256.js";
const content = (n) => Uint8Array.from({ length: n }, (_, at) => (at * 7 + n) & 0xff);
const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
const plain = values.map((n) => hex(sha256Plain(content(n))));
console.log(JSON.stringify([plain, await Promise.all(values.map((n) => sha256Hex(content(n))))]));
"""
    lengths = [*range(130), 1000, 65_537]
    expected = [hashlib.sha256(bytes((at * 7 + n) & 0xFF for at in range(n))).hexdigest() for n in lengths]
    assert node(tmp_path, script, lengths) == [expected, expected]


@needs_node
def test_samples_leave_as_a_zip_that_others_read(tmp_path: Path) -> None:
    script = """
import { zipOfSamples } from "./take_home.js";
const samples = values.map(({ id, text, type, label }) => ({ id, label, blob: new Blob([text], { type }) }));
const zip = await zipOfSamples(samples);
console.log(JSON.stringify(Array.from(new Uint8Array(await zip.arrayBuffer()))));
"""
    samples = [
        {"id": 3, "text": "a picture", "type": "image/jpeg", "label": "蓝色"},
        {"id": 9, "text": "a clip" * 1000, "type": "video/webm;codecs=vp9", "label": "red"},
    ]
    content = bytes(node(tmp_path, script, samples))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["samples.json", "files/0001.jpg", "files/0002.webm"]
        listed = json.loads(archive.read("samples.json"))
        assert archive.read("files/0002.webm").decode() == "a clip" * 1000
    assert (listed["format"], listed["format_version"]) == ("clip2edge samples", 1)
    assert listed["samples"][0] == {
        "file": "files/0001.jpg",
        "sha256": hashlib.sha256(b"a picture").hexdigest(),
        "label": "蓝色",
    }


ENGINE = """
import { Engine } from "./engine.js";
const worker = { postMessage() {} };
const engine = new Engine(worker);
const contract = { max_pixels: 100, max_aspect: 10, classes: ["a", "b"] };
const pixels = { rgb: new Uint8Array(3), height: 1, width: 1 };
const told = (answer) => answer.then(() => null, ({ key, values: { reason } }) => `${key}: ${reason}`);
const during = values ? told(engine.answer(pixels, contract)) : Promise.resolve(null);
worker.onerror({ preventDefault() {}, message: "out of memory" });
worker.onmessage({ data: { number: 1, result: { logits: [1, 2], score: 2 } } }); // too late
const late = new Promise((resolve) => setImmediate(resolve, "nothing")); // later than every promise
const after = await Promise.race([told(engine.answer(pixels, contract)), late]);
console.log(JSON.stringify([await during, after]));
"""


@needs_node
def test_a_worker_that_has_failed_is_told_to_everybody_who_asks_later(tmp_path: Path) -> None:
    failed = "engine_failed: out of memory"
    assert node(tmp_path, ENGINE, True) == [failed, failed]
    assert node(tmp_path, ENGINE, False) == [None, failed]


COMPUTER = """
import { Computer, chosenEngine } from "./webgpu.js";
import { Problem } from "./problem.js";
const right = { logits: [1] };
const failing = (problem) => ({ closed: 0, answer: async () => { throw problem; }, close() { this.closed += 1; } });
let opened = 0;
const onProcessor = { answer: async () => right };
const open = async () => { opened += 1; return onProcessor; };
const told = (promise) => promise.then((answer) => answer.logits, ({ key }) => key);
const lost = failing(new Problem("engine_failed", { reason: "the device was lost" }));
const computer = new Computer(lost, null, open);
let moved = 0;
computer.onmoved = () => { moved += 1; };
const two = await Promise.all([told(computer.answer()), told(computer.answer())]);
const third = await told(computer.answer());
const after = { two, third, opened, moved, closed: lost.closed, reason: computer.reason };
const tooLarge = new Computer(failing(new Problem("picture_too_large")), null, open);
const failed = new Computer(failing(new Problem("engine_failed")), new Problem("webgpu_unknown"), open);
const others = [await told(tooLarge.answer()), await told(failed.answer()), opened];
globalThis.document = { getElementById: () => null };
Object.defineProperty(globalThis, "navigator", { value: {}, configurable: true });
const why = async (page) => (await chosenEngine({ page, onProcessor })).reason.key;
const reasons = [await why({ webgpu: null }), await why({ webgpu: {} })];
globalThis.document = { getElementById: () => ({}) };
reasons.push(await why({ webgpu: null }));
console.log(JSON.stringify({ after, others, reasons }));
"""


@needs_node
def test_webgpu_that_fails_hands_over_to_the_processor_once_and_other_problems_stay(tmp_path: Path) -> None:
    result = node(tmp_path, COMPUTER)
    assert result["after"]["reason"]["values"] == {"reason": "the device was lost"}
    del result["after"]["reason"]
    assert result["after"] == {"two": [[1], [1]], "third": [1], "opened": 1, "moved": 1, "closed": 1}
    assert result["others"] == ["picture_too_large", "engine_failed", 1]
    assert result["reasons"] == ["webgpu_int8", "webgpu_unknown", "webgpu_one_file"]


COMPUTER_LATER = """
import { Computer, chosenEngine } from "./webgpu.js";
import { Problem } from "./problem.js";
const right = { logits: [1] };
const told = (promise) => promise.then((answer) => answer.logits, ({ key }) => key);
let tick;
globalThis.setInterval = (does) => { tick = does; };
const hanging = {
  answer() { return new Promise((_, reject) => { this.reject = reject; }); },
  close(reason) { this.reject(new Problem("engine_failed", { reason })); },
};
let isThere = false; // the network, with the graph
const open = async () => {
  if (!isThere) throw new Problem("file_missing", { name: "graph" });
  return { answer: async () => right };
};
const computer = new Computer(hanging, null, open);
const never = told(computer.answer());
for (let second = 0; second < values; second += 1) tick();
const first = await Promise.race([never, new Promise((resolve) => setImmediate(resolve, "nothing"))]);
hanging.answer = async () => { throw new Problem("engine_failed", { reason: "it was closed" }); };
isThere = true;
const again = first === "nothing" ? null : await told(computer.answer());
const said = [];
let give;
globalThis.document = { getElementById: () => null };
globalThis.WebAssembly.Suspending ??= class {};
const gpu = { requestAdapter: () => new Promise((resolve) => { give = resolve; }) };
Object.defineProperty(globalThis, "navigator", { value: { gpu }, configurable: true });
const later = setTimeout;
globalThis.setTimeout = (does) => later(does, 1);
const given = { page: { webgpu: { files: {} } }, variant: { precision: "fp32" }, onProcessor: {} };
const { reason } = await chosenEngine({ ...given, say: (key) => said.push(key) });
give({});
await new Promise((resolve) => setImmediate(resolve));
console.log(JSON.stringify({ first, again, why: computer.reason?.values.reason ?? null, late: reason.key, said }));
"""


@needs_node
def test_webgpu_that_never_answers_ends_and_without_the_graph_the_next_answer_tries_again(tmp_path: Path) -> None:
    assert node(tmp_path, COMPUTER_LATER, 30) == {
        "first": "file_missing",
        "again": [1],
        "why": "no answer for 30 seconds",
        "late": "webgpu_late",
        "said": [],  # the page answers already when the adapter comes
    }
    assert node(tmp_path, COMPUTER_LATER, 29)["first"] == "nothing"


@needs_node
def test_what_is_told_before_the_table_is_read_is_what_the_table_says(tmp_path: Path) -> None:
    script = """
import { text } from "./strings.js";
console.log(JSON.stringify(values.map((key) => text(key))));
"""
    keys = ["refused_title", "file_missing", "no_decompression", "unexpected"]
    table = json.loads(sources()["strings.en.json"])
    assert node(tmp_path, script, keys) == [table[key] for key in keys]


STORAGE = """
const names = [];
const asked = (answer) => ({ getItem: (name) => { names.push(name); return answer; } });
const serviceWorker = { register: async () => ({ active: {}, waiting: null }) };
Object.defineProperty(globalThis, "navigator", { value: { serviceWorker }, configurable: true });
Object.defineProperty(globalThis, "localStorage", { value: asked(null), configurable: true });
Object.defineProperty(globalThis, "sessionStorage", { value: asked("yes"), configurable: true });
Object.assign(globalThis, {
  location: { pathname: values },
  indexedDB: { open(name) { names.push(name); throw new DOMException("", "SecurityError"); } },
  document: { getElementById: () => null },
  isSecureContext: true,
});
globalThis.FileSystemFileHandle = class { createWritable() {} };
const root = { getDirectoryHandle: async (name) => { names.push(name); } };
Object.assign(navigator, { locks: {}, storage: { getDirectory: async () => root } });
const { Samples } = await import("./samples.js");
const { SampleFiles } = await import("./sample_files.js");
const { Region } = await import("./region.js");
const { keepOffline } = await import("./offline.js");
await Samples.open().catch(() => {});
await SampleFiles.open();
new Region({ addEventListener() {} }, { style: {} });
await keepOffline();
console.log(JSON.stringify(names));
"""


@needs_node
def test_pages_in_two_folders_of_one_host_keep_their_samples_and_regions_apart(tmp_path: Path) -> None:
    names = node(tmp_path, STORAGE, "/fruit/index.html")
    assert [unquote(name) for name in names] == [
        "clip2edge samples /fruit/",
        "clip2edge samples /fruit/",
        "clip2edge region /fruit/",
        "clip2edge reloaded /fruit/",
    ]
    assert "/" not in names[1]  # the folder of files
    assert node(tmp_path, STORAGE, "/fruit/") == names
    assert not set(node(tmp_path, STORAGE, "/waste/")) & set(names)


BLOCKED = """
import { Samples } from "./samples.js";
globalThis.location = { pathname: "/" };
const request = { result: { closed: 0, close() { this.closed += 1; } } };
globalThis.indexedDB = { open: () => request };
const told = Samples.open().then(() => "open", ({ key }) => key);
request.onblocked();
const first = await told;
request.onsuccess();
console.log(JSON.stringify([first, request.result.closed]));
"""


@needs_node
def test_a_database_that_an_earlier_page_keeps_open_is_told_and_closed_when_it_opens_later(tmp_path: Path) -> None:
    assert node(tmp_path, BLOCKED) == ["store_blocked", 1]


SAMPLE_FILES = """
import { SampleFiles } from "./sample_files.js";
const entries = new Map();
let room = Infinity; // bytes
let holders = 0; // of the lock, in all tabs
const folder = {
  async getFileHandle(name, { create } = {}) {
    if (!entries.has(name) && !create) throw new DOMException("", "NotFoundError");
    if (!entries.has(name)) entries.set(name, new Blob([]));
    const createWritable = async () => {
      let written = null;
      const write = async (blob) => {
        if (blob.size > room) throw new DOMException("", "QuotaExceededError");
        written = blob;
      };
      return { write, close: async () => { entries.set(name, written); }, abort: async () => {} };
    };
    return { getFile: async () => entries.get(name), createWritable };
  },
  async removeEntry(name) { entries.delete(name); room = Infinity; },
  async *keys() { yield* entries.keys(); },
};
const request = async (_, { ifAvailable }, does) => {
  if (ifAvailable && holders > 0) return does(null);
  holders += 1;
  try {
    return await does({});
  } finally {
    holders -= 1;
  }
};
Object.defineProperty(globalThis, "navigator", { value: { locks: { request } }, configurable: true });
globalThis.location = { pathname: "/" };
const files = new SampleFiles(folder);
const picture = new Blob(["picture"], { type: "image/png" });
const told = (promise) => promise.then(() => "kept", (error) => error.name);
const result = {};
const stored = await files.keep(picture, async (record) => record);
const read = await files.read(stored);
result.read = [await read.text(), read.type];
entries.set(stored.name, new Blob(["pict"])); // a power cut
result.cut = await files.read(stored).then(() => "read", (error) => `${error.name}: ${error.message}`);
result.ofEarlierPage = (await files.read({ name: stored.name, type: stored.type })).size; // a record without a size
entries.set(stored.name, picture);
room = 3;
const { removeEntry } = folder;
let held = 2; // attempts for which the browser still holds the file
folder.removeEntry = async (name) => {
  held -= 1;
  if (held >= 0) throw new DOMException("", "NoModificationAllowedError");
  entries.delete(name);
};
result.full = [await told(files.keep(picture, async () => {})), entries.size];
room = Infinity;
const refuse = async () => { throw new DOMException("", "AbortError"); };
result.noRecord = [await told(files.keep(picture, refuse)), entries.size];
folder.removeEntry = removeEntry;
entries.set("lost", picture);
holders = 1;
await files.removeLost(async () => [stored.name]);
result.notAlone = [...entries.keys()].includes("lost");
holders = 0;
await files.removeLost(async () => [stored.name]);
result.lost = [...entries.keys()].includes("lost");
const second = await files.keep(picture, async (record) => record);
await files.delete(second.name);
result.deleted = await files.read(second);
await files.holdAll();
await files.delete(stored.name);
result.inZip = (await files.read(stored)) !== null;
const ofOtherTab = new SampleFiles(folder);
await ofOtherTab.removeLost(async () => []);
const third = await files.keep(picture, async (record) => record);
await ofOtherTab.delete(third.name);
result.otherTab = [await files.read(stored), await files.read(third)].map((blob) => blob !== null);
room = 3; // until a file is removed
result.room = [await told(files.keep(picture, async () => {})), await files.read(stored), entries.size];
console.log(JSON.stringify(result));
"""


@needs_node
def test_a_samples_file_is_kept_whole_or_not_at_all_and_a_zip_keeps_what_it_refers_to(tmp_path: Path) -> None:
    assert node(tmp_path, SAMPLE_FILES) == {
        "read": ["picture", "image/png"],
        "cut": "NotReadableError: 4 of 7 bytes",
        "ofEarlierPage": 4,
        "full": ["QuotaExceededError", 1],  # the first sample's file, and nothing of the second
        "noRecord": ["AbortError", 1],
        "notAlone": True,  # another tab may be between a file and its record
        "lost": False,
        "deleted": None,
        "inZip": True,
        "otherTab": [True, True],
        "room": ["kept", None, 2],
    }


CLIP_FILE = """
import { eachSecond } from "./clip_file.js";
const { stated, found, frames } = values; // seconds; null: Infinity
let listening = 0;
let most = 0;
class Video extends EventTarget {
  duration = stated ?? Infinity;
  #time = 0;
  addEventListener(name, does, options) {
    super.addEventListener(name, does, options);
    listening += 1;
    most = Math.max(most, listening);
    options.signal?.addEventListener("abort", () => { listening -= 1; });
  }
  set src(_) { setImmediate(() => this.dispatchEvent(new Event("loadeddata"))); }
  get currentTime() { return this.#time; }
  set currentTime(second) {
    setImmediate(() => {
      if (second > 1000 && found !== null) this.duration = found;
      this.#time = Math.min(second, found ?? second);
      this.dispatchEvent(new Event("seeked"));
    });
  }
  removeAttribute() {}
  load() {}
}
globalThis.document = { createElement: () => new Video() };
URL.createObjectURL = () => "blob:x";
URL.revokeObjectURL = () => {};
const seen = [];
const see = (video) => { seen.push(video.currentTime); return seen.length !== frames; };
const problem = await eachSecond({}, see).then(() => null, ({ key }) => key);
console.log(JSON.stringify({ seen, problem, most }));
"""


@needs_node
def test_a_clip_that_states_no_length_is_judged_by_all_its_seconds_or_refused(tmp_path: Path) -> None:
    def seconds(stated: float | None, found: float | None, frames: int | None = None) -> Any:
        result = node(tmp_path, CLIP_FILE, {"stated": stated, "found": found, "frames": frames})
        assert result["most"] == 2  # the event and its error: listeners of earlier events are gone
        return result["problem"] or result["seen"]

    assert seconds(3.5, 3.5) == [0, 1, 2, 3]
    assert seconds(None, 3.5) == [0, 1, 2, 3]
    assert seconds(None, None) == "clip_endless"
    assert seconds(3.5, 3.5, frames=2) == [0, 1]  # nobody wants the rest


GOLDEN = """
import { createHash } from "node:crypto";
import { selfcheck } from "./selfcheck.js";
const { golden, score } = values;
const variant = { name: "int8", sha256: "of the graph" };
const contract = JSON.stringify({ variants: [variant], unknown_score: score });
globalThis.document = { getElementById: () => null };
globalThis.fetch = async () => new Response(contract);
const files = { "model/contract.json": createHash("sha256").update(contract).digest("hex") };
const page = { variant: "int8", graph: "g", golden, files };
Object.defineProperty(files, "g", { value: "of the graph", enumerable: false });
const problem = await selfcheck(page, () => {}).then(() => null, ({ key, message }) => key ?? message);
console.log(JSON.stringify(problem));
"""


@needs_node
def test_a_page_without_golden_pictures_or_without_their_scores_is_refused(tmp_path: Path) -> None:
    def problem(*scores: float | None, score: str = "known_score") -> Any:
        return node(tmp_path, GOLDEN, {"golden": [{"score": each} for each in scores], "score": score})

    assert problem() == "golden_missing"
    assert problem(0.5, None) == "golden_missing"
    goes_on = problem(0.5, 0.25)  # to the engine, which needs a browser
    assert goes_on not in (None, "golden_missing")
    assert problem(None, score="max_logit") == goes_on


CAMERA = """
import { Camera } from "./camera.js";
const track = { running: true, stop() { this.running = false; }, addEventListener() {} };
const stream = { getVideoTracks: () => [track], getTracks: () => [track] };
const mediaDevices = { getUserMedia: async () => stream };
Object.defineProperty(globalThis, "navigator", { value: { mediaDevices }, configurable: true });
globalThis.isSecureContext = true;
const play = async () => { if (!values) throw new DOMException("interrupted", "AbortError"); };
const video = { srcObject: null, play };
const problem = await Camera.open(video, () => {}).then(() => null, ({ key, values: { reason } }) => [key, reason]);
console.log(JSON.stringify({ problem, running: track.running, shown: video.srcObject !== null }));
"""


@needs_node
def test_a_camera_whose_picture_does_not_play_is_stopped(tmp_path: Path) -> None:
    failed = {"problem": ["camera_failed", "interrupted"], "running": False, "shown": False}
    assert node(tmp_path, CAMERA, False) == failed
    assert node(tmp_path, CAMERA, True) == {"problem": None, "running": True, "shown": True}


TYPED = """
import { classOf } from "./labels.js";
console.log(JSON.stringify(values.map(([typed, known]) => classOf(typed, known))));
"""


@needs_node
def test_a_typed_name_that_reads_like_a_known_class_means_that_class(tmp_path: Path) -> None:
    parts = [
        "rust",
        "Rust",
        "RUST",
        "Straße",
        "STRASSE",
        "strasse",
        "ｒｕｓｔ",
        "é",
        "e\u0301",
        "É",
        "ru\u00adst",
        "r ust",
    ]
    parts += [
        "rust\u200b",
        "\u3164rust",
        "\u2800rust\ufe0f",
        "οδός",
        "ΟΔΌΣ",
        "οδόσ",
        "蓝色",
        "ﾊﾞ",
        "バ",
        "green",
        "İ",
        "i",
    ]
    pairs = [(typed, known) for typed in parts for known in parts]
    found = node(tmp_path, TYPED, [[typed, [known]] for typed, known in pairs])
    n_alike = 0
    for (typed, known), label in zip(pairs, found, strict=True):
        try:
            refuse_similar_names([typed, known], "zip")
        except DataError:  # at home they are one class, and the zip would be refused
            assert label == known
            n_alike += 1
    assert n_alike > 20
    others = [
        ["green", ["rust"]],
        ["rust 2", ["rust"]],
        ["m2", ["m²"]],
        ["Grade 1", ["Grade ①"]],
        ["ısı", ["isi"]],
        [" new\tone ", ["rust"]],
    ]
    assert node(tmp_path, TYPED, others) == ["green", "rust 2", "m2", "Grade 1", "ısı", "newone"]
    for typed, (known,) in others:
        refuse_similar_names([typed.strip(), known], "zip")  # at home they are two classes too


@needs_node
def test_a_typed_name_that_no_folder_can_have_is_refused(tmp_path: Path) -> None:
    names = ["a/b", "a\\b", ".hidden", "", "  ", "\u200b", "..", "/", *litter._NAMES, "Thumbs.DB"]
    assert node(tmp_path, TYPED, [[name, ["rust"]] for name in names]) == [None] * len(names)


@needs_node
def test_a_zip_refers_to_the_samples_and_holds_no_copies_of_them(tmp_path: Path) -> None:
    script = """
import { zipOfSamples } from "./take_home.js";
const samples = [1, 2, 3].map((id) => ({ id, blob: new Blob([new Uint8Array(100_000)], { type: "image/png" }) }));
const copied = [];
globalThis.Blob = class extends Blob {
  constructor(parts, options) {
    super(parts, options);
    copied.push(...parts.filter((part) => part instanceof Uint8Array).map((part) => part.length));
  }
};
const { size } = await zipOfSamples(samples);
console.log(JSON.stringify([size, copied.reduce((sum, length) => sum + length)]));
"""
    size, copied = node(tmp_path, script)
    assert 300_000 < size < 302_000
    assert copied < 2_000


@needs_node
def test_alpha_is_dropped_and_a_region_is_whole_pixels_inside_the_picture(tmp_path: Path) -> None:
    script = """
import { boxInPixels, WHOLE, withoutAlpha } from "./pixels.js";
const boxes = values.map((region) => boxInPixels(region, 640, 480));
const rgb = Array.from(withoutAlpha(Uint8ClampedArray.from([1, 2, 3, 255, 4, 5, 6, 255])));
console.log(JSON.stringify({ boxes, whole: boxInPixels(WHOLE, 640, 480), rgb }));
"""
    regions = [
        {"left": 0.25, "top": 0.5, "width": 0.5, "height": 0.25},
        {"left": 1, "top": 1, "width": 0, "height": 0},
        {"left": 0.9, "top": 0, "width": 0.5, "height": 1},
    ]
    result = node(tmp_path, script, regions)
    assert result["rgb"] == [1, 2, 3, 4, 5, 6]
    assert result["whole"] == {"left": 0, "top": 0, "width": 640, "height": 480}
    assert result["boxes"] == [
        {"left": 160, "top": 240, "width": 320, "height": 120},
        {"left": 639, "top": 479, "width": 1, "height": 1},
        {"left": 576, "top": 0, "width": 64, "height": 480},
    ]


def used_texts(files: dict[str, str]) -> set[str]:
    """The keys of texts that the page's sources use."""
    keys = set(re.findall(r'data-(?:text|label)="(\w+)"', files["index.html"]))
    for name, source in files.items():
        if name.endswith(".js"):
            keys |= set(re.findall(r'(?:\btext|\bsay|new Problem)\("(\w+)"', source))
            keys |= set(re.findall(r'\w+Error: "(\w+)"', source))
            keys |= set(re.findall(r'\?\? "(camera_\w+)"', source))
            keys |= set(re.findall(r'dataset\.text = "(\w+)"', source))
    return keys


def test_every_text_is_in_the_table_and_every_text_of_the_table_is_used() -> None:
    files = {name: content.decode() for name, content in sources().items()}
    table = set(json.loads(files["strings.en.json"]))
    assert used_texts(files) - table == set()
    indirect = {"region_set", "region_clear"}  # chosen by a condition
    assert table - used_texts(files) - indirect == set()


def test_a_text_that_is_missing_is_seen() -> None:
    files = {"index.html": '<p data-text="one">', "app.js": 'text("two"); new Problem("three")'}
    assert used_texts(files) == {"one", "two", "three"}


def test_no_module_makes_html_of_text_or_evaluates_it() -> None:
    for name, content in sources().items():
        if name.endswith((".js", ".html")):
            assert not re.search(rb"innerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", content), name


@needs_node
def test_the_modules_joined_are_one_valid_script(tmp_path: Path) -> None:
    files = sources()
    script = join_modules(files, "app.js")
    assert not re.search(r"^(import|export) ", script, re.MULTILINE)
    names = [name for name in files if name.endswith(".js") and name not in ("worker.js", "sw.js")]
    assert all(content.split("\n")[0] in script for content in (files[name].decode() for name in names))
    check = [str(NODE), "--check", "--input-type=module", "-"]
    assert subprocess.run(check, input=script.encode(), capture_output=True, check=False).returncode == 0
    repeated = script + "\nfunction judgeClip() {}\n"
    assert subprocess.run(check, input=repeated.encode(), capture_output=True, check=False).returncode != 0


def test_modules_that_import_each_other_are_refused() -> None:
    files = {"a.js": b'import { b } from "./b.js";\n', "b.js": b'import { a } from "./a.js";\n'}
    with pytest.raises(ValueError, match=r"a\.js: imports itself through a\.js, b\.js"):
        join_modules(files, "a.js")
