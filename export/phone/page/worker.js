// Runs the graph in a thread of its own, so that the camera's picture does not stop while it computes.

let session = null;
let ort = null;

const tasks = {
  // Opens the graph. Gives the names of its inputs and outputs.
  async open({ library, loader, wasm, graph, cpuNodes, threads }) {
    ort = await import(addressOf(library));
    ort.env.wasm.wasmBinary = wasm;
    ort.env.wasm.wasmPaths = { mjs: addressOf(loader) };
    ort.env.wasm.numThreads = threads;
    ort.env.logLevel = "fatal";
    // Exact int8: on x86 without VNNI the usual kernels may overflow. Others ignore the option.
    const exact = { session: { x64quantprecision: "1" } };
    // WebGPU has no antialiased Resize. Nodes that it does not take are computed on the processor.
    const options = cpuNodes?.length ? { forceCpuNodeNames: cpuNodes } : {}; // an empty list is refused
    const provider = cpuNodes === undefined ? "wasm" : { name: "webgpu", ...options };
    session = await ort.InferenceSession.create(new Uint8Array(graph), { executionProviders: [provider], extra: exact });
    return { inputs: [...session.inputNames], outputs: [...session.outputNames] };
  },

  // Runs it on pixels (height, width, 3).
  async run({ rgb, height, width }) {
    const started = performance.now();
    const image = new ort.Tensor("uint8", rgb, [1, height, width, 3]);
    const outputs = await session.run({ image });
    const logits = Array.from(outputs.logits.data);
    const score = outputs.known_score ? outputs.known_score.data[0] : Math.max(...logits);
    return { logits, score, milliseconds: performance.now() - started };
  },
};

function addressOf({ url, source }) {
  return url ?? URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
}

self.onmessage = async ({ data }) => {
  try {
    self.postMessage({ number: data.number, result: await tasks[data.task](data) });
  } catch (error) {
    self.postMessage({ number: data.number, error: String(error?.message ?? error) });
  }
};
