/** What a stranger's quantised checkpoint may hold: read rightly, or refused with a code and the name of what is wrong. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { MillraceError } from '../../base/errors.ts';
import { storedBytes } from '../../quant/formats/index.ts';
import { openModelFiles } from '../model-files.ts';
import { SafetensorsSource } from '../safetensors.ts';
import { quantizedSource } from './index.ts';
import { SettingsReader } from './settings.ts';

const folder = mkdtempSync(join(tmpdir(), 'millrace-quantized-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const goldens = join(import.meta.dirname, '..', '..', '..', 'test', 'golden', 'quantized');
const down = 'model.layers.0.mlp.down_proj.weight';

const configOf = (name: string) => JSON.parse(readFileSync(join(goldens, name, 'config.json'), 'utf8')).quantization_config;
const open = (name: string, changes: Record<string, unknown> = {}) =>
  quantizedSource({ ...configOf(name), ...changes }, SafetensorsSource.openFile(join(goldens, name, 'model.safetensors')));
const codeOf = (act: () => unknown) => {
  try {
    act();
  } catch (thrown) {
    if (thrown instanceof MillraceError) return thrown.code;
    throw thrown;
  }
  return 'read';
};

test.each([
  [{ quant_method: 'hqq' }, 'hqq'],
  [{ quant_method: 'aqlm' }, 'aqlm'],
  [{}, 'an unnamed method'],
])('the method of %j is refused by name', (config, received) => {
  const source = SafetensorsSource.openFile(join(goldens, 'awq-4bit-g64', 'model.safetensors'));
  expect(() => quantizedSource(config, source)).toThrow(expect.objectContaining({ code: 'WEIGHTS_FORMAT_UNSUPPORTED', received }));
  source.close();
});

test.each<[string, Record<string, unknown>, string]>([
  ['gptq-4bit-g32', { checkpoint_format: 'marlin' }, 'WEIGHTS_FORMAT_UNSUPPORTED'],
  ['gptq-4bit-g32', { bits: 5 }, 'WEIGHTS_FORMAT_UNSUPPORTED'],
  ['gptq-4bit-g32', { bits: 8 }, 'WEIGHTS_FILE_INVALID'],
  ['gptq-4bit-g32', { bits: 'four' }, 'MODEL_CONFIG_INVALID'],
  ['gptq-4bit-g32', { group_size: 64 }, 'WEIGHTS_FILE_INVALID'],
  ['gptq-4bit-g32', { dynamic: { '(a+)+$': { bits: 8 } } }, 'MODEL_CONFIG_INVALID'],
  ['awq-4bit-g64', { version: 'gemv' }, 'WEIGHTS_FORMAT_UNSUPPORTED'],
  ['awq-4bit-g64', { group_size: 48 }, 'WEIGHTS_FILE_INVALID'],
  ['ct-w4a16-g128', { config_groups: { group_0: { targets: ['Linear'], weights: { num_bits: 3 } } } }, 'WEIGHTS_FORMAT_UNSUPPORTED'],
  ['ct-w4a16-g128', { config_groups: { group_0: { targets: ['Linear'], weights: { num_bits: 8 } } } }, 'WEIGHTS_FILE_INVALID'],
  ['fp8-block', { weight_block_size: [64, 64] }, 'WEIGHTS_FILE_INVALID'],
])('%s under %j is %s', (name, changes, code) => {
  expect(codeOf(() => open(name, changes).find(down))).toBe(code);
});

test('settings of single modules go before those of the checkpoint', () => {
  const source = open('gptq-4bit-g32', { bits: 8, dynamic: { '+:.*down_proj': { bits: 4 }, '-:.*lm_head': {} } });
  expect(source.find(down)).toMatchObject({ format: 'q4_0', shape: [128, 128], assembled: true });
  expect(codeOf(() => source.find('model.layers.0.mlp.up_proj.weight'))).toBe('WEIGHTS_FILE_INVALID');
  source.close();
});

test('names are those of the weights, and what is not quantised is read as it lies', () => {
  const source = open('awq-4bit-g64');
  expect([...source.names()]).toContain(down);
  expect([...source.names()]).not.toContain(down.replace('.weight', '.qweight'));
  expect(source.find('model.norm.weight')).toMatchObject({ format: 'f16' });
  expect(source.find('model.norm.weight')?.assembled).toBeUndefined();
  expect(source.find('model.layers.9.mlp.down_proj.weight')).toBeUndefined();
  source.close();
});

test.each(['gptq-4bit-g128-asym', 'gptq-3bit-g64-asym', 'awq-4bit-g64', 'ct-w4a16-g32-asym', 'ct-w8a8-static', 'fp8-block', 'bnb-nf4-double'])(
  'any rows of a weight of %s are those of the whole',
  (name) => {
    const source = open(name);
    const stored = source.find(down)!;
    const rowBytes = storedBytes(stored.format, stored.shape[1]);
    const whole = source.read(stored);
    fc.assert(
      fc.property(fc.nat(stored.shape[0] - 1), fc.integer({ min: 1, max: stored.shape[0] }), (first, count) => {
        const some = Math.min(count, stored.shape[0] - first);
        const cut = source.read({ ...stored, offset: first * rowBytes, sizeBytes: some * rowBytes });
        expect(cut).toEqual(whole.subarray(first * rowBytes, (first + some) * rowBytes));
      }),
      { numRuns: 20 },
    );
    source.close();
  },
);

test('old GPTQ checkpoints say how they are quantised in a file of their own', () => {
  const config = JSON.parse(readFileSync(join(goldens, 'gptq-4bit-g32', 'config.json'), 'utf8'));
  const {
    quantization_config: { quant_method: _, ...own },
    ...rest
  } = config;
  writeFileSync(join(folder, 'config.json'), JSON.stringify(rest));
  writeFileSync(join(folder, 'quantize_config.json'), JSON.stringify({ ...own, quant_method: 'gptq' }));
  writeFileSync(join(folder, 'model.safetensors'), readFileSync(join(goldens, 'gptq-4bit-g32', 'model.safetensors')));
  const files = openModelFiles(folder);
  const source = files.kind === 'huggingface' ? files.openWeights() : null;
  expect(source?.find(down)?.format).toBe('q4_0');
  source?.close();
});

describe('damaged checkpoints', () => {
  test.each(['gptq-4bit-g32-asym-act-order', 'awq-4bit-g64', 'ct-w4a16-g32-act-order', 'ct-w8a8-dynamic', 'fp8-block', 'bnb-nf4-double', 'bnb-int8'])(
    '%s with a changed header or body is read or refused with a code, never worse',
    (name) => {
      const bytes = readFileSync(join(goldens, name, 'model.safetensors'));
      const headerBytes = Number(bytes.readBigUInt64LE(0));
      const path = join(folder, `${name}.safetensors`);
      fc.assert(
        fc.property(
          fc.array(fc.tuple(fc.nat(headerBytes - 1), fc.constantFrom(...'0123456789[],"BFI')), { minLength: 1, maxLength: 3 }),
          fc.nat(2000),
          (edits, flip) => {
            const damaged = Buffer.from(bytes);
            for (const [at, letter] of edits) damaged.write(letter, 8 + at, 'latin1');
            damaged[Math.min(damaged.length - 1, 8 + headerBytes + flip)] ^= 0x55;
            writeFileSync(path, damaged);
            codeOf(() => {
              const file = SafetensorsSource.openFile(path);
              try {
                const source = quantizedSource(configOf(name), file);
                for (const each of source.names()) {
                  const code = codeOf(() => {
                    const stored = source.find(each);
                    if (stored !== undefined) expect(source.read(stored).length).toBe(stored.sizeBytes);
                  });
                  expect(code).not.toBe('INTERNAL');
                }
              } finally {
                file.close();
              }
            });
          },
        ),
        { numRuns: 40 },
      );
    },
    30_000,
  );
});

test('patterns of module names match from the start, and involved ones are refused', () => {
  const settings = new SettingsReader({});
  expect(settings.pattern('.*\\.(q|k)_proj$')('model.layers.0.q_proj')).toBe(true);
  expect(settings.pattern('layers')('model.layers.0')).toBe(false);
  for (const bad of ['(', '(a+)+b', '.*.*.*.*.*x', 'a'.repeat(2000)]) expect(codeOf(() => settings.pattern(bad))).toBe('MODEL_CONFIG_INVALID');
});
