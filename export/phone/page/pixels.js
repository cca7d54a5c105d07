// Pixels for the graph: upright RGB without colour conversion, alpha over white, cut to the region and never resized.

import { Problem } from "./problem.js";

const AS_STORED = { colorSpaceConversion: "none", imageOrientation: "from-image" };
export const WHOLE = { left: 0, top: 0, width: 1, height: 1 };

// The pixels of a picture file.
export async function pixelsOfFile(blob, region = WHOLE) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, AS_STORED);
  } catch {
    throw new Problem("picture_unreadable");
  }
  try {
    return pixelsOf(bitmap, bitmap.width, bitmap.height, region);
  } finally {
    bitmap.close();
  }
}

// The pixels of a bitmap or of a video's frame. The canvas then holds the same part, to be shown or kept.
export function pixelsOf(source, width, height, region = WHOLE, canvas = document.createElement("canvas")) {
  const box = boxInPixels(region, width, height);
  if (canvas.width !== box.width) canvas.width = box.width;
  if (canvas.height !== box.height) canvas.height = box.height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingEnabled = false;
  context.fillStyle = "#fff";
  context.fillRect(0, 0, box.width, box.height);
  context.drawImage(source, box.left, box.top, box.width, box.height, 0, 0, box.width, box.height);
  const rgba = context.getImageData(0, 0, box.width, box.height).data;
  return { rgb: withoutAlpha(rgba), width: box.width, height: box.height, canvas };
}

// A region as whole pixels inside the picture, at least one.
export function boxInPixels(region, width, height) {
  const left = Math.min(Math.round(region.left * width), width - 1);
  const top = Math.min(Math.round(region.top * height), height - 1);
  const right = Math.min(Math.round((region.left + region.width) * width), width);
  const bottom = Math.min(Math.round((region.top + region.height) * height), height);
  return { left, top, width: Math.max(right - left, 1), height: Math.max(bottom - top, 1) };
}

// (pixels, 4) to (pixels, 3).
export function withoutAlpha(rgba) {
  const rgb = new Uint8Array((rgba.length / 4) * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4, to += 3) {
    rgb[to] = rgba[from];
    rgb[to + 1] = rgba[from + 1];
    rgb[to + 2] = rgba[from + 2];
  }
  return rgb;
}

// A JPEG of what the graph saw, at the quality of `pipe extract`.
export function jpegOf(canvas) {
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Problem("picture_unreadable"))), "image/jpeg", 0.95);
  });
}
