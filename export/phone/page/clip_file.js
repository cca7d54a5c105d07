// The frames of a clip's file that its verdict is from: those that the browser shows at each full second.

import { Problem } from "./problem.js";

const MOST_SECONDS = 600;

// Calls `see` with a video element that stands at each full second, until it gives false.
export async function eachSecond(file, see) {
  const video = document.createElement("video");
  video.muted = true;
  video.playsInline = true;
  video.preload = "auto";
  video.src = URL.createObjectURL(file);
  try {
    await event(video, "loadeddata");
    const seconds = Number.isFinite(video.duration) ? video.duration : 0; // a clip without a stated end has one frame
    for (let second = 0; second === 0 || (second < seconds && second < MOST_SECONDS); second += 1) {
      if (second > 0) {
        video.currentTime = second;
        await event(video, "seeked");
      }
      if ((await see(video)) === false) return;
    }
  } finally {
    URL.revokeObjectURL(video.src);
    video.removeAttribute("src");
    video.load();
  }
}

function event(video, name) {
  return new Promise((resolve, reject) => {
    video.addEventListener(name, resolve, { once: true });
    video.addEventListener("error", () => reject(new Problem("clip_unreadable")), { once: true });
  });
}
