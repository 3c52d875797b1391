import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { loadModel, SoloRequest } from '../../test/drive-backend.ts';
import { ReferenceBackend } from '../backends/reference/reference-backend.ts';
import { Scorer } from '../engine/scorer.ts';
import { klDivergence, logSumExp, measureDivergence, measurePerplexity, requireSameVocabulary } from './evaluate.ts';
import { numScored, type ScoringOptions, scoringWindows } from './scoring-windows.ts';

const root = path.resolve(import.meta.dirname, '../..');
const pocket = path.join(root, 'pocket/model');
const text = 'Hello! How are you today?\nI am fine, thank you. Tell me a story about a small fox who wanted to see the sea, and what it found there.';
const inFloats = { dtype: 'float32', kvCacheDtype: 'float32', activation: 'float' } as const;
const sliding = { method: 'sliding', context: 24, stride: 9 } as const;
const halves = { method: 'llama.cpp', context: 14, stride: 1 } as const;

describe('windows', () => {
  const settings = fc
    .tuple(fc.integer({ min: 2, max: 300 }), fc.integer({ min: 2, max: 60 }))
    .chain(([numTokens, context]) => fc.tuple(fc.constant(numTokens), fc.constant(context), fc.integer({ min: 1, max: context - 1 })));

  test('sliding counts each token but the first once, behind at least context - stride others once the text is that long', () => {
    fc.assert(
      fc.property(settings, ([numTokens, context, stride]) => {
        const counted: number[] = [];
        for (const { begin, end, firstScored } of scoringWindows(numTokens, { method: 'sliding', context, stride })) {
          expect(end - begin).toBeLessThanOrEqual(context);
          for (let token = firstScored; token < end; token++) {
            counted.push(token);
            expect(token - begin).toBeGreaterThanOrEqual(Math.min(token, context - stride));
          }
        }
        expect(counted).toEqual(Array.from({ length: numTokens - 1 }, (_, i) => i + 1));
      }),
    );
  });

  test("llama.cpp's count n - n/2 - 1 tokens of each whole window and drop the rest", () => {
    const windows = scoringWindows(47, halves);
    expect(windows.map(({ begin, end }) => [begin, end])).toEqual([
      [0, 14],
      [14, 28],
      [28, 42],
    ]);
    expect(numScored(windows)).toBe(3 * (14 - 7 - 1));
  });
});

describe('a model', () => {
  let scorer: Scorer;
  let ids: Int32Array;
  beforeAll(async () => {
    scorer = await load({});
    ids = scorer.tokenizer.encode(text, { addSpecialTokens: true, parseSpecial: false });
  });
  afterAll(() => scorer.close());

  test.each([sliding, halves] satisfies ScoringOptions[])('has the perplexity that the logits of whole windows give ($method)', async (options) => {
    const nats: number[] = [];
    for (const { begin, end, firstScored } of scoringWindows(ids.length, options)) {
      const logits = await plainLogits(pocket, [...ids.subarray(begin, end)]);
      for (let token = firstScored; token < end; token++) nats.push(-plainLogProbabilities(logits[token - 1 - begin])[ids[token]]);
    }
    expect(ids.length).toBeGreaterThan(28); // several windows
    const mean = nats.reduce((a, b) => a + b) / nats.length;
    const variance = nats.reduce((sum, value) => sum + (value - mean) ** 2, 0) / nats.length;
    const report = await measurePerplexity(scorer, ids, options);
    expect(report.numTokens).toBe(nats.length);
    expect(report.totalNats).toBeCloseTo(mean * nats.length, 9);
    expect(report.perplexity.mean).toBeCloseTo(Math.exp(mean), 9);
    expect(report.natsPerToken.standardError).toBeCloseTo(Math.sqrt(variance / (nats.length - 1)), 9);
    expect(report.perplexity.standardError).toBeCloseTo(Math.exp(mean) * Math.sqrt(variance / (nats.length - 1)), 9);
  });

  test('has a divergence of exactly 0 from itself, in steps of another size too', async () => {
    const other = await load({ maxNumBatchedTokens: 5 });
    const watched: number[] = [];
    const report = await measureDivergence(scorer, other, ids, sliding, (done, total) => watched.push(done / total));
    expect(report.kl).toEqual({ mean: 0, standardError: 0, median: 0, p99: 0, max: 0 });
    expect(report.sameTop.mean).toBe(1);
    expect(report.reference).toEqual(report.model);
    expect(report.model).toEqual(await measurePerplexity(scorer, ids, sliding));
    expect(watched.at(-1)).toBe(1);
    await other.close();
  });

  test('rounded to 4 bits diverges by what a direct computation gives', async () => {
    const rounded = await load({ quantize: 'int4', activation: 'int8-group32' });
    expect(rounded.info).toMatchObject({ weightFormats: expect.arrayContaining(['q4_0']), activations: expect.arrayContaining(['int8-group32']) });
    const context = 24;
    const report = await measureDivergence(rounded, scorer, ids.subarray(0, context), { ...sliding, context });
    const logitsOf = async (from: Scorer) => {
      from.begin();
      const all = await from.feed(ids.subarray(0, context), 0);
      return Array.from({ length: context }, (_, i) => all.subarray(i * from.info.vocabSize, (i + 1) * from.info.vocabSize));
    };
    const [p, q] = [await logitsOf(scorer), await logitsOf(rounded)].map((rows) => rows.map(plainLogProbabilities));
    const direct = p.slice(0, -1).map((row, i) => row.reduce((sum, logP, id) => sum + Math.exp(logP) * (logP - q[i][id]), 0));
    expect(report.kl.mean).toBeGreaterThan(1e-5);
    expect(report.kl.mean).toBeCloseTo(direct.reduce((a, b) => a + b) / direct.length, 9);
    expect(report.kl.max).toBeCloseTo(Math.max(...direct), 9);
    expect(report.kl.median).toBeCloseTo(direct.sort((a, b) => a - b)[(direct.length - 1) / 2], 9);
    await rounded.close();
  });

  test('refuses a text of which nothing counts', async () => {
    await expect(measurePerplexity(scorer, ids.subarray(0, 1), sliding)).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
    await expect(measurePerplexity(scorer, ids.subarray(0, 13), halves)).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
  });

  test('is compared with a model of the same vocabulary only', () => {
    const alike = { info: scorer.info, tokenizer: scorer.tokenizer } as Scorer;
    expect(() => requireSameVocabulary(scorer, alike, ids, ids)).not.toThrow();
    expect(() => requireSameVocabulary(scorer, alike, ids, ids.subarray(1))).toThrow('different vocabularies');
    expect(() => requireSameVocabulary(scorer, { ...alike, info: { ...scorer.info, vocabSize: 9 } } as Scorer, ids, ids)).toThrow('9 ids');
    const respelt = { tokenText: (id: number) => `${scorer.tokenizer.tokenText(id)}?` };
    expect(() => requireSameVocabulary(scorer, { ...alike, tokenizer: respelt } as Scorer, ids, ids)).toThrow('for id');
  });

  async function load(options: object): Promise<Scorer> {
    return Scorer.load({ model: pocket, ...inFloats, ...options }, () => 24, { backend: new ReferenceBackend() });
  }
});

describe('a scorer', () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'millrace-scorer-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  // window, latent and plain caches; steps of 5 cross blocks of 4
  test.each(['gemma3', 'deepseek-v2-lite', 'bloom'])('gives for %s the logits of one step, fed 5 tokens at a time', async (name) => {
    const golden = path.join(root, 'test/golden', name);
    for (const file of ['config.json', 'model.safetensors']) copyFileSync(path.join(golden, file), path.join(folder, file));
    copyFileSync(path.join(root, 'test/fixtures/tokenizers/byte-level/tokenizer.json'), path.join(folder, 'tokenizer.json'));
    const ids = Array.from({ length: 37 }, (_, i) => (i * 89 + 7) % 300);
    const whole = await plainLogits(golden, ids);
    const options = { model: folder, ...inFloats, blockSize: 4, maxNumBatchedTokens: 5 };
    const scorer = await Scorer.load(options, () => 37, { backend: new ReferenceBackend() });
    const width = scorer.info.vocabSize;
    for (const round of [0, 1]) {
      scorer.begin();
      for (let at = 0; at < ids.length; at += 5) {
        const step = Int32Array.from(ids.slice(at, at + 5));
        const first = Math.min(round, step.length);
        const logits = await scorer.feed(step, first);
        for (let i = first; i < step.length; i++) expect(logits.subarray((i - first) * width, (i - first + 1) * width)).toEqual(whole[at + i]);
      }
    }
    await expect(scorer.feed(Int32Array.of(1), 0)).rejects.toMatchObject({ code: 'PROMPT_TOO_LONG' });
    scorer.begin();
    await expect(scorer.feed(Int32Array.of(width), 0)).rejects.toMatchObject({ code: 'PROMPT_TOKEN_UNKNOWN' });
    await scorer.close();
    await expect(scorer.feed(Int32Array.of(1), 0)).rejects.toMatchObject({ code: 'ENGINE_CLOSED' });
  });
});

describe('rows of logits', () => {
  test('with a NaN or an infinity are refused; tokens that cannot be count nothing', () => {
    for (const wrong of [Number.NaN, Number.POSITIVE_INFINITY]) expect(() => logSumExp(Float32Array.of(0, wrong, 1))).toThrow('NaN or infinite');
    expect(() => logSumExp(new Float32Array(3).fill(Number.NEGATIVE_INFINITY))).toThrow('NaN or infinite');
    const row = Float32Array.of(1, Number.NEGATIVE_INFINITY, 1);
    expect(logSumExp(row)).toBeCloseTo(1 + Math.LN2, 12);
    expect(klDivergence(row, logSumExp(row), row, logSumExp(row))).toBe(0);
    expect(logSumExp(Float32Array.of(3e38, 0))).toBe(Math.fround(3e38));
  });
});

/** Logits after each token, computed in one step of its own. */
async function plainLogits(model: string, ids: readonly number[]): Promise<Float32Array[]> {
  const backend = new ReferenceBackend();
  const { source, plan } = loadModel(model);
  const request = await SoloRequest.open(backend, plan(), source, ids.length);
  const all = await request.feed(ids);
  const rows = ids.map((_, i) => all.slice(i * request.vocabSize, (i + 1) * request.vocabSize));
  request.close();
  await backend.close();
  return rows;
}

function plainLogProbabilities(row: Float32Array): number[] {
  const values = [...row];
  const sum = values.reduce((total, logit) => total + Math.exp(logit), 0);
  return values.map((logit) => logit - Math.log(sum));
}
