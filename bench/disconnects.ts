/**
 * A crowd of HTTP clients of whom 30 % go away, at every stage of a request; prints what is left of them: blocks, streams, connections, heap.
 *
 *   npx tsx bench/disconnects.ts [MODEL] [--requests N] [--concurrency N] [--max-in-flight 1|2]
 *
 * Without a model, 10,000 requests on the null device, then 200 on random weights in the shape of Qwen2.5-0.5B (Q4_0). Every tenth request is a beam search.
 * Ends with status 1 if anything is held, or if the heap has grown by more than 4 MB since the first tenth of the crowd.
 */
import { parseArgs } from 'node:util';
import { type LoadedEngine, loadEngine } from '../src/engine/load.ts';
import { nullEngine } from '../test/fixtures/engine.ts';
import { halfBillionFolder } from '../test/fixtures/half-billion.ts';
import { type CrowdOptions, leavingStages, serveLeavingClients } from '../test/fixtures/leaving-clients.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { requests: { type: 'string' }, concurrency: { type: 'string', default: '32' }, 'max-in-flight': { type: 'string', default: '1' } },
});
const MOST_GROWTH = 4 * 2 ** 20;
const concurrency = Number(values.concurrency);
const maxInFlight = Number(values['max-in-flight']);

async function measure(name: string, engine: LoadedEngine, options: CrowdOptions): Promise<void> {
  try {
    const { finished, left, searches, seconds, held, heapBytes } = await serveLeavingClients(engine, options);
    const { numPreemptions, numSteps } = engine.stats();
    const gone = leavingStages.map((stage) => `${left[stage]} ${stage}`).join(', ');
    const growth = heapBytes.after - heapBytes.before;
    const mb = (bytes: number) => (bytes / 2 ** 20).toFixed(2);
    console.log(
      `${name}: ${options.requests} requests (${searches} beam searches) in ${seconds.toFixed(1)} s, ${numSteps} steps, ${numPreemptions} preemptions; ${finished} answered, left: ${gone}`,
    );
    console.log(
      `  held: ${Object.entries(held)
        .map(([what, count]) => `${count} ${what}`)
        .join(', ')}; heap ${mb(heapBytes.before)} MB after a tenth, ${mb(heapBytes.after)} MB after all`,
    );
    if (Object.values(held).some((count) => count !== 0) || growth > MOST_GROWTH) process.exitCode = 1;
  } finally {
    await engine.close();
  }
}

const isDefault = positionals.length === 0;
if (isDefault) {
  const small = { maxNumSeqs: 16, maxNumBatchedTokens: 64, blockSize: 8, numBlocks: 80, maxModelLen: 256, maxQueue: 10_000, maxInFlight };
  const crowd = { requests: Number(values.requests ?? 10_000), concurrency, leaving: 0.3, maxPromptTokens: 60, maxOutputTokens: 40, vocabSize: 97 };
  await measure('null device', await nullEngine(small), crowd);
}
const shape = isDefault ? halfBillionFolder() : null;
try {
  const engine = await loadEngine({
    model: shape?.path ?? positionals[0],
    ...(shape === null ? {} : ({ loadFormat: 'dummy', weightFormat: 'q4_0' } as const)),
    maxModelLen: 512,
    maxNumSeqs: 24,
    maxNumBatchedTokens: 256,
    maxInFlight,
    kvCacheMemoryBytes: 64 * 2 ** 20,
  });
  const crowd = { requests: Number(values.requests ?? 200), concurrency, leaving: 0.3, maxPromptTokens: 40, maxOutputTokens: 16, vocabSize: 1000 };
  await measure(shape === null ? positionals[0] : '0.5B shape', engine, { ...crowd, requests: Math.min(crowd.requests, 200) });
} finally {
  shape?.remove();
}
