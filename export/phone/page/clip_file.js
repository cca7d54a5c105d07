// The frames of a clip's file that its verdict is from: those that the browser shows at each full second.

import { Problem } from "./problem.js";

const MOST_SECONDS = 600;
const BEHIND_EVERY_END = 1e9;

// Calls `see` with a video element that stands at each full second, until it gives false.
export async function eachSecond(file, see) {
  const video = document.createElement("video");
  video.muted = true;
  video.playsInline = true;
  video.preload = "auto";
  video.src = URL.createObjectURL(file);
  try {
    await event(video, "loadeddata");
    const seconds = await secondsOf(video);
    for (let second = 0; second === 0 || (second < seconds && second < MOST_SECONDS); second += 1) {
      if (second > 0) await goTo(video, second);
      if ((await see(video)) === false) return;
    }
  } finally {
    URL.revokeObjectURL(video.src);
    video.removeAttribute("src");
    video.load();
  }
}

// A recorder of a browser may state no length. The browser finds it where it goes to the end.
async function secondsOf(video) {
  if (!Number.isFinite(video.duration)) {
    for (const second of [BEHIND_EVERY_END, 0]) await goTo(video, second);
  }
  if (!Number.isFinite(video.duration)) throw new Problem("clip_endless");
  return video.duration;
}

async function goTo(video, second) {
  const gone = event(video, "seeked");
  video.currentTime = second;
  await gone;
}

function event(video, name) {
  const waiting = new AbortController();
  const { signal } = waiting;
  return new Promise((resolve, reject) => {
    video.addEventListener(name, resolve, { signal });
    video.addEventListener("error", () => reject(new Problem("clip_unreadable")), { signal });
  }).finally(() => waiting.abort());
}
