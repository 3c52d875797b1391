import { expect, test } from 'vitest';
import { type WeightFormatName, weightFormats } from './formats/index.ts';
import { roundTo } from './round.ts';

let state = 1;
const uniform = () => {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return (state + 0.5) / 2 ** 32;
};
const normal = () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());

/** Normal numbers, with a few far out, and a run of zeros. */
const values = Float32Array.from({ length: 8192 }, (_, i) => 0.02 * normal() * (i % 97 === 3 ? 8 : 1));
values.fill(0, 512, 640);

const errorOf = (format: WeightFormatName, packed: Uint8Array) => {
  const back = new Float32Array(values.length);
  weightFormats[format].dequantize(packed, back);
  return Math.sqrt(back.reduce((sum, x, i) => sum + (x - values[i]) ** 2, 0) / values.reduce((sum, x) => sum + x * x, 0));
};

/** Root mean square error of the search as a part of that of the plain rule, and the bound of the first as a part of the weights. */
test.each<[WeightFormatName, number, number]>([
  ['q4_0', 0.98, 0.14],
  ['q8_0', 1, 0.009],
  ['fp8_g32', 1, 0.03],
  ['fp8_g128', 1, 0.03],
  ['int8_channel', 1, 0.03],
])('the search for %s loses less than plain rounding, gives the same bytes again and keeps zeros', (format, gain, bound) => {
  const packed = roundTo(format, values, 1024);
  const [searched, plain] = [errorOf(format, packed), errorOf(format, weightFormats[format].quantize(values, 1024))];
  expect(searched).toBeLessThan(plain * gain);
  expect(searched).toBeLessThan(bound);
  expect(roundTo(format, values.slice(), 1024)).toEqual(packed);
  const back = new Float32Array(values.length);
  weightFormats[format].dequantize(packed, back);
  expect(back.subarray(512, 640).every((x) => Math.abs(x) === 0)).toBe(true);
});

test('other formats are packed by their own rule', () => {
  expect(roundTo('bf16', values, 64)).toEqual(weightFormats.bf16.quantize(values));
});
