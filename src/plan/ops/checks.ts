/** Rules that op definitions share. Each returns a complaint or null. */
import type { Plan, Value, Weight } from '../plan.ts';

export function firstComplaint(...complaints: (string | null)[]): string | null {
  return complaints.find((complaint) => complaint !== null) ?? null;
}

export function count(what: string, list: readonly unknown[], expected: number): string | null {
  return list.length === expected ? null : `takes ${expected} ${what}, not ${list.length}`;
}

export function width(what: string, value: Value, expected: number): string | null {
  return value.width === expected ? null : `${what} must have width ${expected}, not ${value.width}`;
}

export function sameShape(a: Value | undefined, b: Value | undefined): string | null {
  if (a === undefined || b === undefined) return 'a value is missing';
  if (a.axis !== b.axis) return `${a.name} is per ${a.axis}, ${b.name} per ${b.axis}`;
  return a.width === b.width ? null : `${a.name} has width ${a.width}, ${b.name} ${b.width}`;
}

export function heads(value: Value, headDim: number): string | null {
  return headDim > 0 && value.width % headDim === 0 ? null : `width ${value.width} is not a number of heads of ${headDim}`;
}

export function positive(what: string, x: number): string | null {
  return x > 0 ? null : `${what} must be positive, not ${x}`;
}

export function vector(weight: Weight | null | undefined, length: number): string | null {
  if (weight === null || weight === undefined) return 'a weight is missing';
  if (weight.format !== 'f32') return `vector ${weight.name} must be f32, not ${weight.format}`;
  return weight.shape.length === 1 && weight.shape[0] === length ? null : `${weight.name} must be [${length}], not [${weight.shape.join(', ')}]`;
}

export function matrix(weight: Weight | null | undefined, rows?: number, columns?: number): string | null {
  if (weight === null || weight === undefined) return 'a weight is missing';
  const [r, c] = weight.shape;
  const fits = weight.shape.length === 2 && (rows === undefined || r === rows) && (columns === undefined || c === columns);
  return fits ? null : `${weight.name} must be [${rows ?? 'any'}, ${columns ?? 'any'}], not [${weight.shape.join(', ')}]`;
}

export function cacheLayer(plan: Plan, group: number, layer: number, kvWidth: number): string | null {
  const cache = plan.cacheGroups[group];
  if (cache === undefined) return `cache group ${group} does not exist`;
  if (layer < 0 || layer >= cache.numLayers) return `layer ${layer} is outside cache group ${cache.name} of ${cache.numLayers}`;
  if (cache.kind === 'latent' || cache.kind === 'state') return `cache group ${cache.name} holds no K and V`;
  const expected = cache.numKvHeads * cache.headDim;
  return kvWidth === expected ? null : `K and V must have width ${expected}, not ${kvWidth}`;
}
