/** Encoders against Hugging Face transformers: hidden states on every backend, alone and beside other texts. Data: make_encoder_goldens.py. */
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Backend } from '../../src/backends/backend.ts';
import { Encoder } from '../../src/engine/encoder.ts';
import { describeEncoder } from '../../src/engine/inspect.ts';
import { loadEngine } from '../../src/engine/load.ts';
import { encoders } from '../../src/models/index.ts';
import { BUILD_TIMEOUT_MS, testedBackends } from '../backends.ts';

interface Expected {
  readonly texts: readonly {
    readonly ids: number[];
    readonly types: number[];
    readonly hidden: { readonly position: number; readonly values: number[] }[];
  }[];
}

const folderOf = (name: string) => join(import.meta.dirname, name);
const cases = readdirSync(import.meta.dirname).filter((name) => existsSync(join(folderOf(name), 'hidden.json')));
const read = (name: string) => JSON.parse(readFileSync(join(folderOf(name), 'hidden.json'), 'utf8')) as Expected;

/** Largest difference as a part of the largest number: f32 arithmetic in another order, four layers deep. */
const TOLERANCE = 2e-5;

const scratch = mkdtempSync(join(tmpdir(), 'millrace-encoders-'));
afterAll(() => rmSync(scratch, { recursive: true }));

test('there is a golden checkpoint of every family of encoders', () => {
  const architectures = cases.map(
    (name) => (JSON.parse(readFileSync(join(folderOf(name), 'config.json'), 'utf8')) as { architectures: string[] }).architectures[0],
  );
  for (const family of Object.values(encoders))
    expect(
      family.architectures.some((name) => architectures.includes(name)),
      family.name,
    ).toBe(true);
});

describe.each(testedBackends)('on the $label backend', ({ create }) => {
  let available = false;
  beforeAll(async () => {
    const backend = await create();
    available = backend !== null;
    await backend?.close();
  }, BUILD_TIMEOUT_MS);

  test.for(cases)('%s has the hidden states of transformers, and the same bits alone and beside another text', async (name, context) => {
    if (!available) context.skip('this backend cannot run here');
    const { texts } = read(name);
    const backend = (await create()) as Backend;
    await using encoder = await Encoder.load({ model: folderOf(name), dtype: 'float32' }, { backend });
    const both = await encoder.encode(
      texts.map(({ ids }) => ids),
      texts.map(({ types }) => types),
    );
    for (const [i, { ids, types, hidden }] of texts.entries()) {
      for (const { position, values } of hidden) {
        const row = both[i].subarray(position * values.length, (position + 1) * values.length);
        const largest = values.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
        const worst = values.reduce((most, x, j) => Math.max(most, Math.abs(x - row[j])), 0);
        expect(worst, `text ${i}, position ${position}`).toBeLessThan(TOLERANCE * largest + 6e-6);
      }
      expect((await encoder.encode([ids], [types]))[0], `text ${i} alone`).toEqual(both[i]);
    }
  });
});

/** A golden checkpoint as sentence-transformers would store it. */
function withPooling(field: string, normalized: boolean): string {
  const folder = join(scratch, `${field}-${normalized}`);
  cpSync(folderOf('bert'), folder, { recursive: true });
  mkdirSync(join(folder, '1_Pooling'));
  writeFileSync(
    join(folder, '1_Pooling', 'config.json'),
    JSON.stringify({ word_embedding_dimension: 64, [field]: true, pooling_mode_max_tokens: field.includes('max') }),
  );
  const module = (name: string) => ({ idx: 0, name, path: name, type: `sentence_transformers.models.${name}` });
  writeFileSync(
    join(folder, 'modules.json'),
    JSON.stringify([module('Transformer'), module('Pooling'), ...(normalized ? [module('Normalize')] : [])]),
  );
  return folder;
}

describe('embeddings', () => {
  const options = { backend: 'reference', dtype: 'float32' } as const;
  const ids = [5, 9, 200, 17];

  test('are the mean of the hidden states where the checkpoint does not say otherwise', async () => {
    await using encoder = await Encoder.load({ ...options, model: folderOf('bert') });
    const [states] = await encoder.encode([ids]);
    const [embedding] = await encoder.embed([ids]);
    expect(embedding).toHaveLength(64);
    for (let i = 0; i < 64; i++) expect(embedding[i]).toBeCloseTo((states[i] + states[64 + i] + states[128 + i] + states[192 + i]) / 4, 5);
    const [cls] = await encoder.embed([ids], { pooling: 'cls' });
    expect(cls).toEqual(states.slice(0, 64));
    const [last] = await encoder.embed([ids], { pooling: 'last' });
    expect(last).toEqual(states.slice(192));
  });

  test('follow 1_Pooling/config.json and the Normalize of modules.json', async () => {
    await using encoder = await Encoder.load({ ...options, model: withPooling('pooling_mode_cls_token', true) });
    expect(encoder.info.pooling).toEqual({ pooling: 'cls', normalize: true });
    const [[embedding], [states]] = [await encoder.embed([ids]), await encoder.encode([ids])];
    const length = Math.hypot(...states.slice(0, 64));
    for (let i = 0; i < 64; i++) expect(embedding[i]).toBeCloseTo(states[i] / length, 5);
    expect(Math.hypot(...embedding)).toBeCloseTo(1, 5);
  });

  test('in a way that is not there are refused by name', async () => {
    const load = Encoder.load({ ...options, model: withPooling('pooling_mode_max_tokens', false) });
    await expect(load).rejects.toMatchObject({ code: 'MODEL_CONFIG_INVALID', received: 'pooling_mode_max_tokens' });
  });

  test('of many texts come in as many steps as they need, in the order of the texts', async () => {
    await using encoder = await Encoder.load({ ...options, model: folderOf('bert') });
    const texts = Array.from({ length: 80 }, (_, i) =>
      Array.from({ length: i < 66 ? 1 : 1 + ((i * 7) % 40) }, (_, j) => 3 + ((i * 31 + j * 17) % 290)),
    );
    const together = await encoder.embed(texts);
    for (const i of [0, 65, 79]) expect(together[i]).toEqual((await encoder.embed([texts[i]]))[0]);
  });

  test('of texts that are too long, empty, of unknown ids or without a tokenizer are refused with the text at fault', async () => {
    await using encoder = await Encoder.load({ ...options, model: folderOf('bert'), maxModelLen: 20 });
    await expect(encoder.embed([ids, Array<number>(21).fill(5)])).rejects.toMatchObject({ code: 'PROMPT_TOO_LONG', param: 'inputs[1]' });
    await expect(encoder.embed([[]])).rejects.toMatchObject({ code: 'PROMPT_TOO_LONG', param: 'inputs[0]' });
    await expect(encoder.embed([[5, 300]])).rejects.toMatchObject({ code: 'REQUEST_INVALID', received: '300' });
    await expect(encoder.embed(['a text'])).rejects.toMatchObject({ code: 'TOKENIZER_INVALID' });
    await encoder.close();
    await expect(encoder.embed([ids])).rejects.toMatchObject({ code: 'ENGINE_CLOSED' });
  });
});

test('inspect describes an encoder, with the kernel of each node and how it pools', async () => {
  const description = await describeEncoder({ model: folderOf('modernbert'), backend: 'reference' });
  expect(description?.model).toMatchObject({ architecture: 'ModernBertModel', vocabSize: 300, maxModelLen: 128, numParameters: 159_040 });
  expect(description?.describe().kernels.map(({ kernel }) => kernel)).toContain('reference/gated-activation');
  expect(description?.config.reasons).toEqual(['an encoder: it gives embeddings (mean) and generates no text']);
  expect(await describeEncoder({ model: folderOf('llama-yarn') })).toBeNull();
});

test('an encoder is refused where text is to be generated, and a model that generates where an encoder is to be loaded', async () => {
  await expect(loadEngine({ model: folderOf('bert'), backend: 'reference' })).rejects.toMatchObject({ code: 'MODEL_CANNOT_GENERATE' });
  await expect(Encoder.load({ model: folderOf('llama-yarn'), backend: 'reference' })).rejects.toMatchObject({ code: 'MODEL_ARCHITECTURE_UNKNOWN' });
});
