// The graph, as the page calls it: messages to the worker and their answers.

import { moduleOf } from "./files.js";
import { Problem } from "./problem.js";

// onnxruntime-web for the processor alone, and the one that has WebGPU too. That one waits for the device by JSPI.
export const LIBRARIES = {
  processor: {
    library: "ort/ort.wasm.min.mjs",
    loader: "ort/ort-wasm-simd-threaded.mjs",
    wasm: "ort/ort-wasm-simd-threaded.wasm",
  },
  webgpu: {
    library: "ort/ort.jspi.min.mjs",
    loader: "ort/ort-wasm-simd-threaded.jspi.mjs",
    wasm: "ort/ort-wasm-simd-threaded.jspi.wasm",
  },
};

export class Engine {
  #worker;
  #waiting = new Map();
  #number = 0;
  #failure = null; // why the worker answers nothing more

  constructor(worker) {
    this.#worker = worker;
    worker.onmessage = ({ data }) => {
      const waiting = this.#waiting.get(data.number);
      if (waiting === undefined) return; // it was told that the worker failed
      this.#waiting.delete(data.number);
      if (data.error === undefined) waiting.resolve(data.result);
      else waiting.reject(new Problem("engine_failed", { reason: data.error }));
    };
    worker.onerror = (event) => {
      event.preventDefault();
      this.#fail(event.message || "the worker ended");
    };
    worker.onmessageerror = () => this.#fail("an answer could not be read");
  }

  // Starts the worker and opens the graph of a contract's variant in it. With `cpuNodes` it computes on WebGPU, but for the
  // nodes of these names. `signal` ends it.
  static async open({ wasm, graph, cpuNodes }, contract, signal) {
    if (typeof WebAssembly === "undefined") throw new Problem("no_wasm");
    const program = await moduleOf("worker.js");
    let worker;
    try {
      // No module worker: a page from the file system may not start one.
      worker = new Worker(program.url ?? URL.createObjectURL(new Blob([program.source], { type: "text/javascript" })));
    } catch {
      throw new Problem("no_worker");
    }
    const engine = new Engine(worker);
    if (signal?.aborted) engine.close();
    signal?.addEventListener("abort", () => engine.close());
    const names = cpuNodes === undefined ? LIBRARIES.processor : LIBRARIES.webgpu;
    const [library, loader] = await Promise.all([names.library, names.loader].map(moduleOf));
    const message = { library, loader, wasm: wasm.buffer, graph: graph.buffer, cpuNodes, threads: threadCount() };
    const { inputs, outputs } = await engine.#ask("open", message, [wasm.buffer, graph.buffer]);
    const wanted = contract.unknown_score === "known_score" ? ["logits", "known_score"] : ["logits"];
    if (String(inputs) !== "image" || String(outputs) !== String(wanted)) {
      throw new Problem("graph_disagrees", { found: `${inputs} -> ${outputs}`, expected: `image -> ${wanted}` });
    }
    return engine;
  }

  // The graph's logits and score for one picture, within the contract's bounds.
  async answer({ rgb, height, width }, contract) {
    const longer = Math.max(height, width);
    if (height * width > contract.max_pixels) throw new Problem("picture_too_large", { height, width });
    if (longer > contract.max_aspect * Math.min(height, width)) throw new Problem("picture_too_long", { height, width });
    const answer = await this.#ask("run", { rgb, height, width }, []);
    const isFinite = [...answer.logits, answer.score].every(Number.isFinite);
    if (!isFinite || answer.logits.length !== contract.classes.length) {
      throw new Problem("engine_failed", { reason: `logits ${answer.logits}, score ${answer.score}` });
    }
    return answer;
  }

  // Ends the worker and frees its memory. Who waits for an answer is told the reason.
  close(reason = "it was closed") {
    this.#worker.terminate();
    this.#fail(reason);
  }

  async #ask(task, values, transfer) {
    if (this.#failure !== null) throw this.#failure;
    this.#number += 1;
    const number = this.#number;
    return new Promise((resolve, reject) => {
      this.#waiting.set(number, { resolve, reject });
      this.#worker.postMessage({ number, task, ...values }, transfer);
    });
  }

  #fail(reason) {
    this.#failure = new Problem("engine_failed", { reason });
    for (const { reject } of this.#waiting.values()) reject(this.#failure);
    this.#waiting.clear();
  }
}

// Threads need memory that they share, which a browser gives to isolated pages only.
export function threadCount() {
  return globalThis.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency || 1, 4) : 1;
}
