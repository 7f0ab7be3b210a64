// The network, run by ONNX Runtime in WebAssembly. Images are bytes of the network's size; the graph normalises them.

import * as ort from "./ort/ort.wasm.bundle.min.mjs";

const MOST_AT_ONCE = 16;

export async function loadNetwork(about) {
  ort.env.wasm.numThreads = 1; // several need headers that a plain static server does not send
  ort.env.wasm.wasmPaths = { wasm: new URL("./ort/ort-wasm-simd-threaded.wasm", import.meta.url).href };
  ort.env.logLevel = "error";
  const session = await ort.InferenceSession.create(new URL("./model.onnx", import.meta.url).href,
    { executionProviders: ["wasm"], graphOptimizationLevel: "all" });
  const [height, width] = about.preprocess.image_size;

  async function together(images) {
    const batch = new Uint8Array(images.length * height * width * 3);
    images.forEach((rgb, k) => batch.set(rgb, k * height * width * 3));
    const tensor = new ort.Tensor("uint8", batch, [images.length, height, width, 3]);
    const { logits } = await session.run({ images: tensor });
    const classes = logits.dims[1];
    return images.map((_, k) => logits.data.slice(k * classes, (k + 1) * classes));
  }

  let turn = Promise.resolve(); // a session answers one request at a time
  // Logits, a Float32Array each, of images (Uint8Array height * width * 3 each). `progress`: (done, all).
  function logits(images, progress = () => {}) {
    const answer = turn.then(async () => {
      const found = [];
      for (let start = 0; start < images.length; start += MOST_AT_ONCE) {
        found.push(...(await together(images.slice(start, start + MOST_AT_ONCE))));
        progress(found.length, images.length);
      }
      return found;
    });
    turn = answer.catch(() => {});
    return answer;
  }

  return { logits, backend: "WebAssembly", version: ort.env.versions?.web ?? "" };
}

export function probabilities(logits, output) {
  if (output === "sigmoid") return Array.from(logits, (x) => 1 / (1 + Math.exp(-x)));
  const most = Math.max(...logits);
  const powers = Array.from(logits, (x) => Math.exp(x - most));
  const total = powers.reduce((sum, x) => sum + x, 0);
  return powers.map((x) => x / total);
}
