// What the parts of the page share: the surrogate's facts, what was computed last, and names in words.
import { show } from "./draw.js";

export const $ = (id) => document.getElementById(id);

export let facts;
export function know(found) {
  facts = found;
}

/** What was computed last: inputs and outputs (channel, *space), the start of a roll-out and its states. */
export const state = { shape: [], seed: 1, numbers: new Map(), a: null, u: null, start: null, steps: 1, history: [], ms: 0, playing: false };

export const count = (shape) => shape.reduce((p, n) => p * n, 1);
export const size = (shape) => shape.join("\u00a0\u00d7\u00a0");
export const withUnits = (name, units) => (units && units !== "1" ? `${name} (${units})` : name);
export const titled = (variable) => withUnits(variable.long_name || variable.name, variable.units);
export const evolves = () => facts.inputs.some((v) => v.from_output !== null);

/** So many steps of an evolution in units of time. */
export function time(steps) {
  const [, value, units] = /^\s*([-+\d.eE]+)\s*(.*)$/.exec(facts.dt) ?? [];
  if (!Number.isFinite(Number(value))) return steps === 1 ? facts.dt : `${steps} \u00d7 ${facts.dt}`;
  const text = show(steps * Number(value), 6);
  const plural = text !== "1" && /^(second|minute|hour|day|week|month|year|step)$/.test(units) ? "s" : "";
  return units ? `${text} ${units}${plural}` : `${text} ${text === "1" ? "unit" : "units"} of time`;
}
