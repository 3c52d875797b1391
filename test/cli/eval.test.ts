import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { MAX_TEXT_BYTES } from '../../src/cli/read-text.ts';
import { cli } from './run-cli.ts';

const folder = mkdtempSync(path.join(tmpdir(), 'millrace-eval-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const pocket = path.resolve(import.meta.dirname, '../../pocket/model');
const reference = ['--backend', 'reference', '--context', '20'];

function file(name: string, content: string | Uint8Array): string {
  const at = path.join(folder, name);
  writeFileSync(at, content);
  return at;
}

const text = file('text.txt', 'Hello! How are you today? Tell me a story about a small fox who wanted to see the sea.');

test('eval ppl prints tokens, nats and perplexity with its error; stdin and a file give the same', async () => {
  const printed = await cli(['eval', 'ppl', pocket, '--file', text, ...reference]);
  expect([printed.code, printed.stdout]).toEqual([
    0,
    expect.stringMatching(/sliding windows of 20 tokens, 10 apart.*perplexity {6}\d+\.\d+ \+\/- \d/s),
  ]);
  const content = 'Hello! How are you today? Tell me a story about a small fox who wanted to see the sea.';
  const piped = await cli(['eval', 'ppl', pocket, '--json', ...reference], { stdin: content });
  const report = JSON.parse(piped.stdout);
  expect(report).toMatchObject({ scoring: { method: 'sliding', context: 20, stride: 10 }, model: { name: 'model', kvCacheDtype: 'bf16' } });
  expect(report.numTokens).toBe(report.text.numTokens - 1);
  expect(printed.stdout).toContain(report.perplexity.mean.toFixed(4));
  const numTokens = async (...flags: string[]) =>
    JSON.parse((await cli(['eval', 'ppl', pocket, '--json', ...flags, ...reference], { stdin: '<|im_start|>user' })).stdout).text.numTokens;
  expect(await numTokens('--parse-special')).toBeLessThan(await numTokens());
});

test('eval kl compares with the same model in f32, or with what --against and its flags say', async () => {
  const args = ['eval', 'kl', pocket, '--file', text, '--json', '--max-tokens', '12', ...reference];
  const rounded = JSON.parse((await cli([...args, '--quantize', 'int4'])).stdout);
  expect(rounded).toMatchObject({
    numTokens: 11,
    reference: { activations: ['f32'], kvCacheDtype: 'f32' },
    model: { kvCacheDtype: expect.stringMatching('f16') },
  });
  expect(rounded.model.weightFormats).toContain('q4_0');
  expect(rounded.kl.mean).toBeGreaterThan(0);
  const same = [
    '--against',
    pocket,
    '--against-quantize',
    'int4',
    '--against-dtype',
    'auto',
    '--against-activation',
    'auto',
    '--against-kv-cache-dtype',
    'auto',
  ];
  const equal = JSON.parse((await cli([...args, '--quantize', 'int4', ...same])).stdout);
  expect([equal.kl.max, equal.sameTop.mean]).toEqual([0, 1]);
});

test('eval names what is wrong with the command or the text', async () => {
  const wrong: [string[], string][] = [
    [['--file', path.join(folder, 'absent.txt')], 'cannot be read'],
    [['--file', '/dev/zero'], 'plain file'],
    [['--file', file('latin1.txt', Uint8Array.of(0x48, 0xe4, 0x48))], 'not UTF-8'],
    [['--file', file('empty.txt', '')], 'too few tokens'],
    [['--file', file('long.txt', new Uint8Array(MAX_TEXT_BYTES + 1).fill(0x61))], '--max-tokens'],
    [['--file', text, '--stride', '21'], '--stride is longer'],
    [['--file', text, '--stride', '0'], '--stride is too small'],
    [['--file', text, '--max-tokens', '1'], '--max-tokens is too small'],
    [['--file', text, '--method', 'llama.cpp', '--stride', '5'], '--stride belongs to'],
    [['--file', text, '--method', 'other'], 'one of sliding, llama.cpp'],
    [['--file', text, '--context', '1'], '--context is too small'],
    [['--file', text, '--context', '999999'], 'at most 2048'],
  ];
  for (const [args, message] of wrong) {
    const run = await cli(['eval', 'ppl', pocket, ...reference, ...args]);
    expect([args, run.code, run.stderr]).toEqual([args, 2, expect.stringContaining(message)]);
  }
  const absent = await cli(['eval', 'ppl', path.join(folder, 'no-model'), '--file', text]);
  expect([absent.code, absent.stderr]).toEqual([1, expect.stringContaining('MODEL_NOT_FOUND')]);
});

test('eval kl refuses models of different vocabularies', async () => {
  const run = await cli([
    'eval',
    'kl',
    pocket,
    '--against',
    path.resolve(import.meta.dirname, '../../models/random-tiny'),
    '--load-format',
    'dummy',
    '--file',
    text,
    ...reference,
  ]);
  expect([run.code, run.stderr]).toEqual([2, expect.stringContaining('different vocabularies')]);
});
