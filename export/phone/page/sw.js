// Answers from the browser's own copy of the page, with the headers that give threads and let nothing leave.
// `pipe phone` puts a line in front: const BUILD = { id, files, policy }.

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

async function keep() {
  const cache = await caches.open(CACHE);
  await cache.addAll(BUILD.files.map((name) => new Request(name, { cache: "no-cache" })));
}

async function forgetEarlier() {
  const mine = (name) => name.startsWith(`clip2edge ${self.registration.scope} `) && name !== CACHE;
  for (const name of await caches.keys()) if (mine(name)) await caches.delete(name);
  await self.clients.claim();
}

async function answer(request) {
  const cache = await caches.open(CACHE);
  const found = (await cache.match(request, { ignoreSearch: true })) ?? (await fetch(request));
  const headers = new Headers(found.headers);
  for (const [name, value] of Object.entries(HEADERS)) headers.set(name, value);
  return new Response(found.body, { status: found.status, statusText: found.statusText, headers });
}
