// All samples as one zip, which `pipe add --from-phone` reads. docs/contracts.md has the format.

import { Problem } from "./problem.js";
import { sha256Hex } from "./sha256.js";
import { crc32, fitsZip, zipParts } from "./zip.js";

const FORMAT_VERSION = 1;
const SUFFIXES = {
  "image/jpeg": "jpg", "image/png": "png", "image/webp": "webp", "image/heic": "heic",
  "video/mp4": "mp4", "video/webm": "webm", "video/quicktime": "mov",
};

// The zip as a Blob. One file at a time is in memory, since a phone has less of it than of storage.
export async function zipOfSamples(samples) {
  const files = [];
  const listed = [];
  if (!fitsZip(samples.reduce((sum, { blob }) => sum + blob.size, 0))) throw new Problem("samples_too_large");
  for (const [place, { id, blob, ...about }] of samples.entries()) {
    const bytes = new Uint8Array(await blob.arrayBuffer());
    const name = `files/${String(place + 1).padStart(4, "0")}.${suffixOf(blob)}`;
    files.push({ name, crc: crc32(bytes), blob });
    listed.push({ file: name, sha256: await sha256Hex(bytes), ...about });
  }
  const list = JSON.stringify({ format: "clip2edge samples", format_version: FORMAT_VERSION, samples: listed }, null, 1);
  const bytes = new TextEncoder().encode(list);
  files.unshift({ name: "samples.json", crc: crc32(bytes), blob: new Blob([bytes]) });
  return new Blob(zipParts(files), { type: "application/zip" });
}

// Whether a file's type is one that `pipe add` reads.
export const canBeKept = (blob) => suffixOf(blob) !== undefined;

function suffixOf(blob) {
  return SUFFIXES[blob.type.split(";")[0]];
}

// Local time with its offset from UTC, as ISO 8601.
export function localTime(date) {
  const offset = -date.getTimezoneOffset();
  const two = (number) => String(Math.floor(Math.abs(number))).padStart(2, "0");
  const local = new Date(date.getTime() + offset * 60_000).toISOString().slice(0, 19);
  return `${local}${offset < 0 ? "-" : "+"}${two(offset / 60)}:${two(offset % 60)}`;
}
