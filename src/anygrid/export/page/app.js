// The page: what the reader chose, what was computed, what is shown. Everything of the surrogate is data and shown as text.
import { coordinates, randomInput, range, resample } from "./fields.js";
import { drawCurves, drawMap, scale, show } from "./draw.js";

const $ = (id) => document.getElementById(id);
const HISTORY = 400; // states kept for the picture over time
const FRAME = 60; // milliseconds between two steps of a roll-out at least

let facts;
let samples;
let worker;
let calls = 0;
const waiting = new Map();
const state = { shape: [], seed: 1, numbers: new Map(), a: null, u: null, start: null, steps: 1, history: [], ms: 0, playing: false };
let busy = false;
let again = false;

const count = (shape) => shape.reduce((p, n) => p * n, 1);
const size = (shape) => shape.join("\u00a0\u00d7\u00a0");
const withUnits = (name, units) => (units && units !== "1" ? `${name} (${units})` : name);
const titled = (variable) => withUnits(variable.long_name || variable.name, variable.units);
const evolves = () => facts.inputs.some((v) => v.from_output !== null);

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
  facts = await (await get("./surrogate.json")).json();
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
      Object.assign(state, { shape, start: a, steps: 1, history: [a] });
      await run(a, shape);
      state.history.push(state.u);
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

// ---- what is shown

function time(steps) {
  const [, value, units] = /^\s*([-+\d.eE]+)\s*(.*)$/.exec(facts.dt) ?? [];
  if (!Number.isFinite(Number(value))) return steps === 1 ? facts.dt : `${steps} \u00d7 ${facts.dt}`;
  const text = show(steps * Number(value), 6);
  const plural = text !== "1" && /^(second|minute|hour|day|week|month|year|step)$/.test(units) ? "s" : "";
  return units ? `${text} ${units}${plural}` : `${text} ${text === "1" ? "unit" : "units"} of time`;
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

function buttons() {
  $("play").textContent = state.playing ? "Pause" : "Play";
  $("step").disabled = state.playing;
  if (evolves()) $("clock").textContent = `after ${state.steps} step${state.steps > 1 ? "s" : ""}: ${time(state.steps)}`;
}

function channel(values, k) {
  const n = count(state.shape);
  return values.subarray(k * n, (k + 1) * n);
}

function draw() {
  if (!state.u || $("work").hidden) return;
  const i = Number($("input-name").value || 0);
  const o = Number($("output-name").value || 0);
  const before = channel(state.start, i);
  const after = channel(state.u, o);
  const own = facts.inputs.findIndex((v) => v.name === facts.outputs[o].name);
  const shared = evolves() && own === i;
  const both = shared ? [range(before), range(after)] : null;
  const joint = both ? [Math.min(both[0][0], both[1][0]), Math.max(both[0][1], both[1][1])] : null;
  caption("input", evolves() ? `Start: ${titled(facts.inputs[i])}` : `Input: ${titled(facts.inputs[i])}`, before);
  caption("output", evolves() ? `After ${time(state.steps)}: ${titled(facts.outputs[o])}` : `Output: ${titled(facts.outputs[o])}`, after);
  if (facts.axes.length === 1) {
    curves("input", facts.inputs[i], [{ values: before }], joint ?? range(before));
    const begun = shared ? [{ values: before, soft: true }] : [];
    curves("output", facts.outputs[o], [...begun, { values: after }], joint ?? range(after));
  } else {
    map("input", before, scale(joint ?? range(before)));
    map("output", after, scale(joint ?? range(after)));
  }
  overTime(o, own);
  tiles(before, after, i, o);
  buttons();
}

function caption(id, text, values) {
  $(`${id}-title`).textContent = text;
  const [low, high] = range(values);
  let sum = 0;
  for (const v of values) sum += v;
  const mean = sum / values.length;
  // Rounding of float32 is no mean.
  const rounded = Math.abs(mean) < 1e-6 * Math.max(Math.abs(low), Math.abs(high)) ? 0 : mean;
  $(`${id}-range`).textContent = `${show(low)} to ${show(high)}, mean ${show(rounded)}`;
  $(id).setAttribute("aria-label", `${text}: ${$(`${id}-range`).textContent}`);
}

const readers = {};

function curves(id, variable, lines, limits) {
  const label = variable.name;
  const axis = facts.axes[0];
  const at = drawCurves($(id), { curves: lines, x: axis, label, units: variable.units, limits });
  const { values } = lines[lines.length - 1];
  readers[id] = (px) => {
    const found = at(px);
    return found && `${axis.name} = ${show(coordinates(axis, values.length)[found[0]])}: ${show(values[found[0]])}`;
  };
}

function map(id, values, limits) {
  const { axes } = facts;
  const d = axes.length;
  const h = facts.horizontal;
  const v = h === d - 1 ? d - 2 : d - 1;
  const [columns, rows] = [state.shape[h], state.shape[v]];
  const part = d === 3 ? Math.round((Number($("slice").value) / 100) * (state.shape[0] - 1)) : 0;
  const from = part * rows * columns;
  const field = new Float32Array(rows * columns);
  for (let r = 0; r < rows; r++)
    for (let c = 0; c < columns; c++) field[r * columns + c] = values[from + (h === d - 1 ? r * columns + c : c * rows + r)];
  if (d === 3) $("slice-text").textContent = `${axes[0].name} = ${show(coordinates(axes[0], state.shape[0])[part])}`;
  const span = (k) => axes[k].upper - axes[k].lower;
  const tall = facts.sphere || axes[h].units === axes[v].units ? span(v) / span(h) : 0.75;
  // Flat domains side by side would be too small to see.
  $("pictures").classList.toggle("flat", tall < 0.6);
  const at = drawMap($(id), { values: field, rows, columns, x: axes[h], y: axes[v], limits, tall });
  readers[id] = (px, py) => {
    const found = at(px, py);
    if (!found) return "";
    const place = [h, v].map((k, m) => `${axes[k].name} = ${show(coordinates(axes[k], state.shape[k])[found[1 - m]])}`);
    return `${place.join(", ")}: ${show(field[found[0] * columns + found[1]])}`;
  };
}

/** All states of a roll-out in one dimension, time upwards. */
function overTime(o, own) {
  const figure = $("history-figure");
  figure.hidden = !(facts.axes.length === 1 && evolves() && own >= 0);
  if (figure.hidden) return;
  const [n] = state.shape;
  const rows = state.history.length;
  const values = new Float32Array(rows * n);
  state.history.forEach((u, k) => values.set(channel(u, k ? o : own), k * n));
  caption("history", `All steps: ${titled(facts.outputs[o])}`, values);
  const y = { name: "steps", units: "", lower: -0.5, upper: rows - 0.5, periodic: false, placement: "cells" };
  const tall = $("history").clientWidth < 500 ? 0.9 : 0.4;
  const at = drawMap($("history"), { values, rows, columns: n, x: facts.axes[0], y, limits: scale(range(values)), tall });
  readers.history = (px, py) => {
    const found = at(px, py);
    return found && `step ${found[0]}, ${facts.axes[0].name} = ${show(coordinates(facts.axes[0], n)[found[1]])}: ${show(values[found[0] * n + found[1]])}`;
  };
}

function point(id, event) {
  const box = $(id).getBoundingClientRect();
  $(`${id}-at`).textContent = readers[id]?.(event.clientX - box.left, event.clientY - box.top) || "";
}

function list(target, pairs) {
  target.replaceChildren();
  for (const [term, text] of pairs) {
    const dt = document.createElement("dt");
    const dd = document.createElement("dd");
    dt.textContent = term;
    dd.textContent = text;
    if (target.classList.contains("tiles")) {
      const tile = document.createElement("div");
      tile.append(dt, dd);
      target.append(tile);
    } else target.append(dt, dd);
  }
}

function rate(value) {
  const round = (v) => Number(v.toPrecision(2)).toLocaleString("en");
  return value < 1e6 ? round(value) : `${round(value / 1e6)}\u00a0million`;
}

function tiles(before, after, i, o) {
  const points = count(state.shape);
  list($("run"), [
    ["time of the run", `${show(state.ms, 3)}\u00a0ms`],
    ["points", points.toLocaleString("en")],
    ["points a second", state.ms > 0 ? rate((1000 * points) / state.ms) : "-"],
  ]);
  const notes = [];
  facts.inputs.forEach((v, k) => {
    const [low, high] = range(channel(state.a, k));
    const widen = 0.1 * (v.maximum - v.minimum) + 1e-5 * Math.max(Math.abs(v.minimum), Math.abs(v.maximum));
    if (low < v.minimum - widen || high > v.maximum + widen)
      notes.push(`${v.name} reaches ${show(low)} to ${show(high)}; in training it was ${show(v.minimum)} to ${show(v.maximum)}: an extrapolation.`);
  });
  if (!state.u.every(Number.isFinite)) notes.push(`The output is no longer finite after ${state.steps} steps.`);
  const trained = facts.axes.map((axis) => axis.trained);
  if (count(state.shape) > count(trained)) notes.push("This grid is finer than that of training: it adds points, not detail that was never trained.");
  $("advice").textContent = notes.join(" ");
}

function about() {
  const variable = (v) => withUnits(v.long_name && v.long_name !== v.name ? `${v.name}: ${v.long_name}` : v.name, v.units);
  const axis = (x) => withUnits(`${x.name} from ${show(x.lower)} to ${show(x.upper)}`, x.units) + (x.periodic ? ", periodic" : "");
  const error = facts.validation_error;
  list(
    $("about"),
    [
      ["Inputs", facts.inputs.map((v) => `${variable(v)}, in training ${show(v.minimum)} to ${show(v.maximum)}`).join("; ")],
      ["Outputs", facts.outputs.map(variable).join("; ")],
      ["Domain", facts.axes.map(axis).join("; ")],
      ["Step in time", facts.dt === null ? null : time(1)],
      ["Equation", facts.equation],
      ["Operator", `${facts.operator}, ${facts.parameters.toLocaleString("en")} parameters`],
      ["Trained on", facts.training_samples === 0 ? null : `${facts.training_samples.toLocaleString("en")} ${facts.dt === null ? "samples" : "pairs of states"} of ${size(facts.axes.map((x) => x.trained))} points`],
      ["Validation error", error === null ? null : `${show(100 * error, 2)} % (relative L2, on held-out data)`],
      ["Made with", `anygrid ${facts.anygrid}, ${facts.runtime}`],
      ["SHA-256 of weights", facts.weights_sha256],
    ].filter(([, text]) => text !== null),
  );
}

if (location.protocol !== "file:") begin().catch(fail);
