// What is shown of it: pictures, captions, times, notes, and what the surrogate is. All of it as text and on canvases.
import { drawCurves, drawMap, scale, show } from "./draw.js";
import { coordinates, range } from "./fields.js";
import { $, count, evolves, facts, size, state, time, titled, withUnits } from "./shared.js";

export function buttons() {
  $("play").textContent = state.playing ? "Pause" : "Play";
  $("step").disabled = state.playing;
  if (evolves()) $("clock").textContent = `after ${state.steps} step${state.steps > 1 ? "s" : ""}: ${time(state.steps)}`;
}

function channel(values, k) {
  const n = count(state.shape);
  return values.subarray(k * n, (k + 1) * n);
}

export function draw() {
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

export function point(id, event) {
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

export function about() {
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
