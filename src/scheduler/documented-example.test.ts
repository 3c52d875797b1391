/** The worked example of docs/scheduling.md, run: what the page shows is what the scheduler does. */
import fs from 'node:fs';
import { expect, test } from 'vitest';
import { KvCache } from '../kv/kv-cache.ts';
import { resolveSamplingParams } from '../sampling/params.ts';
import { type PolicyName, policies } from './policies/index.ts';
import { Request } from './request.ts';
import type { ScheduledBatch } from './scheduled-batch.ts';
import { Scheduler } from './scheduler.ts';

const page = fs.readFileSync(new URL('../../docs/scheduling.md', import.meta.url), 'utf8');

interface Example {
  blockSize: number;
  numBlocks: number;
  maxNumSeqs: number;
  maxNumBatchedTokens: number;
  watermark: number;
  policy: PolicyName;
  targetItlMs?: number;
  /** Milliseconds of a step: itself, a prompt token, a row that decodes. Without it, no time passes. */
  device?: { step: number; promptToken: number; decodeRow: number };
  requests: { id: string; arrivesAtStep: number; promptTokens: number; maxTokens: number; outputTokens: number }[];
}

/** The fenced block of a language that follows a marker. */
function block(marker: string, language: string): string {
  const from = page.indexOf(`<!-- ${marker} -->`);
  expect(from, marker).toBeGreaterThanOrEqual(0);
  const start = page.indexOf(`\`\`\`${language}\n`, from) + language.length + 4;
  return page.slice(start, page.indexOf('\n```', start));
}

/** What a step of the example's device takes. */
function deviceMs({ device }: Example, { numRows, firstToken, numNewTokens, requests }: ScheduledBatch): number {
  if (device === undefined) return 0;
  let ms = device.step;
  for (let row = 0; row < numRows; row++) {
    ms += firstToken[row] >= requests[row].numPromptTokens ? device.decodeRow : device.promptToken * numNewTokens[row];
  }
  return ms;
}

function run(example: Example): string[] {
  const { requests, policy, device: _, ...limits } = example;
  const groups = [{ name: 'full', kind: 'full' as const, numBlocks: limits.numBlocks, numLayers: 1, numKvHeads: 1, headDim: 8 }];
  const kv = new KvCache({ groups, blockSize: limits.blockSize, enablePrefixCaching: true });
  const scheduler = new Scheduler({ ...limits, kv, maxModelLen: 1000, maxQueue: 100, policy: policies[policy]() });
  const lines: string[] = [];
  const lengths = new Map(requests.map(({ id, outputTokens }) => [id, outputTokens]));
  for (let step = 0; step === 0 || scheduler.hasWork || requests.some(({ arrivesAtStep }) => arrivesAtStep >= step); step++) {
    for (const [index, { id, arrivesAtStep, promptTokens, maxTokens }] of requests.entries()) {
      if (arrivesAtStep !== step) continue;
      const params = resolveSamplingParams({ maxTokens, seed: 1 }, { maxTokens: 999, vocabSize: 100_000, drawSeed: () => 1 });
      const promptTokenIds = Int32Array.from({ length: promptTokens }, (_, i) => 1000 * (index + 1) + i);
      scheduler.add([new Request({ id, promptTokenIds, params, arrivalMs: step })]);
    }
    const batch = scheduler.schedule(step);
    const ms = deviceMs(example, batch);
    const expected =
      ms === 0 ? '' : ` ${ms.toFixed(0).padStart(3)} ms, expected ${(scheduler.pacing?.report.expectedStepMs ?? 0).toFixed(0).padStart(3)} `;
    const rows = batch.requests.map((request, row) => {
      const [first, count] = [batch.firstToken[row], batch.numNewTokens[row]];
      return `${request.id} ${count === 1 ? first : `${first}-${first + count - 1}`}${batch.numLogitRows[row] > 0 ? '*' : ''}`;
    });
    const waiting = scheduler.report(step).flatMap(({ id, waitsFor }) => (waitsFor === null ? [] : [`${id}: ${waitsFor}`]));
    const preempted = batch.preempted.map(({ id }) => `${id} is preempted`);
    lines.push(
      `${String(step).padEnd(4)}${rows.join(', ').padEnd(28)}${expected}${String(kv.numReferenced).padStart(2)} blocks  ${[...preempted, ...waiting].join(', ')}`.trimEnd(),
    );
    scheduler.pacing?.note(batch, ms);
    scheduler.commit(batch, new Int32Array(batch.totalLogitRows).fill(step));
    for (const request of [...batch.requests]) if (request.numOutputTokens >= (lengths.get(request.id) ?? 0)) scheduler.finish(request);
    scheduler.checkInvariants();
  }
  return lines;
}

test.each([
  ['who runs next', 'example', 'steps'],
  ['a target between tokens', 'pacing-example', 'pacing-steps'],
])('the worked example of %s in docs/scheduling.md goes as the page says', (_, given, wanted) => {
  const example = JSON.parse(block(given, 'json')) as Example;
  expect(run(example).join('\n')).toBe(block(wanted, 'text'));
});
