// The network, run by ONNX Runtime. Images are bytes of the network's size; the graph normalises them.
//
// In WebAssembly everywhere; on WebGPU where the browser has it and an answer takes long enough for that to matter. Its
// runtime is another 27 MB, so it is fetched then only, and kept if its logits are the same and come sooner.

const MOST_AT_ONCE = 16;
const WORTH_A_GPU_MS = 30;
const SAME = 1e-3; // of the largest logit; float32, summed in another order
const RUNTIMES = {
  wasm: { program: "./ort/ort.wasm.bundle.min.mjs", binary: "./ort/ort-wasm-simd-threaded.wasm", name: "WebAssembly, one thread" },
  webgpu: { program: "./ort/ort.webgpu.bundle.min.mjs", binary: "./ort/ort-wasm-simd-threaded.asyncify.wasm", name: "WebGPU" },
};

// `wanted`: "wasm", "webgpu", or null for the better one. Where WebGPU is wanted and cannot be had, `note` says so.
export async function loadNetwork(about, wanted = null) {
  const onProcessor = await open(about, "wasm");
  const took = await timed(about, onProcessor);
  if (wanted === "wasm" || (wanted === null && (took.ms < WORTH_A_GPU_MS || !navigator.gpu))) return onProcessor;
  try {
    const adapter = await navigator.gpu?.requestAdapter();
    // A fallback adapter is a processor that plays a GPU.
    if (wanted === null && (!adapter || adapter.info?.isFallbackAdapter)) return onProcessor;
    if (!adapter) throw new Error("there is none here");
    const onGpu = await open(about, "webgpu");
    const there = await timed(about, onGpu);
    const largest = Math.max(...took.logits.map(Math.abs));
    if (!there.logits.every((x, k) => Math.abs(x - took.logits[k]) <= SAME * largest)) throw new Error("its answers differ");
    if (wanted === null && there.ms >= took.ms) return onProcessor;
    return onGpu;
  } catch (error) {
    return { ...onProcessor, note: `Not on WebGPU: ${error.message}.` };
  }
}

// Logits of an image that is no plain grey, and how long the second answer took; the first one takes longer.
async function timed(about, network) {
  const [height, width] = about.preprocess.image_size;
  const image = Uint8Array.from({ length: height * width * 3 }, (_, k) => (k * 37) % 256);
  await network.logits([image]);
  const started = performance.now();
  const [logits] = await network.logits([image]);
  return { ms: performance.now() - started, logits };
}

async function open(about, provider) {
  const { program, binary, name } = RUNTIMES[provider];
  const ort = await import(program);
  ort.env.wasm.numThreads = 1; // several need headers that a plain static server does not send
  ort.env.wasm.wasmPaths = { wasm: new URL(binary, import.meta.url).href };
  ort.env.logLevel = "error";
  const session = await ort.InferenceSession.create(new URL("./model.onnx", import.meta.url).href,
    { executionProviders: [provider], graphOptimizationLevel: "all", logSeverityLevel: 3 });
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

  return { logits, backend: name };
}

export function probabilities(logits, output) {
  if (output === "sigmoid") return Array.from(logits, (x) => 1 / (1 + Math.exp(-x)));
  const most = Math.max(...logits);
  const powers = Array.from(logits, (x) => Math.exp(x - most));
  const total = powers.reduce((sum, x) => sum + x, 0);
  return powers.map((x) => x / total);
}
