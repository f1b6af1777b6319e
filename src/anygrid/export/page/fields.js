// Functions on the surrogate's domain, evaluated at any resolution: random sums of waves, and samples between their points.

/** Places s in [0, 1] of the n points of an axis. */
export function places(axis, n) {
  const s = new Float64Array(n);
  for (let j = 0; j < n; j++) s[j] = axis.placement === "cells" ? (j + 0.5) / n : j / (axis.periodic ? n : Math.max(n - 1, 1));
  return s;
}

/** Coordinates of the n points of an axis. */
export function coordinates(axis, n) {
  return places(axis, n).map((s) => axis.lower + s * (axis.upper - axis.lower));
}

/** Matrix product along one dimension of values of this shape (row-major); matrix is (rows, shape[dim]). */
export function along(values, shape, dim, matrix, rows) {
  const n = shape[dim];
  const before = shape.slice(0, dim).reduce((p, k) => p * k, 1);
  const after = shape.slice(dim + 1).reduce((p, k) => p * k, 1);
  const out = new Float64Array(before * rows * after);
  for (let b = 0; b < before; b++)
    for (let r = 0; r < rows; r++) {
      const to = (b * rows + r) * after;
      for (let j = 0; j < n; j++) {
        const m = matrix[r * n + j];
        if (m === 0) continue;
        const from = (b * n + j) * after;
        for (let k = 0; k < after; k++) out[to + k] += m * values[from + k];
      }
    }
  return out;
}

/** Numbers of a normal distribution from a seed (mulberry32, Box and Muller). */
export function normal(seed) {
  let state = seed >>> 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  return () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
}

/** Orthonormal waves of an axis up to `waves` periods: columns of (n, count), and the periods of each. */
function waveTable(axis, n, waves) {
  const s = places(axis, n);
  const periods = [0];
  for (let k = 1; k <= (axis.periodic ? waves : 2 * waves); k++) periods.push(...(axis.periodic ? [k, k] : [k / 2]));
  const count = periods.length;
  const table = new Float64Array(n * count);
  for (let j = 0; j < n; j++)
    periods.forEach((k, c) => {
      const angle = 2 * Math.PI * k * s[j];
      table[j * count + c] = k === 0 ? 1 : Math.SQRT2 * (axis.periodic && c % 2 === 0 ? Math.sin(angle) : Math.cos(angle));
    });
  return { table, count, periods };
}

/**
 * Random smooth function of mean 0 and deviation 1 on a grid: a finite sum of cosines (and sines along periodic axes), so that a seed
 * is one function at every resolution.
 */
export function randomField(axes, shape, seed, waves, sphere) {
  const draw = normal(seed);
  const tables = axes.map((axis, k) => waveTable(axis, shape[k], waves));
  const counts = tables.map((t) => t.count);
  const size = counts.reduce((p, k) => p * k, 1);
  let values = new Float64Array(size);
  let power = 0;
  for (let i = 0; i < size; i++) {
    let rest = i;
    let k2 = 0;
    for (let d = axes.length - 1; d >= 0; d--) {
      k2 += tables[d].periods[rest % counts[d]] ** 2;
      rest = Math.floor(rest / counts[d]);
    }
    const z = draw();
    if (k2 === 0 || k2 > waves * waves) continue;
    values[i] = z * Math.exp((-2 * k2) / (waves * waves));
    power += values[i] ** 2;
  }
  values = values.map((v) => v / Math.sqrt(power));
  if (sphere && axes[1].periodic) return onSphere(values, axes, shape, tables);
  let at = counts.slice();
  for (let d = 0; d < axes.length; d++) {
    values = along(values, at, d, tables[d].table, shape[d]);
    at[d] = shape[d];
  }
  return values;
}

/** What depends on longitude fades towards the poles, where all longitudes are one place. */
function onSphere(values, axes, shape, tables) {
  const columns = tables[1].count;
  const zonal = values.map((v, i) => (i % columns === 0 ? v : 0));
  const rest = values.map((v, i) => (i % columns === 0 ? 0 : v));
  const fade = coordinates(axes[0], shape[0]).map((lat) => Math.cos((lat * Math.PI) / 180));
  const [a, b] = [zonal, rest].map((part) => {
    const half = along(part, tables.map((t) => t.count), 0, tables[0].table, shape[0]);
    return along(half, [shape[0], columns], 1, tables[1].table, shape[1]);
  });
  return a.map((v, i) => v + fade[Math.floor(i / shape[1])] * b[i]);
}

/** Matrix from n points of an axis to m: trigonometric where periodic, cubic through four points elsewhere, or the nearest point. */
function between(axis, n, m, nearest) {
  const s = places(axis, m);
  const matrix = new Float64Array(m * n);
  const cells = axis.placement === "cells";
  for (let r = 0; r < m; r++) {
    const x = cells ? s[r] * n - 0.5 : s[r] * (axis.periodic ? n : n - 1);
    if (nearest || n < 4) {
      const j = axis.periodic ? ((Math.round(x) % n) + n) % n : Math.min(Math.max(Math.round(x), 0), n - 1);
      matrix[r * n + j] = 1;
    } else if (axis.periodic) {
      for (let j = 0; j < n; j++) {
        const t = (Math.PI * (x - j)) / n;
        const below = n % 2 === 0 ? Math.tan(t) : Math.sin(t);
        const same = Math.abs(Math.sin(t)) < 1e-12;
        matrix[r * n + j] = same ? 1 : Math.sin(n * t) / (n * below);
      }
    } else {
      const j0 = Math.min(Math.max(Math.floor(x) - 1, 0), n - 4);
      const at = Math.min(Math.max(x, 0), n - 1) - j0;
      for (let j = 0; j < 4; j++) {
        let w = 1;
        for (let i = 0; i < 4; i++) if (i !== j) w *= (at - i) / (j - i);
        matrix[r * n + j0 + j] = w;
      }
    }
  }
  return matrix;
}

/** A sample on another resolution of its domain, held between `limits`, which interpolation across a jump would leave. */
export function resample(sample, from, axes, shape, nearest, limits) {
  if (from.every((n, k) => n === shape[k])) return Float64Array.from(sample);
  let values = sample;
  const at = from.slice();
  for (let d = 0; d < axes.length; d++) {
    if (at[d] === shape[d]) continue;
    values = along(values, at, d, between(axes[d], at[d], shape[d], nearest), shape[d]);
    at[d] = shape[d];
  }
  return values.map((v) => Math.min(Math.max(v, limits[0]), limits[1]));
}

/** Smallest and largest of the values that are finite. */
export function range(values) {
  let low = Infinity;
  let high = -Infinity;
  for (const v of values) {
    if (v < low) low = v;
    if (v > high && v < Infinity) high = v;
  }
  return low <= high ? [low, high] : [NaN, NaN];
}

/** A random input variable with the mean, deviation, range and levels of those of training. */
export function randomInput(variable, axes, shape, seed, waves, sphere) {
  const size = shape.reduce((p, k) => p * k, 1);
  const unit = variable.deviation > 0 ? randomField(axes, shape, seed, waves, sphere) : new Float64Array(size);
  if (variable.levels) {
    const { values, quantiles } = variable.levels;
    return unit.map((g) => values[quantiles.filter((q) => g > q).length]);
  }
  const { mean, deviation, minimum, maximum } = variable;
  return unit.map((g) => Math.min(Math.max(mean + deviation * g, minimum), maximum));
}
