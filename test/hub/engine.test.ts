/** Engine, library and commands with a model that lies on a hub. */
import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { inspect } from '../../src/cli/commands/inspect.ts';
import { describeRemote } from '../../src/engine/inspect.ts';
import { LLM } from '../../src/engine/llm.ts';
import { loadEngine } from '../../src/engine/load.ts';
import { BUILD_TIMEOUT_MS } from '../backends.ts';
import { f32Bytes, type GgufEntry, ggufBytes } from '../fixtures/checkpoint-files.ts';
import { HubServer } from '../fixtures/hub-server.ts';

const repository = resolve(import.meta.dirname, '../..');
const pocket = join(repository, 'pocket/model');
let hub: HubServer;
let home: string;

beforeAll(async () => {
  hub = await HubServer.start();
  const files = readdirSync(pocket).map((name) => [name, { bytes: readFileSync(join(pocket, name)), large: name.endsWith('.safetensors') }] as const);
  hub.publish('org/pocket', { ...Object.fromEntries(files), 'README.md': 'x' });
});
afterAll(() => hub.close());
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'millrace-hub-engine-'));
  hub.reset();
  vi.stubEnv('HF_ENDPOINT', hub.url);
  vi.stubEnv('HF_HOME', home);
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(home, { recursive: true, force: true });
});

test('the library loads a hub name as it loads a folder, under that name, and again without the network', async () => {
  const generate = async (model: string) => {
    const stages = new Set<string>();
    await using llm = await LLM.load({ model, backend: 'reference' }, { onProgress: (stage) => stages.add(stage) });
    const { choices } = await llm.generate('Once upon a time', { maxTokens: 8, temperature: 0 });
    return { name: llm.engine.model.servedNames, ids: choices[0].tokenIds, stages };
  };
  const remote = await generate('org/pocket');
  const local = await generate(pocket);
  expect(remote.ids).toEqual(local.ids);
  expect([remote.name, local.name]).toEqual([['org/pocket'], ['model']]);
  expect([remote.stages.has('download'), local.stages.has('download')]).toEqual([true, false]);
  vi.stubEnv('HF_HUB_OFFLINE', '1');
  hub.reset();
  expect((await generate('org/pocket')).ids).toEqual(local.ids);
  expect(hub.requests).toEqual([]);
});

/** A command as its own process. */
function millrace(args: readonly string[]): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const child = spawn(process.execPath, ['--import', 'tsx', 'src/cli/main.ts', ...args], { cwd: repository, stdio: ['ignore', 'pipe', 'pipe'] });
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (bytes) => {
    stdout += bytes;
  });
  child.stderr.on('data', (bytes) => {
    stderr += bytes;
  });
  return new Promise((resolve) => child.once('close', (code) => resolve({ code, stdout, stderr })));
}

test('run takes a hub name, shows the download, and names the code of what fails', async () => {
  const answer = await millrace(['run', '--model', 'org/pocket', '--backend', 'reference', '--max-tokens', '4', 'Hello']);
  expect([answer.code, answer.stdout.trim() !== '']).toEqual([0, true]);
  expect(answer.stderr).toContain('download');
  const absent = await millrace(['run', '--model', 'org/absent', 'Hello']);
  expect([absent.code, absent.stdout]).toEqual([1, '']);
  expect(absent.stderr).toContain('HUB_NOT_FOUND');
});

test.each(['reference', 'cpu'] as const)(
  'inspect of a hub name reads headers only and reports what a loaded model does, %s',
  { timeout: BUILD_TIMEOUT_MS },
  async (backend) => {
    const options = { backend, maxModelLen: 128, kvCacheMemoryBytes: 1 << 20 } as const;
    let local: Awaited<ReturnType<typeof loadEngine>>;
    try {
      local = await loadEngine({ ...options, model: pocket });
    } catch (thrown) {
      if ((thrown as { code?: string }).code === 'NATIVE_ADDON_UNAVAILABLE') return;
      throw thrown;
    }
    const loaded = inspect(local, null);
    await local.close();
    const remote = await describeRemote({ ...options, model: 'org/pocket' });
    const described = inspect(remote!, null);
    expect(described.nodes).toEqual(loaded.nodes);
    expect(described.cacheGroups).toEqual(loaded.cacheGroups);
    expect({ ...described.backend, memoryBytes: 0 }).toEqual({ ...loaded.backend, memoryBytes: 0 });
    expect(described.memory.arenaBytes).toBe(loaded.memory.arenaBytes);
    // the reference keeps K and V in f32 whatever they are rounded to
    expect(loaded.memory.cacheBytes / described.memory.cacheBytes).toBeCloseTo(backend === 'cpu' ? 1 : 2, 1);
    const { path, servedNames, ...model } = described.model;
    expect(loaded.model).toMatchObject(model);
    expect([path, servedNames]).toEqual([expect.stringContaining('/org/pocket/resolve/'), ['org/pocket']]);
    const header = hub.requests.filter(({ origin }) => origin === 'cdn').map(({ range }) => range);
    expect(header).toEqual(['bytes=0-65535']);
    expect(hub.bytesServed).toBeLessThan(200_000);
    expect(await describeRemote({ ...options, model: pocket })).toBeNull();
  },
);

test('of GGUF files and shards the headers are read, however long; what does not fit this machine is described all the same', async () => {
  const vocabulary = Array.from({ length: 120_000 }, (_, i) => `token ${i}`);
  const metadata: Record<string, GgufEntry> = {
    'general.architecture': ['string', 'llama'],
    'llama.block_count': ['u32', 2],
    'llama.embedding_length': ['u32', 4096],
    'llama.feed_forward_length': ['u32', 64],
    'llama.attention.head_count': ['u32', 32],
    'llama.context_length': ['u32', 4096],
    'llama.attention.layer_norm_rms_epsilon': ['f32', 1e-5],
    'tokenizer.ggml.model': ['string', 'llama'],
    'tokenizer.ggml.tokens': ['array', vocabulary, 'string'],
    'tokenizer.ggml.scores': ['array', vocabulary.map((_, i) => -i), 'f32'],
    'tokenizer.ggml.token_type': ['array', vocabulary.map((_, i) => (i === 0 ? 2 : i < 3 ? 3 : 1)), 'i32'],
    'tokenizer.ggml.eos_token_id': ['u32', 2],
  };
  const layer = (n: number) =>
    Object.entries({
      attn_norm: [4096],
      ffn_norm: [4096],
      attn_q: [4096, 4096],
      attn_k: [4096, 4096],
      attn_v: [4096, 4096],
      attn_output: [4096, 4096],
      ffn_gate: [64, 4096],
      ffn_up: [64, 4096],
      ffn_down: [4096, 64],
    }).map(([name, shape]) => ({ name: `blk.${n}.${name}.weight`, shape }));
  const tensors = [{ name: 'token_embd.weight', shape: [120_000, 4096] }, { name: 'output_norm.weight', shape: [4096] }, ...layer(0), ...layer(1)];
  let offset = 0;
  const placed = tensors.map(({ name, shape }) => {
    const entry = { name, shape, bytes: new Uint8Array(0), type: 0, offset };
    offset += shape.reduce((a, b) => a * b, 4);
    return entry;
  });
  const head = ggufBytes({ metadata, tensors: placed });
  hub.publish('org/huge', { 'huge-F32.gguf': { bytes: head, large: true, sizeBytes: head.length + offset } });
  const machine = { numCpus: 1, totalMemoryBytes: 1 << 30, availableMemoryBytes: 1 << 30, reasons: [] };
  const described = inspect((await describeRemote({ model: 'org/huge', backend: 'reference' }, { machine }))!, null);
  expect(described.memory.weightBytes).toBe(offset);
  expect(described.config.reasons.join('; ')).toContain('it does not fit this machine: ');
  expect(hub.bytesServed).toBeLessThan(3 * head.length + (1 << 20));
  expect(described.model).toMatchObject({ servedNames: ['org/huge'], vocabSize: 120_000 });
});

test('of a split GGUF model the headers of all parts are read, and its parts are loaded as one', async () => {
  const vocabulary = ['<unk>', '<s>', '</s>', 'a', 'b', 'ab', '▁', '▁a'];
  const metadata: Record<string, GgufEntry> = {
    'general.architecture': ['string', 'llama'],
    'llama.block_count': ['u32', 1],
    'llama.embedding_length': ['u32', 32],
    'llama.feed_forward_length': ['u32', 32],
    'llama.attention.head_count': ['u32', 2],
    'llama.context_length': ['u32', 64],
    'llama.attention.layer_norm_rms_epsilon': ['f32', 1e-5],
    'tokenizer.ggml.model': ['string', 'llama'],
    'tokenizer.ggml.tokens': ['array', vocabulary, 'string'],
    'tokenizer.ggml.scores': ['array', vocabulary.map((_, i) => -i), 'f32'],
    'tokenizer.ggml.token_type': ['array', vocabulary.map((_, i) => (i === 0 ? 2 : i < 3 ? 3 : 1)), 'i32'],
  };
  const tensor = (name: string, ...shape: number[]) => {
    const values = Array.from({ length: shape.reduce((a, b) => a * b) }, (_, i) => Math.sin(i + name.length));
    return { name: `${name}.weight`, shape, bytes: f32Bytes(values), type: 0 };
  };
  const square = ['attn_q', 'attn_k', 'attn_v', 'attn_output', 'ffn_gate', 'ffn_up', 'ffn_down'].map((word) => tensor(`blk.0.${word}`, 32, 32));
  const norms = ['blk.0.attn_norm', 'blk.0.ffn_norm', 'output_norm'].map((name) => tensor(name, 32));
  const tensors = [tensor('token_embd', vocabulary.length, 32), ...norms, ...square];
  const split = (part: number): Record<string, GgufEntry> => ({
    'split.no': ['u16', part],
    'split.count': ['u16', 2],
    'split.tensors.count': ['i32', tensors.length],
  });
  const large = (bytes: Uint8Array) => ({ bytes: Buffer.from(bytes), large: true });
  hub.publish('org/split', {
    'F32/m-F32-00001-of-00002.gguf': large(ggufBytes({ metadata: { ...metadata, ...split(0) }, tensors: tensors.slice(0, 5) })),
    'F32/m-F32-00002-of-00002.gguf': large(ggufBytes({ metadata: split(1), tensors: tensors.slice(5) })),
  });
  const options = { model: 'org/split:F32', backend: 'reference' } as const;
  const described = inspect((await describeRemote(options))!, null);
  expect(described.memory.weightBytes).toBe(tensors.reduce((sum, { bytes }) => sum + bytes.length, 0));
  await using llm = await LLM.load(options);
  expect((await llm.generate('ab', { maxTokens: 4, temperature: 0 })).choices[0].tokenIds.length).toBeGreaterThan(0);
});

test('of a quantised checkpoint the small tensors that decide how it is held are read too', async () => {
  const golden = join(repository, 'test/golden/quantized/gptq-4bit-g32-asym-act-order');
  const tokenizer = join(repository, 'test/fixtures/tokenizers/byte-level');
  const files = Object.fromEntries(
    [join(golden, 'config.json'), join(golden, 'model.safetensors'), join(tokenizer, 'tokenizer.json')].map((path) => [
      basename(path),
      { bytes: readFileSync(path), large: path.endsWith('.safetensors') },
    ]),
  );
  hub.publish('org/gptq', files);
  const local = mkdtempSync(join(home, 'local-'));
  for (const [name, { bytes }] of Object.entries(files)) writeFileSync(join(local, name), bytes);
  const engine = await loadEngine({ model: local, backend: 'reference' });
  const loaded = inspect(engine, null);
  await engine.close();
  const described = inspect((await describeRemote({ model: 'org/gptq', backend: 'reference' }))!, null);
  expect(described.nodes).toEqual(loaded.nodes);
  expect(described.nodes.some(({ weights }) => weights.some(({ format }) => format === 'int4_g32'))).toBe(true);
});

test('a server without parts of files cannot be looked at, and says so', async () => {
  hub.faults.noRanges = true;
  await expect(describeRemote({ model: 'org/pocket', backend: 'reference' })).rejects.toMatchObject({ code: 'HUB_RESPONSE_INVALID' });
});

test('inspect prints the report of a hub name', async () => {
  const { code, stdout, stderr } = await millrace(['inspect', 'org/pocket', '--backend', 'reference']);
  expect(code, stderr).toBe(0);
  expect(stdout).toMatch(/^model {4}org\/pocket \(LlamaForCausalLM\), http/);
  expect(hub.bytesServed).toBeLessThan(200_000);
});
