/** Which tokens leave and where those that stay lie: the worked example of docs/kv-cache.md, run, and what must hold for any numbers. */
import fs from 'node:fs';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { KvCache } from './kv-cache.ts';
import type { RetentionPolicy, WindowPolicy } from './retention.ts';

const page = fs.readFileSync(new URL('../../docs/kv-cache.md', import.meta.url), 'utf8');

/** The fenced block of a language that follows a marker. */
function block(marker: string, language: string): string {
  const from = page.indexOf(`<!-- ${marker} -->`);
  expect(from, marker).toBeGreaterThanOrEqual(0);
  const start = page.indexOf(`\`\`\`${language}\n`, from) + language.length + 4;
  return page.slice(start, page.indexOf('\n```', start));
}

function cacheOf(numBlocks: number, blockSize: number): KvCache {
  const groups = [{ name: 'full', kind: 'full' as const, numBlocks, numLayers: 1, numKvHeads: 1, headDim: 8 }];
  return new KvCache({ groups, blockSize, enablePrefixCaching: true });
}

const span = (from: number, to: number) => (to - from === 1 ? `${from}` : `${from}-${to - 1}`);

interface Example extends WindowPolicy {
  readonly blockSize: number;
  readonly promptTokens: number;
  readonly numTokens: number;
}

function run({ blockSize, promptTokens, numTokens, ...policy }: Example): string[] {
  const kv = cacheOf(32, blockSize);
  const sequence = kv.open(0, policy);
  const lines: string[] = [];
  for (let first = 0; first < numTokens; ) {
    const target = first < promptTokens ? promptTokens : first + 1;
    const end = Math.min(target, first + kv.chunkRoom(sequence, first));
    expect(kv.allocate(sequence, first, end)).toBe(true);
    const task = sequence.retention?.takeTask() ?? null;
    const { numDropped } = sequence;
    const numSinks = numDropped === 0 ? 0 : (sequence.retention?.numSinkBlocks ?? 0) * blockSize;
    const kept = numSinks === 0 ? span(numDropped, end) : `${span(0, numSinks)} and ${span(numSinks + numDropped, end)}`;
    const positions = span(first - (sequence.retention?.base ?? 0), end - (sequence.retention?.base ?? 0));
    const turned =
      task?.kind === 'rotate' ? `  sinks turned on by ${task.sinkShift}${task.windowShift === 0 ? '' : `, the window by ${task.windowShift}`}` : '';
    lines.push(`${span(first, end).padEnd(7)} at ${positions.padEnd(6)} in the cache ${kept.padEnd(14)} ${kv.numReferenced} blocks${turned}`);
    first = end;
  }
  kv.free(sequence, new Int32Array(numTokens), numTokens);
  kv.check([]);
  expect([kv.numReferenced, kv.numCached]).toEqual([0, 0]);
  return lines;
}

test('the documented window is what the cache does', () => {
  const example = JSON.parse(block('window-example', 'json')) as Omit<Example, 'kind'>;
  expect(run({ ...example, kind: 'window' }).join('\n')).toBe(block('window-steps', 'text'));
});

const windows = fc.record({
  kind: fc.constant('window' as const),
  sinkTokens: fc.integer({ min: 0, max: 20 }),
  windowTokens: fc.integer({ min: 1, max: 40 }),
  rebaseTokens: fc.constant(64),
});
const prompts = fc.record({
  kind: fc.constant('prompt' as const),
  promptTokens: fc.integer({ min: 1, max: 120 }),
  keptTokens: fc.integer({ min: 2, max: 60 }),
  observingTokens: fc.constant(1),
  poolTokens: fc.constant(1),
});

test('however a text is cut, the cache holds what the rule says, within its bound, and the same for equal tokens', () => {
  fc.assert(
    fc.property(
      fc.oneof(windows, prompts),
      fc.constantFrom(1, 2, 4, 8),
      fc.array(fc.integer({ min: 1, max: 12 }), { minLength: 12, maxLength: 24 }),
      (policy, blockSize, cuts) => {
        const kv = cacheOf(320, blockSize);
        const sequence = kv.open(0, policy);
        let first = 0;
        for (const cut of cuts) {
          const end = first + Math.min(cut, kv.chunkRoom(sequence, first));
          expect(kv.allocate(sequence, first, end)).toBe(true);
          kv.check([sequence]);
          const task = sequence.retention?.takeTask() ?? null;
          const bound = kv.blocksFor(policy, task === null ? sequence : null, end);
          expect(kv.numReferenced).toBeLessThanOrEqual(bound);
          for (let token = first; token < end; token++) checkToken(policy, blockSize, token, sequence.numDropped, sequence.retention?.base ?? 0);
          const index = end - 1 - sequence.numDropped;
          expect(sequence.tables[0][Math.floor(index / blockSize)]).toBeGreaterThanOrEqual(0);
          first = end;
        }
        kv.free(sequence, new Int32Array(first), first);
        kv.check([]);
        expect(kv.numFree).toBe(320);
      },
    ),
  );
});

/** What a token sees depends on its index alone. */
function checkToken(policy: RetentionPolicy, blockSize: number, token: number, numDropped: number, base: number): void {
  if (policy.kind === 'prompt') {
    expect(numDropped).toBe(token < policy.promptTokens ? 0 : Math.max(0, policy.promptTokens - policy.keptTokens));
    return;
  }
  const sinks = Math.ceil(policy.sinkTokens / blockSize) * blockSize;
  const oldest = token + 1 - policy.windowTokens;
  const wanted = Math.max(0, Math.floor(oldest / blockSize) * blockSize - sinks);
  expect(numDropped).toBe(wanted);
  // at least the window, and less than a block more
  const visible = token + 1 - numDropped - (numDropped > 0 ? sinks : 0);
  if (numDropped > 0) expect(visible - policy.windowTokens).toBeGreaterThanOrEqual(0);
  if (numDropped > 0) expect(visible - policy.windowTokens).toBeLessThan(blockSize);
  expect(base).toBe(Math.floor(numDropped / 64) * 64);
  expect(token - base).toBeLessThan(64 + sinks + policy.windowTokens + blockSize);
}
