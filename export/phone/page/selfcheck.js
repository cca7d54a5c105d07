// The check before the first answer: the files, the graph's numbers, and this browser's decoder of pictures.

import { Engine, LIBRARIES } from "./engine.js";
import { checkedBytes } from "./files.js";
import { pixelsOfFile } from "./pixels.js";
import { Problem } from "./problem.js";
import { sha256Hex } from "./sha256.js";
import { chosenEngine, Computer } from "./webgpu.js";

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
  const { wasm } = LIBRARIES.processor;
  const onProcessor = await Engine.open({ wasm: read[wasm], graph: read[page.graph] }, contract);
  say("computing");
  const check = async (engine) => {
    let pixels;
    for (const sample of page.golden) pixels = await checkNumbers({ page, contract, engine }, sample, read[sample.pixels]);
    return pixels;
  };
  await check(onProcessor);
  for (const sample of page.golden) await checkDecoder(sample, read[sample.image], read[sample.pixels]);
  const { engine, reason } = await chosenEngine({ page, contract, variant, onProcessor, check, say });
  const openAgain = async () => {
    const [binary, graph] = await Promise.all([wasm, page.graph].map((name) => checkedBytes(name, page.files[name])));
    return Engine.open({ wasm: binary, graph }, contract);
  };
  return { page, contract, variant, engine: new Computer(engine, reason, openAgain) };
}

async function checkedFiles(page, say) {
  const read = {};
  const names = Object.keys(page.files);
  for (const [number, name] of names.entries()) {
    say("reading", { number: number + 1, count: names.length });
    read[name] = await checkedBytes(name, page.files[name]);
  }
  return read;
}

// The same pixels as where the bundle was built have to give the same numbers, within the contract's tolerance.
// Returns the pixels.
async function checkNumbers({ page, contract, engine }, sample, png) {
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
  return pixels;
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
