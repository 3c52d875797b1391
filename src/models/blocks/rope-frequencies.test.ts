import { expect, test } from 'vitest';
import { ConfigReader } from '../config-reader.ts';
import { readRope, ropeFrequencies } from './rope-frequencies.ts';

const context = { rotaryDim: 16, maxPositions: 131_072, defaultTheta: 10_000 };
const tableOf = (config: Record<string, unknown>) => ropeFrequencies(readRope(new ConfigReader(config), context));

/** Frequencies that transformers 5.18 makes of the same rules, head width 16. */
const expected = [
  {
    rules: { rope_type: 'llama3', rope_theta: 500_000, factor: 8, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 8192 },
    frequencies: [
      1, 0.193922758102417, 0.03760603070259094, 0.00729266507551074, 0.0005248460220173001, 3.428102354519069e-5, 6.647869668086059e-6,
      1.289173155782919e-6,
    ],
    magnitude: 1,
  },
  {
    rules: { rope_type: 'yarn', rope_theta: 1_000_000, factor: 4, original_max_position_embeddings: 32_768 },
    frequencies: [
      1, 0.17782793939113617, 0.03162277862429619, 0.004217559937387705, 0.0005000000237487257, 4.4456985051510856e-5, 7.905693564680405e-6,
      1.405853367941745e-6,
    ],
    magnitude: 1.138629436111989,
  },
  {
    rules: {
      rope_type: 'yarn',
      rope_theta: 10_000,
      factor: 40,
      original_max_position_embeddings: 4096,
      mscale: 1,
      mscale_all_dim: 0.8,
      beta_fast: 16,
      beta_slow: 2,
      truncate: false,
    },
    frequencies: [
      1, 0.3162277638912201, 0.10000000149011612, 0.03162277862429619, 0.005790104623883963, 0.00012395245721563697, 2.499999936844688e-5,
      7.905694474175107e-6,
    ],
    magnitude: 1.0569662567531275,
  },
  {
    rules: { rope_type: 'linear', rope_theta: 10_000, factor: 4 },
    frequencies: [
      0.25, 0.07905694097280502, 0.02500000037252903, 0.007905694656074047, 0.0024999999441206455, 0.0007905694656074047, 0.0002500000118743628,
      7.905694656074047e-5,
    ],
    magnitude: 1,
  },
  {
    rules: { rope_type: 'dynamic', rope_theta: 10_000, factor: 4 },
    frequencies: [
      1, 0.3162277638912201, 0.10000000149011612, 0.03162277862429619, 0.009999999776482582, 0.003162277862429619, 0.0010000000474974513,
      0.0003162277862429619,
    ],
    magnitude: 1,
  },
];

test.each(expected)('$rules.rope_type scaling gives the frequencies of transformers', ({ rules, frequencies, magnitude }) => {
  const table = tableOf({ rope_parameters: rules });
  expect(table.magnitude).toBeCloseTo(magnitude, 12);
  table.frequencies.forEach((frequency, i) => {
    expect(Math.abs(frequency / frequencies[i] - 1)).toBeLessThan(3e-7);
  });
});

test.each(expected)('$rules.rope_type scaling reads the same from the older fields', ({ rules }) => {
  const { rope_theta, rope_type, ...scaling } = rules;
  expect(tableOf({ rope_theta, rope_scaling: { type: rope_type, ...scaling } })).toEqual(tableOf({ rope_parameters: rules }));
});

test('LongRoPE divides by its short list up to the trained length and by its long list beyond', () => {
  const divisors = (from: number) => Array.from({ length: 8 }, (_, i) => from + i);
  const config = {
    rope_theta: 10_000,
    original_max_position_embeddings: 4096,
    rope_scaling: { type: 'longrope', short_factor: divisors(1), long_factor: divisors(3) },
  };
  const rope = readRope(new ConfigReader(config), context);
  const plain = ropeFrequencies({ ...rope, scaling: { kind: 'none' } }).frequencies;
  for (const [contextLength, first] of [
    [4096, 1],
    [4097, 3],
    [undefined, 3],
  ] as const) {
    const { frequencies, magnitude } = ropeFrequencies(rope, contextLength);
    for (const [i, f] of frequencies.entries()) expect(f).toBeCloseTo(plain[i] / (first + i), 7);
    expect(magnitude).toBeCloseTo(Math.sqrt(1 + Math.log(32) / Math.log(4096)), 12);
  }
});

test('a wrong or unknown scaling rule is named', () => {
  const bad: [Record<string, unknown>, string][] = [
    [{ rope_scaling: { type: 'ntk', factor: 2 } }, 'rope_scaling.type'],
    [{ rope_scaling: { type: 'longrope', factor: 2 } }, 'rope_scaling.short_factor'],
    [{ rope_scaling: { type: 'su', short_factor: [1, 1, 1, 1, 1, 1, 1, 1], long_factor: [1, 1, 1, 0, 1, 1, 1, 1] } }, 'rope_scaling.long_factor'],
    [{ rope_scaling: { type: 'linear' } }, 'rope_scaling.factor'],
    [{ rope_scaling: { type: 'linear', factor: -2 } }, 'rope_scaling.factor'],
    [{ rope_scaling: { type: 'llama3', factor: 8 } }, 'rope_scaling.low_freq_factor'],
    [{ rope_scaling: [] }, 'rope_scaling'],
    [{ rope_parameters: { rope_theta: 'many' } }, 'rope_parameters.rope_theta'],
    [{ rope_theta: 0 }, 'rope_theta'],
    [{ partial_rotary_factor: 0.1 }, 'partial_rotary_factor'],
    [{ partial_rotary_factor: 2 }, 'partial_rotary_factor'],
  ];
  for (const [config, field] of bad) {
    expect(() => tableOf(config), field).toThrow(expect.objectContaining({ code: 'MODEL_CONFIG_INVALID', message: expect.stringContaining(field) }));
  }
});
