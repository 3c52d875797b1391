/**
 * Time to the first token of a long prompt from an engine that has just been started, without and with a disk tier that an earlier one filled.
 *
 *   npx tsx bench/kv-restart.ts [MODEL] [--tokens N] [--runs N]
 *
 * Without a model, random weights in the shape of Qwen2.5-0.5B (Q8_0). Each run opens the engine anew; loading is not counted. A short prompt goes first, so
 * that neither pays for what only the first step pays.
 */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { percentile } from '../src/bench/statistics.ts';
import { loadEngine } from '../src/engine/load.ts';
import { halfBillionFolder } from '../test/fixtures/half-billion.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { tokens: { type: 'string', default: '2048' }, runs: { type: 'string', default: '3' } },
});
const WANTED = 3;
const numTokens = Number(values.tokens);
const shape = positionals.length === 0 ? halfBillionFolder() : null;
const model = shape?.path ?? positionals[0];
const kvDiskDir = fs.mkdtempSync(path.join(os.tmpdir(), 'millrace-kv-restart-'));
const prompt = Array.from({ length: numTokens }, (_, i) => 100 + ((i * 7919) % 5000));

async function firstToken(withDisk: boolean): Promise<{ ms: number; cached: number; token: number }> {
  const dummy = shape === null ? {} : ({ loadFormat: 'dummy', weightFormat: 'q8_0' } as const);
  const engine = await loadEngine({ model, ...dummy, maxModelLen: numTokens + 64, maxNumSeqs: 4, ...(withDisk ? { kvDiskDir } : {}) });
  try {
    await engine.generate({ promptTokenIds: [1, 2, 3] }, { maxTokens: 2, temperature: 0 });
    const startMs = performance.now();
    const { usage, choices } = await engine.generate({ promptTokenIds: prompt }, { maxTokens: 1, temperature: 0 });
    return { ms: performance.now() - startMs, cached: usage.cachedTokens, token: choices[0].tokenIds[0] };
  } finally {
    await engine.close();
  }
}

try {
  const computed: number[] = [];
  const loaded: number[] = [];
  const filled = await firstToken(true);
  console.log(`filled: ${filled.ms.toFixed(0)} ms, ${filled.cached} of ${numTokens} tokens cached`);
  for (let run = 0; run < Number(values.runs); run++) {
    // in turn, each first every other time: what disturbs the machine meets both
    const isDiskFirst = run % 2 === 0;
    const first = await firstToken(isDiskFirst);
    const second = await firstToken(!isDiskFirst);
    const [fromDisk, alone] = isDiskFirst ? [first, second] : [second, first];
    if (fromDisk.token !== alone.token || alone.cached !== 0) throw new Error('the answers differ');
    loaded.push(fromDisk.ms);
    computed.push(alone.ms);
    console.log(
      `restarted: ${fromDisk.ms.toFixed(0)} ms from disk (${fromDisk.cached} tokens cached), ${alone.ms.toFixed(0)} ms computed: ${(alone.ms / fromDisk.ms).toFixed(1)} times as fast`,
    );
  }
  const [diskMs, computedMs] = [percentile(loaded, 50), percentile(computed, 50)];
  const ratios = loaded.map((ms, i) => computed[i] / ms);
  const verdict = percentile(ratios, 50) >= WANTED ? 'met' : 'NOT met';
  console.log(
    `median of ${loaded.length} pairs: ${diskMs.toFixed(0)} ms from disk, ${computedMs.toFixed(0)} ms computed, ${percentile(ratios, 50).toFixed(1)} times as fast (${Math.min(...ratios).toFixed(1)} to ${Math.max(...ratios).toFixed(1)}; ${WANTED} wanted): ${verdict}`,
  );
} finally {
  fs.rmSync(kvDiskDir, { recursive: true });
  shape?.remove();
}
