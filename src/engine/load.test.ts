import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { NullBackend } from '../backends/null/null-backend.ts';
import { ReferenceBackend } from '../backends/reference/reference-backend.ts';
import type { LoadOptions } from './config.ts';
import { LLM } from './llm.ts';
import { type LoadHooks, loadEngine } from './load.ts';

const config = {
  architectures: ['LlamaForCausalLM'],
  hidden_size: 64,
  intermediate_size: 96,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  vocab_size: 300,
  max_position_embeddings: 128,
  rms_norm_eps: 1e-5,
  hidden_act: 'silu',
  tie_word_embeddings: true,
  torch_dtype: 'float32',
};

const folders: string[] = [];

function folderWith(files: Record<string, unknown>): string {
  const path = mkdtempSync(join(tmpdir(), 'millrace load '));
  folders.push(path);
  for (const [name, content] of Object.entries(files)) writeFileSync(join(path, name), JSON.stringify(content));
  return path;
}

afterEach(() => {
  for (const path of folders.splice(0)) rmSync(path, { recursive: true });
});

async function codeOf(options: LoadOptions, hooks: LoadHooks = {}): Promise<string> {
  try {
    await (await loadEngine(options, { backend: new NullBackend(), ...hooks })).close();
  } catch (error) {
    return (error as { code: string }).code;
  }
  return 'loaded';
}

describe('random weights from a bare configuration', () => {
  test('generate text, say that it means nothing, and give the same again', async () => {
    const model = folderWith({ 'config.json': config });
    const texts: string[] = [];
    for (let i = 0; i < 2; i++) {
      await using llm = await LLM.load({ model, loadFormat: 'dummy' }, { backend: new ReferenceBackend() });
      const { choices } = await llm.generate('Hello', { maxTokens: 8, temperature: 0 });
      texts.push(choices[0].text);
      expect(llm.engine.model.notice).toContain('random');
      expect(llm.engine.model).toMatchObject({ architecture: 'LlamaForCausalLM', vocabSize: 300, maxModelLen: 128 });
    }
    expect(texts[0]).toBe(texts[1]);
  });

  test('progress of the weights reaches its end', async () => {
    const seen: number[][] = [];
    const onProgress = (stage: string, done: number, total: number) => {
      if (stage === 'weights') seen.push([done, total]);
    };
    await using _engine = await loadEngine(
      { model: folderWith({ 'config.json': config }), loadFormat: 'dummy' },
      { backend: new ReferenceBackend(), onProgress },
    );
    const [done, total] = seen[seen.length - 1];
    expect(done).toBe(total);
    expect(total).toBeGreaterThan(0);
  });

  test('generation_config.json gives the defaults of sampling, unless told not to', async () => {
    const model = folderWith({ 'config.json': config, 'generation_config.json': { do_sample: false, eos_token_id: [7, 9] } });
    const run = async (options: LoadOptions) => {
      await using llm = await LLM.load({ model, loadFormat: 'dummy', ...options }, { backend: new ReferenceBackend() });
      const results = await llm.generate(['Hi', 'Hi', 'Hi', 'Hi'], { maxTokens: 6, ignoreEos: true });
      return new Set(results.map((result) => result.choices[0].tokenIds.join())).size;
    };
    expect(await run({})).toBe(1);
    expect(await run({ generationConfig: 'none' })).toBeGreaterThan(1);
  });
});

describe('what cannot be loaded is refused with a code', () => {
  test.each<[string, () => LoadOptions, string]>([
    ['no model', () => ({}), 'CONFIG_INVALID'],
    ['a path that is not there', () => ({ model: '/nonexistent/model' }), 'MODEL_NOT_FOUND'],
    ['a folder without weights', () => ({ model: folderWith({ 'config.json': config }) }), 'MODEL_NOT_FOUND'],
    [
      'an unknown architecture',
      () => ({ model: folderWith({ 'config.json': { architectures: ['Nonsense'] } }), loadFormat: 'dummy' }),
      'MODEL_ARCHITECTURE_UNKNOWN',
    ],
    [
      'a config without sizes',
      () => ({ model: folderWith({ 'config.json': { architectures: ['LlamaForCausalLM'] } }), loadFormat: 'dummy' }),
      'MODEL_CONFIG_INVALID',
    ],
    [
      'a context beyond the model',
      () => ({ model: folderWith({ 'config.json': config }), loadFormat: 'dummy', maxModelLen: 1000 }),
      'CONFIG_INVALID',
    ],
  ])('%s', async (_, options, code) => {
    expect(await codeOf(options())).toBe(code);
  });

  const smallMachine = { numCpus: 1, totalMemoryBytes: 2 ** 28, availableMemoryBytes: 2 ** 27, reasons: [] };
  test.each<[string, LoadOptions, LoadHooks, RegExp]>([
    [
      'a machine that is too small',
      {},
      { machine: smallMachine },
      /at most 128\.0 MiB \(free of 256\.0 MiB\).* weights .* activations .* KV .*256\.0 MiB for the process/,
    ],
    ['a KV cache beyond this machine', { kvCacheMemoryBytes: 2 ** 50 }, {}, /at most .* GiB \(free of .* 1048576\.0 GiB KV/],
  ])('%s, with the figures and before any weight is read', async (_, options, hooks, figures) => {
    let weightsSeen = false;
    const onProgress = (stage: string) => {
      weightsSeen ||= stage === 'weights';
    };
    const backend = new ReferenceBackend();
    const loaded = loadEngine({ model: folderWith({ 'config.json': config }), loadFormat: 'dummy', ...options }, { backend, onProgress, ...hooks });
    await expect(loaded).rejects.toMatchObject({ code: 'MEMORY_INSUFFICIENT', message: expect.stringMatching(figures) });
    await expect(loaded).rejects.toThrow('nothing was loaded');
    expect(weightsSeen).toBe(false);
  });

  test('a backend is closed when loading fails after it was opened', async () => {
    const backend = new NullBackend();
    let isClosed = false;
    const { close } = backend;
    backend.close = async () => {
      isClosed = true;
      await close.call(backend);
    };
    await codeOf({ model: folderWith({ 'config.json': config }), loadFormat: 'dummy', blockSize: 48 }, { backend });
    expect(isClosed).toBe(true);
  });
});

test('several engines live side by side', async () => {
  const model = folderWith({ 'config.json': config });
  const load = () => LLM.load({ model, loadFormat: 'dummy' }, { backend: new ReferenceBackend() });
  await using first = await load();
  await using second = await load();
  const [a, b] = await Promise.all([
    first.generate('Hello', { maxTokens: 5, temperature: 0 }),
    second.generate('Hello', { maxTokens: 5, temperature: 0 }),
  ]);
  expect(a.choices[0].tokenIds).toEqual(b.choices[0].tokenIds);
  await first.close();
  expect((await second.generate('Still there?', { maxTokens: 2 })).choices[0].tokenIds).toHaveLength(2);
});

const stories = join(process.env.MILLRACE_SHARED ?? join(import.meta.dirname, '../../../shared'), 'models/stories260K');

describe.skipIf(!existsSync(stories))('stories260K (skipped where the shared model is not)', () => {
  const golden = JSON.parse(existsSync(stories) ? readFileSync(join(stories, 'golden_greedy.json'), 'utf8') : '{}') as {
    prompt_token_ids: number[];
    greedy_token_ids: number[];
  };

  test.each([
    ['', 'reference'],
    ['stories260K.F32.gguf', 'reference'],
    ['', 'auto'],
    ['stories260K.F16.gguf', 'auto'],
  ] as const)('the engine gives all golden tokens from "%s" on backend %s', async (file, backend) => {
    await using llm = await LLM.load({ model: join(stories, file), backend, kvCacheDtype: 'float32' });
    const prompt = golden.prompt_token_ids;
    const count = golden.greedy_token_ids.length - prompt.length;
    const { choices } = await llm.generate(prompt, { maxTokens: count, temperature: 0, ignoreEos: true });
    expect([...prompt, ...choices[0].tokenIds]).toEqual(golden.greedy_token_ids);
  });
});
