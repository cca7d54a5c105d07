// Answers from the browser's own copy of the page, with the headers that give threads and let nothing leave.
// `pipe phone` puts a line in front: const BUILD = { id, files, later, policy }. `files` has the sha256 of each file, and
// `later` those of files that only some browsers need.

const CACHE = `clip2edge ${self.registration.scope} ${BUILD.id}`;
const HEADERS = {
  "Content-Security-Policy": BUILD.policy,
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Resource-Policy": "same-origin",
};

self.addEventListener("install", (event) => event.waitUntil(keep()));
self.addEventListener("activate", (event) => event.waitUntil(forgetEarlier()));
self.addEventListener("message", ({ data }) => {
  if (data === "activate") self.skipWaiting();
});
self.addEventListener("fetch", (event) => {
  const { method, url } = event.request;
  if (method === "GET" && url.startsWith(self.registration.scope)) event.respondWith(answer(event.request));
});

// Keeps all files of this build or none. While a host is being changed, it may have files of two builds.
// After a failure the browser tries again at the next visit.
async function keep() {
  const cache = await caches.open(CACHE);
  try {
    await Promise.all(Object.entries(BUILD.files).map(([name, hash]) => keepFile(cache, name, hash)));
  } catch (error) {
    await caches.delete(CACHE);
    throw error;
  }
}

async function keepFile(cache, name, hash) {
  const response = await fetch(new Request(name, { cache: "no-cache" }));
  if (!response.ok) throw new Error(`${name}: status ${response.status}`);
  const bytes = await response.clone().arrayBuffer();
  const digest = Array.from(new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)));
  const found = digest.map((byte) => byte.toString(16).padStart(2, "0")).join("");
  if (found !== hash) throw new Error(`${name}: not a file of this build`);
  await cache.put(name, response);
}

async function forgetEarlier() {
  const mine = (name) => name.startsWith(`clip2edge ${self.registration.scope} `) && name !== CACHE;
  for (const name of await caches.keys()) if (mine(name)) await caches.delete(name);
  await self.clients.claim();
}

async function answer(request) {
  const cache = await caches.open(CACHE);
  const found = (await cache.match(request, { ignoreSearch: true })) ?? (await fetched(cache, request));
  const headers = new Headers(found.headers);
  for (const [name, value] of Object.entries(HEADERS)) headers.set(name, value);
  return new Response(found.body, { status: found.status, statusText: found.statusText, headers });
}

// A file of `later` is kept once the page asks for it. Where it cannot be kept, the page has it for this time.
async function fetched(cache, request) {
  const name = request.url.slice(self.registration.scope.length);
  if (!(name in BUILD.later)) return fetch(request);
  try {
    await keepFile(cache, name, BUILD.later[name]);
  } catch {
    return fetch(request);
  }
  return cache.match(request);
}
