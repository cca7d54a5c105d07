// The files of the page: beside it in a folder, or inside it where the page is one file.

import { Problem } from "./problem.js";
import { sha256Hex } from "./sha256.js";

const blockOf = (name) => document.getElementById(`file:${name}`);

export const isSingleFile = () => blockOf("page.json") !== null;

// The bytes of a file.
export async function bytesOf(name) {
  const block = blockOf(name);
  if (block !== null) return unpacked(block.textContent);
  let response;
  try {
    response = await fetch(name);
  } catch {
    throw new Problem("file_missing", { name });
  }
  if (!response.ok) throw new Problem("file_missing", { name });
  try {
    return new Uint8Array(await response.arrayBuffer());
  } catch {
    throw new Problem("file_missing", { name });
  }
}

// The same, where they have this sha256.
export async function checkedBytes(name, hash) {
  const bytes = await bytesOf(name);
  if ((await sha256Hex(bytes)) !== hash) throw new Problem("file_changed", { name });
  return bytes;
}

// What a worker imports a module from: its address, or its text, since a worker of one file may not load the page's blobs.
export async function moduleOf(name) {
  if (!isSingleFile()) return { url: new URL(name, document.baseURI).href };
  return { source: new TextDecoder().decode(await bytesOf(name)) };
}

// Inside one file each file is gzip in base64.
async function unpacked(base64) {
  if (typeof DecompressionStream === "undefined") throw new Problem("no_decompression");
  const packed = Uint8Array.from(atob(base64.trim()), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
