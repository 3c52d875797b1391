/**
 * What masks cost a full batch: tokens per second of requests that are held to schemas beside the same number of free ones, in turn.
 *
 * npx tsx bench/mask-load.ts TOKENIZER_FOLDER [--config bench/shapes/qwen2.5-0.5b/config.json] [--weight-format q8_0] [--batch 16] [--tokens 64] [--rounds 5] [--warm]
 *
 * The weights are random. Every request has a schema of its own, and another one in each round (but for --warm), so that each mask is worked out for the
 * first time; all make as many tokens, one a step (jump-forward is off). Time counts from where all requests have their first token: compiling a
 * schema is not decoding. The masks of a step are worked out while its forward pass runs.
 */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { loadEngine } from '../src/engine/load.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    config: { type: 'string', default: path.join(import.meta.dirname, 'shapes', 'qwen2.5-0.5b', 'config.json') },
    'weight-format': { type: 'string', default: 'q8_0' },
    batch: { type: 'string', default: '16' },
    tokens: { type: 'string', default: '64' },
    rounds: { type: 'string', default: '5' },
    backend: { type: 'string', default: 'auto' },
    warm: { type: 'boolean', default: false },
  },
});
const [tokenizerFolder] = positionals;
if (tokenizerFolder === undefined) throw new Error('usage: npx tsx bench/mask-load.ts TOKENIZER_FOLDER');
const batch = Number(values.batch);
const maxTokens = Number(values.tokens);

/** A list that does not end before the tokens do, of records whose names no other request has. */
function schemaOf(round: number, request: number): unknown {
  const name = (field: string) => `${field}_${round}_${request}`;
  const properties = {
    [name('title')]: { type: 'string' },
    [name('kind')]: { enum: ['first', 'second', 'third', 'none of these'] },
    [name('amount')]: { type: 'number' },
    [name('code')]: { type: 'string', pattern: '^[A-Z]{2}-[0-9]{4,8}$' },
    [name('tags')]: { type: 'array', items: { type: 'string', maxLength: 12 } },
    [name('when')]: { type: 'string', format: 'date-time' },
  };
  return { type: 'array', minItems: 1000, items: { type: 'object', properties, required: Object.keys(properties) } };
}

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'millrace-masks-'));
fs.copyFileSync(values.config, path.join(folder, 'config.json'));
for (const name of fs.readdirSync(tokenizerFolder)) {
  if (name !== 'config.json') fs.copyFileSync(path.join(tokenizerFolder, name), path.join(folder, name));
}

const median = (numbers: number[]): number => numbers.sort((a, b) => a - b)[Math.floor(numbers.length / 2)];

try {
  const engine = await loadEngine({
    model: folder,
    loadFormat: 'dummy',
    weightFormat: values['weight-format'] as 'q8_0',
    backend: values.backend as 'auto',
    maxModelLen: 1024,
    kvCacheMemoryBytes: 1 << 29,
    jumpForward: false,
    enablePrefixCaching: false,
  });
  /** Tokens per second from where all requests have their first token. */
  const run = async (round: number, isHeld: boolean): Promise<number> => {
    let numTokens = 0;
    let numBegun = 0;
    let start = 0;
    let counted = 0;
    const one = async (i: number) => {
      const schema = { json: schemaOf(values.warm ? 0 : round, i) };
      const stream = engine.generate(
        { prompt: `Request ${i}: a list, please.` },
        { maxTokens, ignoreEos: true, seed: 100 * round + i, ...(isHeld ? { structuredOutput: schema } : {}) },
      );
      let isFirst = true;
      for await (const { tokenIds } of stream) {
        numTokens += tokenIds.length;
        if (isFirst && ++numBegun === batch) {
          start = performance.now();
          counted = numTokens;
        }
        isFirst = false;
      }
    };
    await Promise.all(Array.from({ length: batch }, (_, i) => one(i)));
    if (numTokens !== batch * maxTokens) throw new Error(`${numTokens} tokens instead of ${batch * maxTokens}`);
    return (1000 * (numTokens - counted)) / (performance.now() - start);
  };
  const free: number[] = [];
  const held: number[] = [];
  for (let round = 0; round <= Number(values.rounds); round++) {
    const pair = [await run(round, false), await run(round, true)] as const;
    if (round === 0) continue; // builds the vocabulary's trees and warms up
    free.push(pair[0]);
    held.push(pair[1]);
  }
  const ratio = median(held.map((one, i) => one / free[i]));
  console.log('| batch | tokens | free tokens/s | held tokens/s | held / free |\n|---|---|---|---|---|');
  console.log(`| ${batch} | ${maxTokens} | ${median(free).toFixed(1)} | ${median(held).toFixed(1)} | ${ratio.toFixed(3)} |`);
  await engine.close();
} finally {
  fs.rmSync(folder, { recursive: true });
}
