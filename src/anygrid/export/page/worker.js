// The network, in a thread of its own, so that the page answers while it runs.
import * as ort from "./ort/ort.js";

let session;

async function bytes(address, told) {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error(`${address}: the server answers ${answer.status}`);
  const reader = answer.body.getReader();
  const parts = [];
  let done = 0;
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    parts.push(part.value);
    told((done += part.value.length));
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

async function load(sizes) {
  // Sizes from the facts, not from the headers: those of a compressed answer say something else.
  const total = sizes.model + sizes.runtime;
  const got = [0, 0];
  const told = (k) => (done) => {
    got[k] = done;
    postMessage({ kind: "loading", part: Math.min(1, (got[0] + got[1]) / total) });
  };
  const [runtime, model] = await Promise.all([bytes("./ort/ort.wasm", told(0)), bytes("./model.onnx", told(1))]);
  ort.env.logLevel = "error";
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.proxy = false;
  // Given as bytes: no host has to know the media type of .wasm.
  ort.env.wasm.wasmBinary = runtime.buffer;
  session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
}

async function run(a, dims) {
  const input = new ort.Tensor("float32", a, dims);
  const began = performance.now();
  const { u } = await session.run({ a: input });
  const ms = performance.now() - began;
  const values = new Float32Array(u.data);
  const shape = Array.from(u.dims, Number);
  u.dispose?.();
  return { values, dims: shape, ms };
}

onmessage = async ({ data }) => {
  try {
    if (data.kind === "load") {
      await load(data.sizes);
      postMessage({ kind: "done", id: data.id });
    } else {
      const found = await run(data.a, data.dims);
      postMessage({ kind: "done", id: data.id, found }, [found.values.buffer]);
    }
  } catch (error) {
    postMessage({ kind: "failed", id: data.id, text: String(error?.message ?? error) });
  }
};
