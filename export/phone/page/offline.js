// Keeps the page in the browser for use without a network, by its service worker. It also adds the headers for threads.

import { isSingleFile } from "./files.js";
import { ownName } from "./own_name.js";
import { Problem } from "./problem.js";

const RELOADED = "clip2edge reloaded";

// Waits until the page is kept. Loads it once more where only then threads are there. Throws where it is not kept.
export async function keepOffline() {
  if (isSingleFile()) return;
  if (!globalThis.isSecureContext) throw new Problem("offline_insecure");
  if (!navigator.serviceWorker) throw new Problem("offline_unknown");
  let registration;
  try {
    registration = await navigator.serviceWorker.register("sw.js");
    if (registration.waiting) await takeOver(registration.waiting);
    else if (!registration.active) await settled(registration.installing);
  } catch (error) {
    if (error instanceof Problem) throw error;
    if (error.name === "SecurityError") throw new Problem("offline_untrusted");
    throw new Problem("offline_refused", { reason: error.message || error.name });
  }
  if (!globalThis.crossOriginIsolated) await reloadOnce();
}

// A newer version of the page has come and waits until no tab uses the older one.
async function takeOver(waiting) {
  const taken = new Promise((resolve) => {
    navigator.serviceWorker.addEventListener("controllerchange", resolve, { once: true });
  });
  waiting.postMessage("activate");
  await taken;
  location.reload();
  await new Promise(() => {});
}

function settled(worker) {
  return new Promise((resolve, reject) => {
    const look = () => {
      if (worker.state === "activated") resolve();
      if (worker.state === "redundant") reject(new Problem("offline_incomplete"));
    };
    worker.addEventListener("statechange", look);
    look();
  });
}

async function reloadOnce() {
  try {
    if (sessionStorage.getItem(ownName(RELOADED)) !== null) return;
    sessionStorage.setItem(ownName(RELOADED), "yes");
  } catch {
    return; // Without a mark the page could load again and again. One thread answers too.
  }
  location.reload();
  await new Promise(() => {});
}
