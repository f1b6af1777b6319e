// Colour maps and curves on a canvas, in the page's own colours and at the screen's resolution.
import { coordinates } from "./fields.js";

const MAPS = {
  sequential:
    "440154 48186a 472d7b 424086 3b528b 33638d 2c728e 26828e 21918c 1fa088 28ae80 3fbc73 5ec962 84d44b addc30 d8e219 fde725",
  diverging:
    "053061 175290 2a71b2 3f8ec0 6bacd1 9bc9e0 c2ddec e0ecf3 f7f6f6 fbe5d8 fbccb4 f5aa89 e48066 d05548 ba2832 930e26 67001f",
};
const TABLES = Object.fromEntries(Object.entries(MAPS).map(([name, text]) => [name, table(text.split(" "))]));

function table(stops) {
  const colours = stops.map((hex) => [0, 2, 4].map((k) => parseInt(hex.slice(k, k + 2), 16)));
  const out = new Uint8Array(256 * 3);
  for (let i = 0; i < 256; i++) {
    const x = (i / 255) * (colours.length - 1);
    const j = Math.min(Math.floor(x), colours.length - 2);
    for (let c = 0; c < 3; c++) out[3 * i + c] = Math.round(colours[j][c] + (x - j) * (colours[j + 1][c] - colours[j][c]));
  }
  return out;
}

/** Limits and colours for a range: diverging and symmetric only where both signs are there in like measure. */
export function scale([low, high]) {
  if (!(low <= high)) return { low: 0, high: 1, map: "sequential" };
  if (low < 0 && high > 0 && Math.max(-low, high) < 3 * Math.min(-low, high)) {
    const most = Math.max(-low, high);
    return { low: -most, high: most, map: "diverging" };
  }
  return { low, high: high > low ? high : low + Math.max(Math.abs(low), 1) * 1e-6, map: "sequential" };
}

/** About `count` round numbers in a range. */
export function ticks(low, high, count) {
  const rough = (high - low) / Math.max(count, 1);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((k) => k * power).find((k) => k >= rough * 0.999);
  const out = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) out.push(k * step);
  return out;
}

/** A number with four digits, short. */
export function show(value, digits = 4) {
  if (!Number.isFinite(value)) return "not a number";
  if (value === 0) return "0";
  const size = Math.abs(value);
  const text = size >= 1e5 || size < 1e-3 ? value.toExponential(Math.max(digits - 2, 1)) : String(Number(value.toPrecision(digits)));
  return text.replace("-", "\u2212").replace(/e\+?/, "e").replace("e-", "e\u2212");
}

function labels(values) {
  const step = values.length > 1 ? values[1] - values[0] : Math.abs(values[0] ?? 1);
  const largest = Math.max(...values.map(Math.abs), 0);
  const digits = largest > 0 ? Math.min(Math.max(Math.ceil(Math.log10(largest / step)) + 2, 1), 7) : 1;
  return values.map((v) => (Math.abs(v) < 1e-9 * step ? "0" : show(v, digits)));
}

/** Prepare a canvas for drawing in CSS pixels; its colours are those of the page. */
function prepare(canvas, height) {
  const width = canvas.clientWidth || 300;
  const ratio = window.devicePixelRatio || 1;
  canvas.style.height = `${height}px`;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  context.font = `12px ${getComputedStyle(document.body).fontFamily}`;
  return { context, width, colours: { ink: colour("--ink"), soft: colour("--soft"), line: colour("--line"), curve: colour("--curve") } };
}

const named = (axis) => (axis.units && axis.units !== "1" ? `${axis.name} (${axis.units})` : axis.name);

function frame({ context, colours }, box, x, y) {
  context.strokeStyle = colours.soft;
  context.fillStyle = colours.soft;
  context.lineWidth = 1;
  context.textBaseline = "top";
  context.textAlign = "center";
  const across = ticks(x.lower, x.upper, Math.max(2, Math.floor(box.width / 75)));
  labels(across).forEach((text, k) => {
    const at = box.left + ((across[k] - x.lower) / (x.upper - x.lower)) * box.width;
    line(context, at, box.top + box.height, at, box.top + box.height + 4);
    context.fillText(text, at, box.top + box.height + 6);
  });
  context.textBaseline = "middle";
  context.textAlign = "right";
  const up = ticks(y.lower, y.upper, Math.max(2, Math.floor(box.height / 50)));
  labels(up).forEach((text, k) => {
    const at = box.top + box.height - ((up[k] - y.lower) / (y.upper - y.lower)) * box.height;
    line(context, box.left - 4, at, box.left, at);
    context.fillText(text, box.left - 7, at);
  });
  context.fillStyle = colours.ink;
  context.textAlign = "center";
  context.textBaseline = "bottom";
  context.fillText(shorten(context, named(x), box.width), box.left + box.width / 2, box.top + box.height + 38);
  context.save();
  context.translate(12, box.top + box.height / 2);
  context.rotate(-Math.PI / 2);
  context.textBaseline = "middle";
  context.fillText(shorten(context, named(y), box.height), 0, 0);
  context.restore();
}

function line(context, x0, y0, x1, y1) {
  context.beginPath();
  context.moveTo(x0, y0);
  context.lineTo(x1, y1);
  context.stroke();
}

function shorten(context, text, width) {
  if (context.measureText(text).width <= width) return text;
  let end = text.length;
  while (end > 1 && context.measureText(`${text.slice(0, end)}\u2026`).width > width) end--;
  return `${text.slice(0, end)}\u2026`;
}

/** Ends of the cells around the first and the last point of an axis, and its ends. */
function edges(axis, n) {
  const x = coordinates(axis, n);
  const half = n > 1 ? (x[1] - x[0]) / 2 : (axis.upper - axis.lower) / 2;
  return [x[0] - half, x[n - 1] + half];
}

/**
 * A field as colours. `rows` x `columns` values, the first row at the bottom; `x` and `y` are axes, `tall` is height over width, held
 * between a quarter and four. Returns where the pointer is: (px, py) in CSS pixels to a row and a column.
 */
export function drawMap(canvas, { values, rows, columns, x, y, limits, tall }) {
  const left = 58;
  const right = 74;
  const top = 8;
  const bottom = 42;
  const width = (canvas.clientWidth || 300) - left - right;
  const proportion = Math.min(Math.max(tall, 0.25), 4);
  const height = Math.min(proportion * width, 520);
  const inner = height / proportion;
  const paper = prepare(canvas, height + top + bottom);
  const { context } = paper;
  const box = { left, top, width: inner, height };
  const picture = paint(values, rows, columns, limits);
  const [x0, x1] = edges(x, columns);
  const [y0, y1] = edges(y, rows);
  const toX = (v) => left + ((v - x.lower) / (x.upper - x.lower)) * inner;
  const toY = (v) => top + height - ((v - y.lower) / (y.upper - y.lower)) * height;
  context.save();
  context.beginPath();
  context.rect(left, top, inner, height);
  context.clip();
  // Squares where points are fewer than pixels: the picture shows the grid it is on.
  context.imageSmoothingEnabled = columns > inner * (window.devicePixelRatio || 1);
  context.imageSmoothingQuality = "high";
  const turns = (axis) => (axis.periodic ? [0, axis.upper - axis.lower] : [0]);
  for (const dx of turns(x))
    for (const dy of turns(y)) context.drawImage(picture, toX(x0 + dx), toY(y1 + dy), toX(x1) - toX(x0), toY(y0) - toY(y1));
  context.restore();
  frame(paper, box, x, y);
  bar(paper, { left: left + inner + 12, top, width: 13, height }, limits);
  return (px, py) => {
    const u = (px - left) / inner;
    const v = (top + height - py) / height;
    if (u < 0 || u > 1 || v < 0 || v > 1) return null;
    return [index(y, rows, v), index(x, columns, u)];
  };
}

function index(axis, n, s) {
  if (axis.placement === "cells") return Math.min(Math.floor(s * n), n - 1);
  return axis.periodic ? Math.round(s * n) % n : Math.round(s * (n - 1));
}

function paint(values, rows, columns, { low, high, map }) {
  const picture = document.createElement("canvas");
  picture.width = columns;
  picture.height = rows;
  const context = picture.getContext("2d");
  const image = context.createImageData(columns, rows);
  const colours = TABLES[map];
  for (let r = 0; r < rows; r++)
    for (let c = 0; c < columns; c++) {
      const v = values[r * columns + c];
      const to = 4 * ((rows - 1 - r) * columns + c);
      if (!Number.isFinite(v)) continue; // stays transparent
      const k = 3 * Math.min(Math.max(Math.round(((v - low) / (high - low)) * 255), 0), 255);
      image.data[to] = colours[k];
      image.data[to + 1] = colours[k + 1];
      image.data[to + 2] = colours[k + 2];
      image.data[to + 3] = 255;
    }
  context.putImageData(image, 0, 0);
  return picture;
}

function bar({ context, colours }, box, limits) {
  const strip = paint(Float64Array.from({ length: 256 }, (_, k) => limits.low + ((limits.high - limits.low) * k) / 255), 256, 1, limits);
  context.imageSmoothingEnabled = true;
  context.drawImage(strip, box.left, box.top, box.width, box.height);
  const at = ticks(limits.low, limits.high, Math.max(3, Math.floor(box.height / 45)));
  context.fillStyle = colours.soft;
  context.strokeStyle = colours.soft;
  context.textAlign = "left";
  context.textBaseline = "middle";
  labels(at).forEach((text, k) => {
    const y = box.top + box.height - ((at[k] - limits.low) / (limits.high - limits.low)) * box.height;
    line(context, box.left + box.width, y, box.left + box.width + 4, y);
    context.fillText(text, box.left + box.width + 7, y);
  });
}

/** Curves over one axis: `curves` are {values, soft}; the last lies on top. Returns the point under the pointer. */
export function drawCurves(canvas, { curves, x, label, units, limits }) {
  const left = 66;
  const right = 14;
  const width = (canvas.clientWidth || 300) - left - right;
  const height = Math.min(0.62 * width, 340);
  const paper = prepare(canvas, height + 50);
  const { context, colours } = paper;
  const box = { left, top: 8, width, height };
  const pad = 0.05 * (limits[1] - limits[0]) || Math.max(Math.abs(limits[0]), 1) * 0.05;
  const y = { name: label, units, lower: limits[0] - pad, upper: limits[1] + pad };
  context.strokeStyle = colours.line;
  for (const v of ticks(y.lower, y.upper, Math.max(2, Math.floor(height / 50)))) {
    const at = box.top + height - ((v - y.lower) / (y.upper - y.lower)) * height;
    line(context, left, at, left + width, at);
  }
  for (const { values, soft } of curves) {
    const at = coordinates(x, values.length);
    context.strokeStyle = soft ? colours.soft : colours.curve;
    context.lineWidth = soft ? 1 : 2;
    context.setLineDash(soft ? [4, 3] : []);
    context.lineJoin = "round";
    context.beginPath();
    values.forEach((v, k) => {
      if (!Number.isFinite(v)) return;
      const px = left + ((at[k] - x.lower) / (x.upper - x.lower)) * width;
      context.lineTo(px, box.top + height - ((v - y.lower) / (y.upper - y.lower)) * height);
    });
    context.stroke();
  }
  context.setLineDash([]);
  frame(paper, box, x, y);
  const n = curves[curves.length - 1].values.length;
  return (px) => {
    const u = (px - left) / width;
    return u < 0 || u > 1 ? null : [index(x, n, u)];
  };
}
