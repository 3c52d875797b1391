/**
 * What each number type of K and V costs in accuracy: perplexity on a text, and the KL divergence of the next token's distribution from that with K and V
 * in f32; and what it costs beside that to let attention round queries and weights to bf16. Weights and other activations stay as they are. The text is cut into pieces of --context tokens.
 *
 *     npx tsx bench/kv-accuracy.ts --model pocket/model --text story.txt [--tokens 2048] [--context 256]
 */
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { createNativeBackend } from '../src/backends/native/native-backend.ts';
import { bytesPerToken, type KvDtype, kvDtypes } from '../src/kv/layout.ts';
import type { AttentionActivation } from '../src/plan/ops/attention.ts';
import { withAttentionActivation } from '../src/plan/passes/attention-activation.ts';
import { tokenizerFromFolder } from '../src/tokenizer/load-tokenizer.ts';
import { loadModel, SoloRequest } from '../test/drive-backend.ts';

const { values } = parseArgs({
  options: {
    model: { type: 'string' },
    text: { type: 'string' },
    tokens: { type: 'string', default: '2048' },
    context: { type: 'string', default: '256' },
  },
});
if (values.model === undefined || values.text === undefined) throw new Error('--model and --text are needed');
const context = Number(values.context);

const tokenizer = await tokenizerFromFolder(values.model);
const ids = [...tokenizer.encode(readFileSync(values.text, 'utf8'), { addSpecialTokens: false, parseSpecial: false })].slice(
  0,
  Number(values.tokens),
);
const pieces = Array.from({ length: Math.ceil(ids.length / context) }, (_, i) => ids.slice(i * context, (i + 1) * context)).filter(
  (piece) => piece.length > 1,
);
const backend = await createNativeBackend({ numThreads: 1 });
const { source, plan } = loadModel(values.model);
const built = plan();

/** Natural logarithms of the probabilities, `[tokens, vocabulary]` of each piece. */
async function logprobsOf(kvDtype: KvDtype, activation: AttentionActivation): Promise<{ rows: Float64Array[]; vocabSize: number }> {
  const rows: Float64Array[] = [];
  let vocabSize = 0;
  for (const piece of pieces) {
    const request = await SoloRequest.open(backend, withAttentionActivation(built, activation), source, piece.length, {
      maxTokens: piece.length,
      kvDtype,
    });
    const logits = await request.feed(piece);
    vocabSize = request.vocabSize;
    for (let at = 0; at < logits.length; at += vocabSize) rows.push(logSoftmax(logits.subarray(at, at + vocabSize)));
    request.close();
  }
  return { rows, vocabSize };
}

function logSoftmax(logits: Float32Array): Float64Array {
  const largest = logits.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  const sum = logits.reduce((total, logit) => total + Math.exp(logit - largest), 0);
  return Float64Array.from(logits, (logit) => logit - largest - Math.log(sum));
}

const divergence = (p: Float64Array, q: Float64Array): number => p.reduce((sum, logprob, i) => sum + Math.exp(logprob) * (logprob - q[i]), 0);
const best = (row: Float64Array): number => row.reduce((most, value, i) => (value > row[most] ? i : most), 0);

const exact = await logprobsOf('f32', 'f32');
const tokens = pieces.flat();
const ends = pieces.flatMap((piece) => piece.map((_, i) => i === piece.length - 1));
const rowsOfTable: string[] = [];
const cases = (Object.keys(kvDtypes) as KvDtype[]).flatMap((kvDtype) => [
  { kvDtype, activation: 'f32' as const },
  ...(kvDtype === 'f32' || kvDtype === 'f16' ? [] : [{ kvDtype, activation: 'bf16' as const }]),
]);
for (const { kvDtype, activation } of cases) {
  const { rows } = kvDtype === 'f32' ? exact : await logprobsOf(kvDtype, activation);
  const surprises = rows.flatMap((row, i) => (ends[i] ? [] : [-row[tokens[i + 1]]]));
  const perplexity = Math.exp(surprises.reduce((a, b) => a + b, 0) / surprises.length);
  const divergences = rows.map((row, i) => divergence(exact.rows[i], row)).sort((a, b) => a - b);
  const mean = divergences.reduce((a, b) => a + b, 0) / divergences.length;
  const agreeing = rows.filter((row, i) => best(row) === best(exact.rows[i])).length / rows.length;
  const bytes = built.cacheGroups.reduce((sum, group) => sum + bytesPerToken(group, kvDtype), 0);
  const figures = [bytes, perplexity.toFixed(4), mean.toExponential(1), divergences[Math.floor(0.99 * divergences.length)].toExponential(1)];
  rowsOfTable.push(`| ${kvDtype} | ${activation} | ${figures.join(' | ')} | ${(100 * agreeing).toFixed(1)} % |`);
}
console.log(`${tokens.length} tokens in ${pieces.length} pieces`);
console.log(
  '| K and V | attention | bytes a token | perplexity | mean KL | 99th percentile of KL | same first choice |\n|---|---|---|---|---|---|---|',
);
console.log(rowsOfTable.join('\n'));
await backend.close();
