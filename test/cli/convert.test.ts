import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { ReferenceBackend } from '../../src/backends/reference/reference-backend.ts';
import { loadEngine } from '../../src/engine/load.ts';
import { cli } from './run-cli.ts';

const folder = mkdtempSync(join(tmpdir(), 'millrace-convert-cli-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const model = join(import.meta.dirname, '..', '..', 'models', 'random-tiny');
const golden = join(import.meta.dirname, '..', 'golden', 'qwen2');

test('convert writes a folder, says what became of the weights, and writes over nothing unasked', async () => {
  const target = join(folder, 'new');
  const first = await cli(['convert', golden, target, '--quantize', 'int4', '--json']);
  expect(first.code).toBe(0);
  expect(JSON.parse(first.stdout)).toMatchObject({ path: target, formats: { q4_0: expect.any(Number), q8_0: 1 } });
  const again = await cli(['convert', golden, target]);
  expect([again.code, again.stderr]).toEqual([2, expect.stringContaining('--force')]);
  expect((await cli(['convert', golden, target, '--force'])).code).toBe(0);
  expect(readdirSync(folder)).toEqual(['new']);
});

test('convert writes GGUF files and reads them, and is stopped by a signal', async () => {
  const place = mkdtempSync(join(tmpdir(), 'millrace-convert-signal-'));
  const file = join(place, 'model.gguf');
  const there = await cli(['convert', golden, file, '--to', 'gguf', '--quantize', 'int8', '--json']);
  expect(JSON.parse(there.stdout)).toMatchObject({ path: file, formats: { q8_0: expect.any(Number) } });
  const back = await cli(['convert', file, join(place, 'folder'), '--dtype', 'float32', '--json']);
  expect(JSON.parse(back.stdout).formats).toEqual(JSON.parse(there.stdout).formats);
  const stopped = await cli(['convert', golden, join(place, 'stopped')], { onListening: (send) => send('SIGINT') });
  expect([stopped.code, stopped.stderr]).toEqual([expect.any(Number), expect.stringContaining('SIGINT')]);
  expect(stopped.code).not.toBe(0);
  expect(readdirSync(place).sort()).toEqual(['folder', 'model.gguf']);
  rmSync(place, { recursive: true });
});

test('convert names what it cannot read', async () => {
  for (const [source, code] of [
    [join(folder, 'absent'), 'MODEL_NOT_FOUND'],
    [model, 'MODEL_NOT_FOUND'],
  ]) {
    const run = await cli(['convert', source, join(folder, 'never')]);
    expect([run.code, run.stderr]).toEqual([1, expect.stringContaining(code)]);
  }
  expect((await cli(['convert', golden, join(folder, 'never'), '--quantize', 'int3'])).code).toBe(2);
  expect(readdirSync(folder)).toEqual(['new']);
});

test('--quantize is an option of loading, and the engine says what each weight has become', async () => {
  const from = join(folder, 'with-tokenizer');
  mkdirSync(from);
  for (const name of ['config.json', 'model.safetensors']) copyFileSync(join(golden, name), join(from, name));
  copyFileSync(join(import.meta.dirname, '..', 'fixtures', 'tokenizers', 'byte-level', 'tokenizer.json'), join(from, 'tokenizer.json'));
  const engine = await loadEngine({ model: from, quantize: 'int4' }, { backend: new ReferenceBackend() });
  const { plan } = engine.describe();
  expect(new Set(plan.weights.filter(({ shape }) => shape.length === 2).map(({ format }) => format))).toEqual(new Set(['q8_0', 'q4_0']));
  expect(engine.config.values).toMatchObject({ quantize: 'int4' });
  await engine.close();
  await expect(loadEngine({ model: from, quantize: 'int3' as 'int4' })).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
});
