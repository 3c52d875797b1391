/** Summaries of measurements. */

/** Median with the range it came from: what every table of ours shows. */
export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/** @returns null when there is nothing to summarise */
export function spread(values: readonly number[]): Spread | null {
  if (values.length === 0) return null;
  return { median: percentile(values, 50), min: Math.min(...values), max: Math.max(...values) };
}

/** Percentile `p` (0 to 100) with linear interpolation between the two nearest ranks (method 7 of Hyndman and Fan). NaN of nothing. */
export function percentile(values: ArrayLike<number>, p: number): number {
  if (values.length === 0) return Number.NaN;
  const sorted = Float64Array.from(values).sort();
  const rank = (Math.min(100, Math.max(0, p)) / 100) * (sorted.length - 1);
  const low = Math.floor(rank);
  const high = Math.ceil(rank);
  return sorted[low] + (sorted[high] - sorted[low]) * (rank - low);
}

export function mean(values: readonly number[]): number {
  return values.length === 0 ? Number.NaN : values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Mean, the asked percentiles and the maximum of a latency, in milliseconds. */
export interface Distribution {
  readonly count: number;
  readonly mean: number;
  readonly max: number;
  /** Percentile -> milliseconds, keys such as `p50`. */
  readonly percentiles: Readonly<Record<string, number>>;
}

/** @returns null when nothing was measured */
export function distribution(values: readonly number[], percentiles: readonly number[]): Distribution | null {
  if (values.length === 0) return null;
  const entries = percentiles.map((p): [string, number] => [`p${p}`, percentile(values, p)]);
  let max = values[0];
  for (const value of values) if (value > max) max = value;
  return { count: values.length, mean: mean(values), max, percentiles: Object.fromEntries(entries) };
}
