/**
 * Jump-forward on a schema of twelve keys: decode steps and wall time with and without, at several batch sizes.
 *
 * npx tsx bench/jump-forward.ts TOKENIZER_FOLDER [--config bench/shapes/qwen2.5-0.5b/config.json] [--weight-format q8_0] [--batch 1,16] [--rounds 3]
 *
 * The weights are random: what the model writes between the keys means nothing, how long it takes is as with real ones. TOKENIZER_FOLDER holds
 * a tokenizer.json of the vocabulary of the config. Each round runs both ways on one pair of engines, in turn; the table has medians.
 */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { loadEngine } from '../src/engine/load.ts';
import type { LoadedEngine } from '../src/engine/loaded-engine.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    config: { type: 'string', default: path.join(import.meta.dirname, 'shapes', 'qwen2.5-0.5b', 'config.json') },
    'weight-format': { type: 'string', default: 'q8_0' },
    batch: { type: 'string', default: '1,16' },
    rounds: { type: 'string', default: '3' },
    backend: { type: 'string', default: 'auto' },
    compact: { type: 'boolean', default: false },
  },
});
const [tokenizerFolder] = positionals;
if (tokenizerFolder === undefined) throw new Error('usage: npx tsx bench/jump-forward.ts TOKENIZER_FOLDER');

/** A ticket as a support desk would have it extracted from a mail. */
const schema = {
  type: 'object',
  properties: {
    customer_name: { type: 'string', maxLength: 16 },
    customer_number: { type: 'integer', minimum: 10000, maximum: 99999 },
    product_category: { enum: ['electronics', 'furniture', 'clothing', 'groceries'] },
    order_date: { type: 'string', format: 'date' },
    delivery_status: { enum: ['delivered', 'in transit', 'returned', 'lost'] },
    is_premium_customer: { type: 'boolean' },
    problem_description: { type: 'string', maxLength: 40 },
    sentiment_of_customer: { enum: ['positive', 'neutral', 'negative'] },
    requires_human_attention: { type: 'boolean' },
    priority_level: { type: 'integer', minimum: 1, maximum: 5 },
    assigned_department: { enum: ['sales', 'support', 'logistics', 'legal'] },
    suggested_resolution: { enum: ['refund', 'replacement', 'repair', 'apology'] },
  },
  additionalProperties: false,
} as const;
const structuredOutput = { json: { ...schema, required: Object.keys(schema.properties) }, disableAnyWhitespace: values.compact };

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'millrace-jump-'));
fs.copyFileSync(values.config, path.join(folder, 'config.json'));
for (const name of fs.readdirSync(tokenizerFolder)) {
  if (name !== 'config.json') fs.copyFileSync(path.join(tokenizerFolder, name), path.join(folder, name));
}

interface Run {
  readonly steps: number;
  readonly tokens: number;
  readonly jumped: number;
  readonly ms: number;
  readonly texts: string;
}

async function run(engine: LoadedEngine, batch: number, round: number): Promise<Run> {
  const before = engine.stats();
  const start = performance.now();
  const results = await Promise.all(
    Array.from({ length: batch }, (_, i) =>
      engine.generate({ prompt: `Ticket ${i}: please put this into the form.` }, { maxTokens: 400, seed: 1000 * round + i, structuredOutput }),
    ),
  );
  const ms = performance.now() - start;
  const after = engine.stats();
  return {
    steps: after.numSteps - before.numSteps,
    tokens: after.generationTokens - before.generationTokens,
    jumped: after.jumpForwardTokens - before.jumpForwardTokens,
    ms,
    texts: JSON.stringify(results.map(({ choices }) => choices[0])),
  };
}

const median = (numbers: number[]): number => numbers.sort((a, b) => a - b)[Math.floor(numbers.length / 2)];

try {
  console.log('| batch | tokens | steps off | steps on | fewer | ms off | ms on | less time |\n|---|---|---|---|---|---|---|---|');
  const options = {
    model: folder,
    loadFormat: 'dummy',
    weightFormat: values['weight-format'] as 'q8_0',
    backend: values.backend as 'auto',
    maxModelLen: 1024,
    kvCacheMemoryBytes: 1 << 29,
  } as const;
  const off = await loadEngine({ ...options, jumpForward: false, enablePrefixCaching: false });
  const on = await loadEngine({ ...options, jumpForward: true, enablePrefixCaching: false });
  for (const batch of values.batch.split(',').map(Number)) {
    const runs: [Run, Run][] = [];
    for (let round = 0; round <= Number(values.rounds); round++) {
      const pair: [Run, Run] = [await run(off, batch, round), await run(on, batch, round)];
      if (pair[0].texts !== pair[1].texts) throw new Error('jump-forward changed the output');
      if (round > 0) runs.push(pair); // the first compiles grammars and warms up
    }
    const of = (which: 0 | 1, field: 'steps' | 'ms' | 'tokens') => median(runs.map((pair) => pair[which][field]));
    const less = (field: 'steps' | 'ms') => `${(100 * (1 - median(runs.map(([a, b]) => b[field] / a[field])))).toFixed(1)} %`;
    console.log(
      `| ${batch} | ${of(1, 'tokens')} | ${of(0, 'steps')} | ${of(1, 'steps')} | ${less('steps')} | ${of(0, 'ms').toFixed(0)} | ${of(1, 'ms').toFixed(0)} | ${less('ms')} |`,
    );
  }
  await off.close();
  await on.close();
} finally {
  fs.rmSync(folder, { recursive: true });
}
