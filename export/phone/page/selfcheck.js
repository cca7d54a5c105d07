// The check before the first answer: the files, the graph's numbers, and this browser's decoder of pictures.

import { Engine } from "./engine.js";
import { bytesOf } from "./files.js";
import { pixelsOfFile } from "./pixels.js";
import { Problem } from "./problem.js";
import { sha256Hex } from "./sha256.js";

// Decoders of JPEG differ by rounding, by about one level of 255 on average. Swapped or converted colours differ by more.
const DECODER_LEVELS = 3;

// Checks everything that page.json lists. Gives what answers are made with, or throws the Problem that it found.
export async function selfcheck(page, say) {
  const read = await checkedFiles(page, say);
  const contract = JSON.parse(new TextDecoder().decode(read["model/contract.json"]));
  const variant = contract.variants.find(({ name }) => name === page.variant);
  if (variant === undefined || variant.sha256 !== page.files[page.graph]) throw new Problem("contract_disagrees");
  const lacksScore = ({ score }) => contract.unknown_score === "known_score" && !Number.isFinite(score);
  if (page.golden.length === 0 || page.golden.some(lacksScore)) throw new Problem("golden_missing");
  say("opening");
  const engine = await Engine.open({ wasm: read["ort/ort-wasm-simd-threaded.wasm"], graph: read[page.graph] }, contract);
  const model = { page, contract, variant, engine };
  say("computing");
  for (const [number, sample] of page.golden.entries()) {
    await checkNumbers(model, number, read[sample.pixels]);
    await checkDecoder(sample, read[sample.image], read[sample.pixels]);
  }
  return model;
}

async function checkedFiles(page, say) {
  const read = {};
  const names = Object.keys(page.files);
  for (const [number, name] of names.entries()) {
    say("reading", { number: number + 1, count: names.length });
    read[name] = await bytesOf(name);
    if ((await sha256Hex(read[name])) !== page.files[name]) throw new Problem("file_changed", { name });
  }
  return read;
}

// The same pixels as where the bundle was built have to give the same numbers, within the contract's tolerance.
async function checkNumbers({ page, contract, engine }, number, png) {
  const sample = page.golden[number];
  const pixels = await pixelsOfFile(new Blob([png], { type: "image/png" }));
  if ((await sha256Hex(pixels.rgb)) !== sample.pixels_sha256) throw new Problem("pixels_changed", { name: sample.name });
  const { logits, score } = await engine.answer(pixels, contract);
  const allowed = page.allowed_logit;
  const difference = Math.max(...logits.map((logit, column) => Math.abs(logit - sample.logits[column])));
  if (!(difference <= allowed)) {
    throw new Problem("numbers_differ", { name: sample.name, difference: short(difference), allowed: short(allowed) });
  }
  if (argmax(logits) !== argmax(sample.logits)) throw new Problem("label_differs", { name: sample.name });
  if (sample.score !== null) {
    const scoreDifference = Math.abs(score - sample.score);
    if (!(scoreDifference <= page.allowed_score)) {
      const values = { name: sample.name, difference: short(scoreDifference), allowed: short(page.allowed_score) };
      throw new Problem("numbers_differ", values);
    }
  }
}

// The encoded picture has to become nearly the same pixels here.
async function checkDecoder(sample, encoded, png) {
  const decoded = await pixelsOfFile(new Blob([encoded]));
  const expected = await pixelsOfFile(new Blob([png], { type: "image/png" }));
  if (decoded.width !== expected.width || decoded.height !== expected.height) {
    throw new Problem("decoder_size", { name: sample.name, found: `${decoded.width} x ${decoded.height}` });
  }
  const sum = decoded.rgb.reduce((total, level, place) => total + Math.abs(level - expected.rgb[place]), 0);
  const levels = sum / decoded.rgb.length;
  if (!(levels <= DECODER_LEVELS)) throw new Problem("decoder_differs", { name: sample.name, levels: short(levels) });
}

const argmax = (values) => values.indexOf(Math.max(...values));
const short = (value) => Number(value.toPrecision(3));
