// Where the graph is computed: on WebGPU, where that gives the golden numbers and is no slower, else on the processor.

import { Engine, LIBRARIES } from "./engine.js";
import { checkedBytes, isSingleFile } from "./files.js";
import { Problem } from "./problem.js";

const LONGEST_SECONDS = 30; // of opening and checking, and of one answer later; drivers may hang
const MOST_LETTERS = 100; // of a driver's own words

// Answers on WebGPU until that fails, such as when the browser takes the device away, and then on the processor.
export class Computer {
  #engine;
  #openOnProcessor;
  #failure = null; // the first one on WebGPU
  #moving = null;
  onmoved = () => {};

  // `reason`: the Problem why it is not WebGPU; null where it is.
  constructor(engine, reason, openOnProcessor) {
    this.#engine = engine;
    this.reason = reason;
    this.#openOnProcessor = openOnProcessor;
  }

  async answer(pixels, contract) {
    if (this.reason !== null) return this.#engine.answer(pixels, contract);
    const engine = this.#engine;
    let seconds = 0; // counted, since a phone may sleep meanwhile
    const timer = setInterval(() => {
      seconds += 1;
      if (seconds === LONGEST_SECONDS) engine.close(`no answer for ${LONGEST_SECONDS} seconds`);
    }, 1000);
    try {
      return await engine.answer(pixels, contract);
    } catch (error) {
      if (error?.key !== "engine_failed") throw error;
      this.#failure ??= error;
    } finally {
      clearInterval(timer);
    }
    if (this.reason === null) {
      // Where the graph cannot be opened now, such as without a network, the next answer tries again.
      this.#moving ??= this.#move().finally(() => { this.#moving = null; });
      await this.#moving;
    }
    return this.#engine.answer(pixels, contract);
  }

  async #move() {
    this.#engine.close();
    this.#engine = await this.#openOnProcessor();
    this.reason = new Problem("webgpu_lost", { reason: shortWords(this.#failure) });
    this.onmoved();
  }
}

// Tries WebGPU beside the engine on the processor. Gives the engine to answer with, and the Problem why it is not WebGPU.
// `check` gives an engine all golden pictures, and returns the pixels of one.
export async function chosenEngine({ page, contract, variant, onProcessor, check, say }) {
  const stop = new AbortController();
  const late = new Problem("webgpu_late", { seconds: LONGEST_SECONDS });
  const timer = setTimeout(() => stop.abort(late), 1000 * LONGEST_SECONDS);
  const stopped = new Promise((_, reject) => {
    stop.signal.addEventListener("abort", () => reject(late), { once: true });
  });
  try {
    const trial = openOnWebgpu({ page, contract, variant, onProcessor, check, say, signal: stop.signal });
    const engine = await Promise.race([trial, stopped]);
    onProcessor.close();
    return { engine, reason: null };
  } catch (error) {
    stop.abort();
    return { engine: onProcessor, reason: reasonOf(error) };
  } finally {
    clearTimeout(timer);
  }
}

async function openOnWebgpu({ page, contract, variant, onProcessor, check, say, signal }) {
  const obstacle = await obstacleOf(page, variant);
  if (obstacle !== null) throw obstacle;
  signal.throwIfAborted(); // the page answers already, and its line is not ours
  say("opening_webgpu");
  const { files, cpu_nodes: cpuNodes } = page.webgpu;
  const read = await Promise.all(Object.entries(files).map(async ([name, hash]) => [name, await checkedBytes(name, hash)]));
  const wasm = Object.fromEntries(read)[LIBRARIES.webgpu.wasm];
  const graph = await checkedBytes(page.graph, page.files[page.graph]);
  const engine = await Engine.open({ wasm, graph, cpuNodes }, contract, signal);
  const pixels = await check(engine);
  const [webgpu, processor] = [await milliseconds(engine, pixels, contract), await milliseconds(onProcessor, pixels, contract)];
  if (webgpu > processor) throw new Problem("webgpu_slower", { webgpu: Math.ceil(webgpu), processor: Math.ceil(processor) });
  return engine;
}

// What this page or browser lacks; null where nothing does.
async function obstacleOf(page, variant) {
  if (isSingleFile()) return new Problem("webgpu_one_file");
  if (page.webgpu === null) return new Problem("webgpu_int8");
  if (!navigator.gpu) return new Problem("webgpu_unknown");
  if (!("Suspending" in WebAssembly)) return new Problem("webgpu_no_jspi");
  const adapter = await navigator.gpu.requestAdapter();
  if (adapter === null) return new Problem("webgpu_no_adapter");
  if (adapter.info?.isFallbackAdapter) return new Problem("webgpu_software");
  if (variant.precision === "fp16" && !adapter.features.has("shader-f16")) return new Problem("webgpu_no_fp16");
  return null;
}

async function milliseconds(engine, pixels, contract) {
  const times = [];
  for (let run = 0; run < 3; run += 1) times.push((await engine.answer(pixels, contract)).milliseconds);
  return Math.min(...times);
}

function reasonOf(error) {
  if (error?.key?.startsWith("webgpu_")) return error;
  if (["numbers_differ", "label_differs"].includes(error?.key)) return new Problem("webgpu_wrong", { name: error.values.name });
  if (["file_missing", "file_changed"].includes(error?.key)) return new Problem("webgpu_file", { name: error.values.name });
  return new Problem("webgpu_failed", { reason: shortWords(error) });
}

function shortWords(error) {
  return String(error?.values?.reason ?? error?.message ?? error).slice(0, MOST_LETTERS);
}
