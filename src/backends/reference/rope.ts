import type { RopeAttrs } from '../../plan/ops/rope.ts';
import type { ForwardBatch } from '../backend.ts';
import type { Matrix, ReferenceKernel } from './kernel.ts';

/** The angle is one f32 product; cosine, sine and the rotation are f64, rounded once. */
export const rope: ReferenceKernel<'rope'> = ({ inputs: [x], outputs: [out], constants: [frequencies], attrs }, numRows, { batch }) => {
  rotate(x, out, numRows, frequencies, attrs, batch);
};

/** Cosines, then sines, of a token, `[rotaryDim]`, times the magnitude. The array is reused by the next call. */
export function anglesOf(token: number, frequencies: Float32Array, attrs: RopeAttrs, batch: ForwardBatch): Float64Array {
  const half = attrs.rotaryDim / 2;
  const magnitude = Math.fround(attrs.magnitude);
  if (angles.length < attrs.rotaryDim) angles = new Float64Array(attrs.rotaryDim);
  const position = batch.positions[token]; // axis 0; no family with several axes is built yet
  for (let i = 0; i < half; i++) {
    const angle = Math.fround(position * frequencies[i]);
    angles[i] = Math.cos(angle) * magnitude;
    angles[half + i] = Math.sin(angle) * magnitude;
  }
  return angles;
}

let angles = new Float64Array(128);

/** Rotates every head of one row, from `x[from ...]` to `out[to ...]`, which may be the same place. */
export function rotateRow(
  x: Float32Array,
  from: number,
  out: Float32Array,
  to: number,
  width: number,
  cosSin: Float64Array,
  { headDim, rotaryDim, style }: RopeAttrs,
): void {
  const half = rotaryDim / 2;
  const step = style === 'half' ? 1 : 2;
  const apart = style === 'half' ? half : 1;
  for (let head = 0; head < width; head += headDim) {
    for (let i = 0; i < half; i++) {
      const [cos, sin] = [cosSin[i], cosSin[half + i]];
      const [a, b] = [x[from + head + i * step], x[from + head + i * step + apart]];
      out[to + head + i * step] = a * cos - b * sin;
      out[to + head + i * step + apart] = b * cos + a * sin;
    }
    for (let i = rotaryDim; i < headDim; i++) out[to + head + i] = x[from + head + i];
  }
}

/** Rotates a whole matrix. */
export function rotate(x: Matrix, out: Matrix, numRows: number, frequencies: Float32Array, attrs: RopeAttrs, batch: ForwardBatch): void {
  for (let row = 0; row < numRows; row++) {
    rotateRow(x.data, x.offset + row * x.stride, out.data, out.offset + row * out.stride, x.width, anglesOf(row, frequencies, attrs, batch), attrs);
  }
}
