// The page: what the reader chose, and what is computed from it. Everything of the surrogate is data and shown as text.
import { show } from "./draw.js";
import { randomInput, range, resample } from "./fields.js";
import { $, count, evolves, facts, know, size, state, time, titled, withUnits } from "./shared.js";
import { about, buttons, draw, point } from "./shown.js";

const HISTORY = 400; // states kept for the picture over time
const FRAME = 60; // milliseconds between two steps of a roll-out at least

let samples;
let worker;
let calls = 0;
const waiting = new Map();
let busy = false;
let again = false;

function ask(message, transfer = []) {
  return new Promise((resolve, reject) => {
    waiting.set(++calls, { resolve, reject });
    worker.postMessage({ ...message, id: calls }, transfer);
  });
}

function hear({ data }) {
  if (data.kind === "loading") {
    $("loading").value = data.part;
    return;
  }
  const { resolve, reject } = waiting.get(data.id);
  waiting.delete(data.id);
  if (data.kind === "failed") reject(new Error(data.text));
  else resolve(data.found);
}

async function get(address) {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error(`${address}: the server answers ${answer.status}`);
  return answer;
}

function tell(text) {
  $("status").textContent = text;
}

async function begin() {
  know(await (await get("./surrogate.json")).json());
  document.title = facts.title;
  $("title").textContent = facts.title;
  const names = (variables) => variables.map((v) => v.long_name || v.name).join(", ");
  const what = `${names(facts.inputs)} \u2192 ${names(facts.outputs)}`;
  $("subtitle").textContent = facts.dt === null ? what : `${what}, ${time(1)} later`;
  tell(`Loading the network and its runtime: ${((facts.sizes["model.onnx"] + facts.sizes["ort/ort.wasm"]) / 1e6).toFixed(1)} MB\u2026`);
  $("loading").hidden = false;
  if (facts.samples) samples = floats(await (await get("./samples.bin")).arrayBuffer());
  worker = new Worker("./worker.js", { type: "module" });
  worker.onmessage = hear;
  worker.onerror = (event) => fail(new Error(event.message || "the browser could not start the runtime (worker.js, ort/ort.js)"));
  await ask({ kind: "load", sizes: { model: facts.sizes["model.onnx"], runtime: facts.sizes["ort/ort.wasm"] } });
  $("loading").hidden = true;
  $("work").hidden = false;
  controls();
  about();
  await compute();
  // The browser compiles the runtime as it runs: the time of the first run would say little.
  if (state.u && state.ms < 2000) await compute();
}

function floats(buffer) {
  const view = new DataView(buffer);
  return Float32Array.from({ length: buffer.byteLength / 4 }, (_, k) => view.getFloat32(4 * k, true));
}

function fail(error) {
  state.playing = false;
  $("loading").hidden = true;
  tell(`This did not work: ${error.message}`);
}

// ---- what the reader chooses

function controls() {
  const sizes = facts.resolutions;
  const trained = facts.axes.map((axis) => axis.trained);
  const nearest = sizes.map((s) => Math.abs(Math.log(count(s) / Math.min(count(trained), 128 * 128))));
  $("resolution").max = sizes.length - 1;
  $("resolution").value = nearest.indexOf(Math.min(...nearest));
  $("trained").textContent = `${size(sizes[0])} to ${size(sizes[sizes.length - 1])} points; trained on ${size(trained)}`;
  const source = $("source");
  for (let k = 0; k < (facts.samples?.count ?? 0); k++) source.add(new Option(`Sample ${k + 1}`, String(k)));
  source.add(new Option("Random waves", "random"));
  choices($("input-name"), facts.inputs, $("input-field"));
  choices($("output-name"), facts.outputs, $("output-field"));
  $("slice-field").hidden = facts.axes.length !== 3;
  $("rollout").hidden = !evolves();
  takeNumbers();
  for (const id of ["resolution", "source", "waves"])
    $(id).addEventListener("input", () => {
      if (id === "source") takeNumbers();
      restart();
    });
  $("new").addEventListener("click", () => {
    state.seed += 1;
    if ($("source").value !== "random") {
      $("source").value = "random";
      takeNumbers();
    }
    restart();
  });
  for (const id of ["input-name", "output-name", "slice"]) $(id).addEventListener("input", draw);
  $("restart").addEventListener("click", restart);
  $("step").addEventListener("click", () => {
    state.playing = false;
    step();
  });
  $("play").addEventListener("click", play);
  $("controls").addEventListener("submit", (event) => event.preventDefault());
  new ResizeObserver(() => requestAnimationFrame(draw)).observe($("pictures"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  for (const id of ["input", "output", "history"]) {
    $(id).addEventListener("pointermove", (event) => point(id, event));
    $(id).addEventListener("pointerleave", () => ($(`${id}-at`).textContent = ""));
  }
}

function choices(select, variables, field) {
  variables.forEach((v, k) => select.add(new Option(withUnits(v.name, v.units), String(k))));
  field.hidden = variables.length < 2;
}

/** Inputs that are one number each: sliders, set to the sample's values. */
function takeNumbers() {
  const source = $("source").value;
  $("numbers").replaceChildren();
  facts.inputs.forEach((variable, k) => {
    if (!variable.number) return;
    const points = facts.samples ? count(facts.samples.shape) : 0;
    const value = source === "random" ? variable.mean : samples[(Number(source) * facts.inputs.length + k) * points];
    state.numbers.set(k, value);
    if (!(variable.maximum > variable.minimum)) return;
    const field = document.createElement("div");
    field.className = "field";
    const label = document.createElement("label");
    const said = document.createElement("output");
    const slider = document.createElement("input");
    slider.id = `number-${k}`;
    label.htmlFor = slider.id;
    label.textContent = titled(variable);
    Object.assign(slider, { type: "range", min: variable.minimum, max: variable.maximum, step: "any", value });
    said.textContent = show(value);
    slider.addEventListener("input", () => {
      state.numbers.set(k, Number(slider.value));
      said.textContent = show(Number(slider.value));
      restart();
    });
    label.append(said);
    field.append(label, slider);
    $("numbers").append(field);
  });
}

/** Inputs (channel, *space) as chosen, on this resolution. */
function inputs(shape) {
  const n = count(shape);
  const a = new Float32Array(facts.inputs.length * n);
  const source = $("source").value;
  facts.inputs.forEach((variable, k) => {
    if (state.numbers.has(k)) a.fill(state.numbers.get(k), k * n, (k + 1) * n);
    else if (source === "random") {
      // Far apart, so that no variable of one seed is another's of the next.
      const seed = Math.imul(state.seed, 0x9e3779b1) + k * 0x85ebca6b;
      a.set(randomInput(variable, facts.axes, shape, seed, Number($("waves").value), facts.sphere), k * n);
    } else {
      const points = count(facts.samples.shape);
      const from = (Number(source) * facts.inputs.length + k) * points;
      const sample = samples.subarray(from, from + points);
      const [low, high] = range(sample);
      const limits = [Math.min(low, variable.minimum), Math.max(high, variable.maximum)];
      a.set(resample(sample, facts.samples.shape, facts.axes, shape, variable.levels !== null, limits), k * n);
    }
  });
  return a;
}

// ---- what is computed

async function run(a, shape) {
  const { values, dims, ms } = await ask({ kind: "run", a, dims: [1, facts.inputs.length, ...shape] });
  if (dims.slice(2).some((n, k) => n !== shape[k])) throw new Error(`the network gave ${size(dims)} points`);
  Object.assign(state, { a, u: values, ms });
  tell("");
  // For whoever checks the numbers: what went in, what came out.
  window.anygrid = { facts, result: { shape, a, u: values, ms, steps: state.steps } };
}

function restart() {
  state.playing = false;
  compute();
}

/** The operator on the input that is chosen; a choice made meanwhile is computed next, those before it never. */
async function compute() {
  again = true;
  if (busy) return;
  busy = true;
  try {
    while (again) {
      again = false;
      const shape = facts.resolutions[Number($("resolution").value)];
      said(shape);
      const a = inputs(shape);
      state.steps = 1;
      await run(a, shape);
      // Only now: a picture drawn meanwhile is that of the last run.
      Object.assign(state, { shape, start: a, history: [a, state.u] });
    }
    draw();
  } catch (error) {
    fail(error);
  } finally {
    busy = false;
  }
}

/** The operator on its own output; inputs that it does not predict stay as they are. */
async function step() {
  if (busy) return false;
  busy = true;
  try {
    const n = count(state.shape);
    const a = state.a.slice();
    facts.inputs.forEach((v, k) => {
      if (v.from_output !== null) a.set(state.u.subarray(v.from_output * n, (v.from_output + 1) * n), k * n);
    });
    state.steps += 1;
    await run(a, state.shape);
    if (state.history.length <= HISTORY) state.history.push(state.u);
    draw();
    return state.u.every(Number.isFinite);
  } catch (error) {
    fail(error);
    return false;
  } finally {
    busy = false;
    if (again) compute();
  }
}

async function play() {
  state.playing = !state.playing;
  buttons();
  while (state.playing) {
    const began = performance.now();
    if (!(await step())) state.playing = false;
    const left = Math.max(0, FRAME - (performance.now() - began));
    await new Promise((resolve) => setTimeout(resolve, left));
  }
  buttons();
}

function said(shape) {
  const text = shape.length > 1 ? `${size(shape)} = ${count(shape).toLocaleString("en")} points` : `${size(shape)} points`;
  $("resolution-text").textContent = text;
  $("resolution").setAttribute("aria-valuetext", text);
  const random = $("source").value === "random";
  $("samples").textContent = random ? `Seed ${state.seed}, one function at every resolution` : `Samples: ${facts.samples.source}`;
  $("wave-field").hidden = !random;
  const waves = $("waves").value;
  $("waves-text").textContent = waves === "1" ? "the whole domain" : `1/${waves} of the domain`;
  $("waves").setAttribute("aria-valuetext", $("waves-text").textContent);
}

if (location.protocol !== "file:") begin().catch(fail);
