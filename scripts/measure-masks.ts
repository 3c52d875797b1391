/**
 * What masks cost at a vocabulary of 150,000 tokens, on schemas and instances of JSONSchemaBench: time of each row, met for the first time or again,
 * as a request meets them; of each schema, the memory of what its outputs made it keep; and for how long building the vocabulary's trees, once for
 * each tokenizer, holds up the event loop.
 *
 * npx tsx scripts/measure-masks.ts TOKENIZER_FOLDER [--stride 40] [--slowest 10]   (reads ../shared/data, or MILLRACE_SHARED)
 */
import { parseArgs } from 'node:util';
import { VocabularyLoader } from '../src/engine/load-vocabulary.ts';
import { compileJsonSchema } from '../src/sampling/grammar/json-schema.ts';
import { CompiledGrammar } from '../src/sampling/grammar/matcher.ts';
import type { VocabularyTrie } from '../src/sampling/grammar/vocabulary-trie.ts';
import { tokenizerFromFolder } from '../src/tokenizer/load-tokenizer.ts';
import { benchSamples, inOrder } from '../test/grammar/schema-data.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { stride: { type: 'string', default: '40' }, slowest: { type: 'string', default: '0' } },
});
const [folder] = positionals;
if (folder === undefined) throw new Error('usage: npx tsx scripts/measure-masks.ts TOKENIZER_FOLDER');

const tokenizer = await tokenizerFromFolder(folder);
const { vocabSize } = tokenizer;
const loader = new VocabularyLoader({ tokenizer, vocabSize, eosTokenIds: tokenizer.eosTokenIds });
const begin = performance.now();
let longestMs = 0;
let trie: VocabularyTrie | null = null;
const loading = loader.load().then((loaded) => {
  trie = loaded;
});
for (let last = performance.now(); trie === null; ) {
  await new Promise((resolve) => setImmediate(resolve));
  const now = performance.now();
  longestMs = Math.max(longestMs, now - last);
  last = now;
}
await loading;
const vocabulary = trie as VocabularyTrie;
console.log(
  `vocabulary of ${vocabSize}: trees in ${(performance.now() - begin).toFixed(0)} ms, the event loop held up for ${longestMs.toFixed(1)} ms at most`,
);

const rowUs: number[] = [];
const slow: [us: number, where: string][] = [];
const row = new Uint32Array(vocabulary.numWords);
for (const { name, schema, tests } of benchSamples(Number(values.stride))) {
  let compiled: CompiledGrammar;
  try {
    compiled = new CompiledGrammar(compileJsonSchema(schema, { compact: false }), vocabulary);
  } catch {
    continue;
  }
  for (const { valid, data } of tests) {
    if (!valid) continue;
    const matcher = compiled.matcher();
    // as a model would write it: a space behind colons and commas
    const text = JSON.stringify(inOrder(data, schema, schema), null, 1)
      .replace(/\n\s*/g, ' ')
      .replace(/([[{]) | ([\]}])/g, '$1$2');
    let read = '';
    for (const id of tokenizer.encode(text, { addSpecialTokens: false, parseSpecial: false })) {
      const from = performance.now();
      matcher.fillMask(row);
      const us = 1000 * (performance.now() - from);
      rowUs.push(us);
      if (us > 500) slow.push([us, `${name} after ${read.slice(-60)}`]);
      if (!matcher.accept(id)) break;
      read += tokenizer.decode([id]);
    }
  }
}
rowUs.sort((a, b) => a - b);
const at = (share: number) => rowUs[Math.floor(share * (rowUs.length - 1))].toFixed(0);
console.log(`rows ${rowUs.length}: p50 ${at(0.5)} us, p90 ${at(0.9)}, p95 ${at(0.95)}, p99 ${at(0.99)}, p99.9 ${at(0.999)}, max ${at(1)}`);
slow.sort((a, b) => b[0] - a[0]);
for (const [us, where] of slow.slice(0, Number(values.slowest))) console.log(`${us.toFixed(0)} us ${where}`);
await tokenizer.close();
loader.close();
