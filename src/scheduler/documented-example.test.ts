/** The worked example of docs/scheduling.md, run: what the page shows is what the scheduler does. */
import fs from 'node:fs';
import { expect, test } from 'vitest';
import { KvCache } from '../kv/kv-cache.ts';
import { resolveSamplingParams } from '../sampling/params.ts';
import { type PolicyName, policies } from './policies/index.ts';
import { Request } from './request.ts';
import { Scheduler } from './scheduler.ts';

const page = fs.readFileSync(new URL('../../docs/scheduling.md', import.meta.url), 'utf8');

interface Example {
  blockSize: number;
  numBlocks: number;
  maxNumSeqs: number;
  maxNumBatchedTokens: number;
  watermark: number;
  policy: PolicyName;
  requests: { id: string; arrivesAtStep: number; promptTokens: number; maxTokens: number; outputTokens: number }[];
}

/** The fenced block of a language that follows a marker. */
function block(marker: string, language: string): string {
  const from = page.indexOf(`<!-- ${marker} -->`);
  expect(from, marker).toBeGreaterThanOrEqual(0);
  const start = page.indexOf(`\`\`\`${language}\n`, from) + language.length + 4;
  return page.slice(start, page.indexOf('\n```', start));
}

function run({ requests, policy, ...limits }: Example): string[] {
  const groups = [{ name: 'full', kind: 'full' as const, numBlocks: limits.numBlocks, numLayers: 1, numKvHeads: 1, headDim: 8 }];
  const kv = new KvCache({ groups, blockSize: limits.blockSize, enablePrefixCaching: true });
  const scheduler = new Scheduler({ ...limits, kv, maxModelLen: 100, maxQueue: 100, policy: policies[policy]() });
  const lines: string[] = [];
  const lengths = new Map(requests.map(({ id, outputTokens }) => [id, outputTokens]));
  for (let step = 0; step === 0 || scheduler.hasWork || requests.some(({ arrivesAtStep }) => arrivesAtStep >= step); step++) {
    for (const [index, { id, arrivesAtStep, promptTokens, maxTokens }] of requests.entries()) {
      if (arrivesAtStep !== step) continue;
      const params = resolveSamplingParams({ maxTokens, seed: 1 }, { maxTokens: 99, vocabSize: 1000, drawSeed: () => 1 });
      const promptTokenIds = Int32Array.from({ length: promptTokens }, (_, i) => 100 * (index + 1) + i);
      scheduler.add([new Request({ id, promptTokenIds, params, arrivalMs: step })]);
    }
    const batch = scheduler.schedule(step);
    const rows = batch.requests.map((request, row) => {
      const [first, count] = [batch.firstToken[row], batch.numNewTokens[row]];
      return `${request.id} ${count === 1 ? first : `${first}-${first + count - 1}`}${batch.numLogitRows[row] > 0 ? '*' : ''}`;
    });
    const waiting = scheduler.report(step).flatMap(({ id, waitsFor }) => (waitsFor === null ? [] : [`${id}: ${waitsFor}`]));
    const preempted = batch.preempted.map(({ id }) => `${id} is preempted`);
    lines.push(
      `${String(step).padEnd(4)}${rows.join(', ').padEnd(28)}${String(kv.numReferenced).padStart(2)} blocks  ${[...preempted, ...waiting].join(', ')}`.trimEnd(),
    );
    scheduler.commit(batch, new Int32Array(batch.totalLogitRows).fill(step));
    for (const request of [...batch.requests]) if (request.numOutputTokens >= (lengths.get(request.id) ?? 0)) scheduler.finish(request);
    scheduler.checkInvariants();
  }
  return lines;
}

test('the worked example of docs/scheduling.md goes as the page says', () => {
  const example = JSON.parse(block('example', 'json')) as Example;
  expect(run(example).join('\n')).toBe(block('steps', 'text'));
});
