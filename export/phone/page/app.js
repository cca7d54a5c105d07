// The page: checks itself, then answers for the camera, for pictures and for clips.

import { AnswerView } from "./answer_view.js";
import { Camera } from "./camera.js";
import { eachSecond } from "./clip_file.js";
import { $ } from "./element.js";
import { threadCount } from "./engine.js";
import { bytesOf } from "./files.js";
import { judgeClip, judgePicture, OneASecond } from "./judge.js";
import { keepOffline } from "./offline.js";
import { jpegOf, pixelsOf, pixelsOfFile } from "./pixels.js";
import { Problem } from "./problem.js";
import { Recorder } from "./recorder.js";
import { Region } from "./region.js";
import { Samples } from "./samples.js";
import { askForClass, SamplesView } from "./samples_view.js";
import { selfcheck } from "./selfcheck.js";
import { fillTexts, loadStrings, text } from "./strings.js";
import { canBeKept, localTime } from "./take_home.js";

const WINDOW_MILLISECONDS = 2000; // the live answer is the clip's verdict on the frames of this time
const LONGEST_CLIP_SECONDS = 60;

const view = new AnswerView($("answer"));
const session = localTime(new Date()); // samples of one opening of the page belong together

const about = { kept: "", samples: "" }; // sentences below the buttons

let model = null;
let region = null;
let camera = null;
let opening = null; // the camera while it is opened, so that a second press opens no second one
let samples = null;
let noSamples = new Problem("store_unknown"); // why there are none
let samplesView = null;
let turn = 0; // the number of the answer that is wanted; what began under another number shows nothing more
let live = 0; // the turn of the live answers; they run while it is the present one
let recording = null;
let subject = null; // what was answered last, and can be corrected

async function start() {
  const page = JSON.parse(new TextDecoder().decode(await bytesOf("page.json")));
  await loadStrings(page.languages);
  fillTexts(document);
  document.title = text("title");
  view.say(text("keeping"));
  about.kept = await keepOffline().then(() => text("offline"), (error) => text("not_offline", { reason: words(error) }));
  model = await selfcheck(page, (key, values) => view.say(text(key, values)));
  model.engine.onmoved = showAbout;
  showAbout();
  document.documentElement.dataset.threads = threadCount();
  view.say(text("checked", { count: page.golden.length }));
  region = new Region($("frame"), $("region"));
  connect();
  $("actions").hidden = false;
  await openSamples();
  await guarded(openCamera)();
}

// How the page works here: its model, without a network or not, on what it computes, and where samples lie.
function showAbout() {
  const { page, engine } = model;
  const computes = engine.reason === null ? text("on_webgpu") : text("on_processor", { reason: words(engine.reason) });
  const graph = text("about", { bundle: page.bundle_id, variant: page.variant });
  $("about").textContent = [graph, about.kept, computes, about.samples].join(" ");
}

function connect() {
  $("camera").onclick = guarded(openCamera);
  $("photo").onclick = guarded(takePhoto);
  $("record").onclick = guarded(() => (recording ? stopRecording() : startRecording()));
  $("wrong").onclick = guarded(correct);
  $("file").onclick = () => $("file-input").click();
  $("take").onclick = () => $("take-input").click();
  for (const input of [$("file-input"), $("take-input")]) {
    input.onchange = guarded(async () => {
      const [file] = input.files;
      input.value = "";
      if (file) await answerFile(file);
    });
  }
  $("torch").onclick = guarded(toggleTorch);
  $("zoom").querySelector("input").oninput = guarded((event) => camera?.set("zoom", Number(event.target.value)));
  $("set-region").onclick = () => (region.isWhole && !region.isSetting ? askForRegion() : region.clear());
  $("frame").addEventListener("region", showRegion);
  showRegion();
}

// Runs an action; what goes wrong becomes the page's line.
function guarded(action) {
  return async (event) => {
    tell("");
    try {
      await action(event);
    } catch (error) {
      tell(error);
    }
  };
}

function tell(problem) {
  $("line").classList.remove("note");
  $("line").textContent = problem === "" ? "" : words(problem);
}

function note(sentence) {
  tell("");
  $("line").classList.add("note");
  $("line").textContent = sentence;
}

function words(error) {
  if (!(error instanceof Problem)) return text("unexpected", { reason: error?.message ?? error });
  return text(error.key, error.values);
}

// --- the camera, live ---

async function openCamera() {
  const before = turn;
  try {
    if (camera === null) await (opening ??= openedCamera());
  } catch (error) {
    if (turn === before) showWithoutCamera();
    throw error;
  }
  if (turn !== before) return; // the person has asked for something else meanwhile
  const mine = nextTurn();
  showStage("video");
  await $("video").play();
  if (turn !== mine) return;
  showCameraControls();
  view.forgetSpoken();
  await answerLive(mine);
}

async function openedCamera() {
  try {
    camera = await Camera.open($("video"), guarded(closeCamera));
    $("torch").setAttribute("aria-pressed", "false");
  } finally {
    opening = null;
  }
}

// Somebody else has taken the camera, or the person has withdrawn it.
async function closeCamera() {
  camera = null;
  if (recording) await stopRecording();
  else if (turn === live) nextTurn();
  if (camera === null) showWithoutCamera();
  throw new Problem("camera_ended");
}

// Begins another answer, and ends the one before it.
function nextTurn() {
  turn += 1;
  return turn;
}

function showCameraControls() {
  $("torch").hidden = !camera?.hasTorch;
  const zoom = camera?.zoom ?? null;
  $("zoom").hidden = zoom === null;
  if (zoom === null) return;
  const slider = $("zoom").querySelector("input");
  Object.assign(slider, { min: zoom.min, max: zoom.max, step: zoom.step || 0.1 });
  slider.value = camera.zoomNow ?? zoom.min;
}

async function toggleTorch() {
  const isOn = $("torch").getAttribute("aria-pressed") !== "true";
  await camera.set("torch", isOn);
  $("torch").setAttribute("aria-pressed", String(isOn));
}

// Answers for the camera's pictures until something else is asked for. After an error the button offers a new start.
async function answerLive(mine) {
  live = mine;
  $("camera").hidden = true;
  try {
    await answerPictures(mine);
  } catch (error) {
    if (turn !== mine) return;
    nextTurn();
    if (recording) endRecording().recorder?.stop();
    $("camera").hidden = false;
    $("record").hidden = true;
    throw error;
  }
}

async function answerPictures(mine) {
  let recent = [];
  // One holds the picture that was answered last and may be kept; the next picture is drawn into the other.
  const canvases = [document.createElement("canvas"), document.createElement("canvas")];
  subjectIs(null);
  view.say(text("live"), text("looking"));
  while (turn === mine) {
    const time = performance.now();
    const pixels = pixelsOfVideo($("video"), canvases[0]);
    if (pixels === null) {
      await nextPicture($("video"));
      continue;
    }
    const about = aboutPixels();
    const prediction = await answerPixels(pixels);
    if (turn !== mine) return;
    recent = [...recent.filter((each) => time - each.time < WINDOW_MILLISECONDS), { time, prediction }];
    const answer = judgeClip(recent.map((each) => each.prediction), model.contract, model.variant);
    view.show(answer, model.contract, text("live"));
    subjectIs({ kind: "picture", origin: "camera", ...about, answer, canvas: pixels.canvas });
    canvases.reverse();
    if (recording !== null) await goOnRecording(time, prediction);
    await nextPicture($("video"));
  }
}

function pixelsOfVideo(video, canvas) {
  if (video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA || video.videoWidth === 0) return null;
  return pixelsOf(video, video.videoWidth, video.videoHeight, region.part, canvas);
}

function nextPicture(video) {
  if (document.hidden) { // nobody looks, and computing would empty the battery
    return new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
  }
  if (video.requestVideoFrameCallback === undefined) return new Promise(requestAnimationFrame);
  return new Promise((resolve) => {
    video.requestVideoFrameCallback(resolve);
    setTimeout(resolve, 500); // a camera that stands still must not stop the loop from ending
  });
}

async function answerPixels(pixels) {
  const { logits, score } = await model.engine.answer(pixels, model.contract);
  return judgePicture(logits, score, model.contract, model.variant);
}

// --- pictures and clips ---

async function takePhoto() {
  const pixels = pixelsOfVideo($("video"));
  if (pixels !== null) await answerStill(pixels, { origin: "camera", ...aboutPixels() }, nextTurn());
}

async function answerStill(pixels, about, mine) {
  subjectIs(null);
  showStill(pixels);
  const answer = await answerPixels(pixels);
  if (turn !== mine) return;
  view.forgetSpoken();
  view.show(answer, model.contract, text("still"));
  subjectIs({ kind: "picture", ...about, answer, canvas: pixels.canvas });
}

async function answerFile(file) {
  const mine = nextTurn();
  if (recording) endRecording().recorder?.stop();
  subjectIs(null);
  view.say(text("still"), text("looking"));
  try {
    await (file.type.startsWith("video/") ? answerClipFile(file, mine) : answerPictureFile(file, mine));
  } catch (error) {
    if (turn !== mine) return;
    view.say(text("no_answer"));
    if (!$("video").hidden) guarded(() => answerLive(mine))(); // the camera's picture is still there
    throw error;
  }
}

async function answerPictureFile(file, mine) {
  const about = { origin: "file", ...aboutPixels() };
  // The file as it is goes home where the graph sees the whole picture.
  const blob = about.region === null && canBeKept(file) ? file : null;
  const pixels = await pixelsOfFile(file, region.part);
  if (turn === mine) await answerStill(pixels, { ...about, blob }, mine);
}

async function answerClipFile(file, mine) {
  const about = { origin: "file", ...aboutPixels(), blob: file };
  const frames = [];
  await eachSecond(file, async (video) => {
    if (turn !== mine) return false;
    const pixels = pixelsOfVideo(video);
    if (pixels === null) throw new Problem("clip_unreadable");
    showStill(pixels);
    frames.push(await answerPixels(pixels));
    return turn === mine;
  });
  if (turn === mine) showClip(frames, about);
}

// What a sample has to say of its pixels: when they were taken, and which part of the picture they are.
function aboutPixels() {
  return { region: region.isWhole ? null : region.part, recordedAt: localTime(new Date()) };
}

function startRecording() {
  if (region.isSetting) region.clear();
  let recorder = null;
  try {
    recorder = new Recorder(camera.stream);
  } catch (error) {
    tell(error);
  }
  const about = { origin: "camera", ...aboutPixels() };
  recording = { recorder, about, started: performance.now(), rhythm: new OneASecond(), frames: [] };
  $("record").textContent = text("record_stop");
  $("recording").hidden = false;
  $("photo").disabled = $("set-region").disabled = true; // a clip has one region
}

async function goOnRecording(time, prediction) {
  const seconds = (time - recording.started) / 1000;
  if (seconds < 0) return; // a frame from before the button was pressed
  if (recording.rhythm.isDue(seconds)) recording.frames.push(prediction);
  $("recording").querySelector("span").textContent = text("recording", { seconds: Math.floor(seconds) });
  if (seconds >= LONGEST_CLIP_SECONDS) await stopRecording();
}

async function stopRecording() {
  const mine = nextTurn();
  const { recorder, about, frames } = endRecording();
  subjectIs(null);
  const pixels = pixelsOfVideo($("video"));
  if (pixels !== null) showStill(pixels);
  const blob = recorder === null ? null : await recorder.stop();
  if (pixels !== null && frames.length === 0) frames.push(await answerPixels(pixels));
  if (turn === mine && frames.length) showClip(frames, { ...about, blob });
}

function endRecording() {
  const ended = recording;
  recording = null;
  $("record").textContent = text("record");
  $("recording").hidden = true;
  $("photo").disabled = $("set-region").disabled = false;
  return ended;
}

function showClip(frames, about) {
  const answer = judgeClip(frames, model.contract, model.variant);
  view.forgetSpoken();
  view.show(answer, model.contract, text("clip", { count: frames.length }));
  subjectIs({ kind: "clip", ...about, answer });
}

// --- what is shown ---

// Shows the video, the still picture, or neither.
function showStage(what) {
  $("video").hidden = what !== "video";
  $("still").hidden = what !== "still";
  $("empty").hidden = what !== "empty";
  $("camera").hidden = what === "video";
  $("take").hidden = camera !== null;
  $("photo").hidden = $("record").hidden = what !== "video";
  if (what !== "video") $("torch").hidden = $("zoom").hidden = true;
  $("region").classList.toggle("inside", what === "still");
}

// Leaves the still picture where there is one.
function showWithoutCamera() {
  showStage($("still").hidden ? "empty" : "still");
}

function showStill({ canvas }) {
  const still = $("still");
  still.width = canvas.width;
  still.height = canvas.height;
  still.getContext("2d").drawImage(canvas, 0, 0);
  showStage("still");
}

function askForRegion() {
  region.set();
  note(text("region_help"));
  $("set-region").textContent = text("cancel");
}

function showRegion() {
  $("set-region").textContent = text(region.isWhole ? "region_set" : "region_clear");
  tell("");
}

// --- samples ---

async function openSamples() {
  $("show-samples").textContent = text("samples", { count: 0 });
  try {
    samples = await Samples.open();
    samplesView = new SamplesView(samples, tell);
    await samplesView.count();
    about.samples = samples.hasFiles ? "" : text("store_database");
    showAbout();
  } catch (error) {
    samples = null;
    noSamples = error;
    $("show-samples").onclick = () => tell(error);
  }
}

// What "Wrong, it is …" would keep; null while the next answer is computed.
function subjectIs(newSubject) {
  subject = newSubject;
  $("wrong").disabled = subject === null;
}

// Keeps what was answered last under the class that the person names.
async function correct() {
  const { kind, origin, region: part, recordedAt, answer, canvas, blob } = subject;
  if (samples === null) throw noSamples;
  const file = blob ?? (canvas ? await jpegOf(canvas) : null);
  if (file === null) throw new Problem("recorder_unknown");
  if (!canBeKept(file)) throw new Problem("cannot_keep");
  const label = await askForClass(model.contract.classes, (await samples.all()).map((sample) => sample.label));
  if (label === null) return;
  await samples.add({
    kind,
    origin,
    label,
    recorded_at: recordedAt,
    session,
    bundle_id: model.page.bundle_id,
    variant: model.page.variant,
    region: part,
    answer: { label: answer.label, probability: answer.probability, score: answer.score },
    blob: file,
  });
  await samplesView.count();
  note(text("kept", { label }));
}

start().catch((error) => {
  view.say(text("refused_title"));
  $("answer").classList.add("refused");
  tell(error);
});
