import { execFile } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test, vi } from 'vitest';
import { besideBusy, type ComparePhases, compareEngines, compareMarkdown, keptMarkdown, programEngine } from './compare.ts';
import { batchedRates, llamaCppEngine } from './llama-cpp.ts';
import type { OfflineResult } from './offline.ts';

const phases: ComparePhases = { threads: 2, inputLen: 512, batchSizes: [1, 8], decodeInputLen: 128, outputLen: 32, depths: [8192], repetitions: 2 };

const result = (phase: 'prefill' | 'decode', inputLen: number, rate: number, batchSize = 1): OfflineResult => ({
  phase,
  batchSize,
  inputLen,
  outputLen: 32,
  tokensPerSecond: { median: rate, min: rate, max: rate },
  hostMsPerStep: null,
});

test('engines run in turn, and the table has medians, ranges and ratios to each peer and to the best of each column', async () => {
  const order: string[] = [];
  const engine = (name: string, isOurs: boolean, rates: readonly number[][]) => ({
    name,
    isOurs,
    measure: async () => {
      const [prefill, decode] = rates[order.filter((each) => each === name).length];
      order.push(name);
      return [result('prefill', 512, prefill), result('decode', 128, decode)];
    },
  });
  const engines = [
    engine('ours', true, [
      [900, 90],
      [1100, 110],
      [1000, 100],
    ]),
    engine('a', false, [
      [500, 50],
      [500, 50],
      [500, 50],
    ]),
    engine('b', false, [
      [400, 80],
      [400, 80],
      [400, 80],
    ]),
  ];
  const report = await compareEngines(engines, phases, 3);
  expect(order).toEqual(['ours', 'a', 'b', 'ours', 'a', 'b', 'ours', 'a', 'b']);
  const lines = compareMarkdown(report).split('\n');
  expect(lines).toContain('| ours | 1000 (900 to 1100) | 100 (90 to 110) |');
  expect(lines).toContain('| ours / a | 2.00 | 2.00 |');
  expect(lines).toContain('| ours / b | 2.50 | 1.25 |');
  expect(lines).toContain('| ours / best peer | 2.00 | 1.25 |');
});

test('busy processes stand beside an engine only while it is measured, and the share that it keeps is shown', async () => {
  const others = async (): Promise<number> =>
    (await promisify(execFile)('ps', ['--ppid', String(process.pid), '-o', 'args='])).stdout.split('for (;;);').length - 1;
  let seen = 0;
  const engine = {
    name: 'ours',
    isOurs: true,
    measure: async () => {
      seen = await others();
      return [result('prefill', 512, seen === 0 ? 100 : 60)];
    },
  };
  const report = await compareEngines([engine, besideBusy(engine, 2)], phases, 1);
  expect(seen).toBe(2);
  expect(keptMarkdown(report, 2)).toContain('| ours | 60 % |');
  await vi.waitFor(async () => expect(await others()).toBe(0));
});

test('an engine that fails is named and the others keep their figures', async () => {
  const broken = programEngine('broken', [process.execPath, '-e', 'console.error("no such model"); process.exit(3)', '--']);
  const fine = programEngine(
    'fine',
    [process.execPath, '-e', `console.log(JSON.stringify({ results: [${JSON.stringify(result('prefill', 512, 7))}] }))`, '--'],
    true,
  );
  const report = await compareEngines([broken, fine], phases, 1);
  expect(report.failures).toEqual([expect.stringMatching(/^broken, round 1: .*exit code 3/)]);
  expect(report.engines[1].cells['prefill 512'].median).toBe(7);
  expect(compareMarkdown(report)).toContain('| fine | 7.0 |');
  const absent = await compareEngines([programEngine('absent', ['/no/such/program'])], phases, 1);
  expect(absent.failures[0]).toContain('could not be started');
});

/** A program that writes down its arguments and prints what it is told. */
function fakeProgram(folder: string, name: string, script: string): void {
  const file = join(folder, name);
  writeFileSync(
    file,
    `#!${process.execPath}\nconst args = process.argv.slice(2);\nconst { appendFileSync } = require('node:fs');\nappendFileSync(${JSON.stringify(join(folder, 'calls'))}, JSON.stringify([${JSON.stringify(name)}, ...args]) + '\\n');\n${script}`,
  );
  chmodSync(file, 0o755);
}

test.each([
  ['llama.cpp', false],
  ['its fork', true],
])('%s is asked in its own words and its tables are read', async (name, fork) => {
  const bin = mkdtempSync(join(tmpdir(), 'millrace-peer-'));
  fakeProgram(
    bin,
    'llama-bench',
    `const deep = args.includes('-d') || args.includes('-gp');\nconsole.log(JSON.stringify([{ n_gen: deep ? 32 : 0, samples_ts: deep ? [20] : [300, 310, 320] }]));`,
  );
  const table =
    '|    PP |     TG |    B |   N_KV |   T_PP s | S_PP t/s |   T_TG s | S_TG t/s |\n|-------|\n|   128 |     32 |    1 |    160 |    0.2 |   579 |    0.387 |    82.65 |\n|   128 |     32 |    8 |   1280 |    1.5 |   682 |    1.295 |   197.65 |';
  fakeProgram(bin, 'llama-batched-bench', `console.${fork ? 'error' : 'log'}(${JSON.stringify(table)});`);
  const report = await compareEngines([llamaCppEngine({ name, bin, model: 'm.gguf', fork })], phases, 1);
  expect(report.failures).toEqual([]);
  expect(report.columns).toEqual(['prefill 512', 'decode 1', 'decode 8', 'decode 1 at 8192']);
  const medians = Object.fromEntries(Object.entries(report.engines[0].cells).map(([column, cell]) => [column, cell.median]));
  expect(medians).toEqual({ 'prefill 512': 310, 'decode 1': 82.65, 'decode 8': 197.65, 'decode 1 at 8192': 20 });
  const calls = readFileSync(join(bin, 'calls'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line).join(' '));
  expect(calls[2]).toContain(fork ? '-gp 8192,32' : '-n 32 -d 8192');
  expect(calls.every((call) => call.includes('-rtr') === fork)).toBe(true);
  expect(calls[1]).toContain('-npp 128 -ntg 32 -npl 1,8');
});

test('rows of a batched table that are headings or rules are passed over', () => {
  expect(batchedRates('| PP | TG |\n|----|\nnoise')).toEqual(new Map());
});
