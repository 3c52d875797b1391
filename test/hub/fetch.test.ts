/** Models from a hub into the cache that Hugging Face's tools share: what is fetched, what is not, and once. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { gitId, sha256 } from '../fixtures/hub-server.ts';
import { files, HubTest, refused, weights } from '../fixtures/hub-test.ts';

const t = new HubTest();

test('a repository is brought into the cache in the layout of Hugging Face, only what is needed, and read from there', async () => {
  const commit = t.hub.publish('org/plain', files);
  const progress: number[][] = [];
  const { path, servedName } = await t.fetch('org/plain', {}, { onProgress: (_, done, total) => progress.push([done, total]) });
  const repo = join(t.home, 'hub', 'models--org--plain');
  expect([path, servedName]).toEqual([join(repo, 'snapshots', commit), 'org/plain']);
  expect(readdirSync(path).sort()).toEqual(['config.json', 'model.safetensors', 'tokenizer.json']);
  expect(readFileSync(join(path, 'model.safetensors')).equals(weights)).toBe(true);
  expect(readFileSync(join(repo, 'refs', 'main'), 'utf8')).toBe(commit);
  expect(readlinkSync(join(path, 'model.safetensors'))).toBe(`../../blobs/${sha256(weights)}`);
  expect(readlinkSync(join(path, 'config.json'))).toBe(`../../blobs/${gitId(Buffer.from(files['config.json']))}`);
  expect(progress.at(-1)).toEqual([weights.length, weights.length]);
  expect(readdirSync(join(t.home, 'hub', '.locks', 'models--org--plain'))).toEqual([]);

  t.hub.reset();
  expect((await t.fetch('org/plain')).path).toBe(path);
  expect(t.hub.requests.map(({ url }) => url)).toEqual(['/api/models/org/plain/revision/main?blobs=true']);
});

test('a new commit is fetched when the revision moves, sharing what has not changed', async () => {
  const first = t.hub.publish('org/moves', files);
  await t.fetch('org/moves');
  const second = t.hub.publish('org/moves', { ...files, 'config.json': '{"changed":1}' });
  t.hub.reset();
  const { path } = await t.fetch('org/moves');
  expect(path.endsWith(second)).toBe(true);
  expect(t.hub.fileRequests).toEqual(['config.json']);
  expect((await t.fetch(`org/moves@${first}`)).path.endsWith(first)).toBe(true);
});

test('a revision is a branch, a tag with a slash or a commit; a commit that is there asks nothing', async () => {
  const commit = t.hub.publish('org/revisions', files, 'refs/pr/1');
  const { path } = await t.fetch('org/revisions@refs/pr/1');
  expect(path.endsWith(commit)).toBe(true);
  expect(readFileSync(join(t.home, 'hub/models--org--revisions/refs/refs/pr/1'), 'utf8')).toBe(commit);
  t.hub.reset();
  expect((await t.fetch(`org/revisions@${commit}`)).path).toBe(path);
  expect(t.hub.requests).toEqual([]);
});

test('shards are those of the index; of GGUF files the one that is named comes, with all its parts', async () => {
  const shard = (n: number) => ({ bytes: Buffer.alloc(1000 + n, n), large: true });
  const index = JSON.stringify({ weight_map: { a: 's-1.safetensors', b: 's-2.safetensors' } });
  const sharded = {
    'config.json': '{}',
    'model.safetensors.index.json': index,
    's-1.safetensors': shard(1),
    's-2.safetensors': shard(2),
    's-3.safetensors': shard(3),
  };
  t.hub.publish('org/sharded', sharded);
  const { path } = await t.fetch('org/sharded');
  expect(readdirSync(path).sort()).toEqual(['config.json', 'model.safetensors.index.json', 's-1.safetensors', 's-2.safetensors']);

  t.hub.publish('org/gguf', {
    'm-Q4_K_M.gguf': shard(4),
    'm-Q8_0.gguf': shard(5),
    'm-F16-00001-of-00002.gguf': shard(6),
    'm-F16-00002-of-00002.gguf': shard(7),
  });
  expect((await t.fetch('org/gguf')).path).toMatch(/m-Q4_K_M\.gguf$/);
  expect(t.notices.join()).toContain('m-Q4_K_M.gguf');
  const q8 = await t.fetch('org/gguf:m-Q8_0.gguf');
  expect([q8.servedName, readFileSync(q8.path).length]).toEqual(['org/gguf:m-Q8_0.gguf', 1005]);
  const f16 = await t.fetch('org/gguf:f16');
  expect(f16.path).toMatch(/m-F16-00001-of-00002\.gguf$/);
  expect(existsSync(f16.path.replace('00001-of', '00002-of'))).toBe(true);
  await refused(t.fetch('org/gguf:Q2_K'), 'HUB_NOT_FOUND', 'm-Q8_0.gguf');
});

test('a path, or a name that exists here, never touches the network', async () => {
  const folder = join(t.home, 'org');
  mkdirSync(join(folder, 'here'), { recursive: true });
  for (const name of [folder, './org/x', join(folder, 'x'), '../a/b', 'x/y.gguf', 'gpt2'])
    expect(await t.fetch(name)).toEqual({ path: name, servedName: null });
  const before = process.cwd();
  process.chdir(t.home);
  try {
    expect(await t.fetch('org/here')).toEqual({ path: 'org/here', servedName: null });
    await refused(t.fetch('org/absent'), 'MODEL_NOT_FOUND', 'hf.co/org/absent');
  } finally {
    process.chdir(before);
  }
  expect(t.hub.requests).toEqual([]);
});

test('what a killed process left is taken up by the next, in another run', async () => {
  const commit = t.hub.publish('org/killed', files);
  const folder = join(t.home, 'hub/models--org--killed/blobs');
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, `${sha256(weights)}.incomplete`), weights.subarray(0, 123_456));
  const lock = join(t.home, 'hub/.locks/models--org--killed');
  mkdirSync(lock, { recursive: true });
  const dead = spawn(process.execPath, ['-e', '']);
  await new Promise((resolve) => dead.once('exit', resolve));
  const { hostname } = await import('node:os');
  writeFileSync(join(lock, `${sha256(weights)}.millrace.lock`), JSON.stringify({ pid: dead.pid, host: hostname() }));
  const { path } = await t.fetch('org/killed');
  expect(path.endsWith(commit)).toBe(true);
  expect(readFileSync(join(path, 'model.safetensors')).equals(weights)).toBe(true);
  expect(t.bodies()).toEqual(['bytes=123456-']);
});

test('a cached copy serves when the hub cannot be asked, at once and saying so; offline nothing is asked', async () => {
  t.hub.publish('org/kept', files);
  const { path } = await t.fetch('org/kept');
  for (const status of [503, 429, 404, 403]) {
    t.notices.length = 0;
    t.hub.faults.statuses = [{ status }];
    expect((await t.fetch('org/kept')).path).toBe(path);
    expect(t.notices.join()).toContain('the copy of org/kept in the cache');
  }
  expect(t.waits).toEqual([]);
  expect((await t.fetch('org/kept', { HF_ENDPOINT: 'http://127.0.0.1:9' })).path).toBe(path);
  t.hub.reset();
  expect((await t.fetch('org/kept', { HF_HUB_OFFLINE: '1' })).path).toBe(path);
  await refused(t.fetch('org/kept@v2', { HF_HUB_OFFLINE: '1' }), 'HUB_OFFLINE', 'HF_HUB_OFFLINE');
  rmSync(join(path, 'model.safetensors'));
  await refused(t.fetch('org/kept', { HF_HUB_OFFLINE: '1' }), 'HUB_OFFLINE');
  expect(t.hub.requests).toEqual([]);
  await refused(t.fetch('org/never', { HF_ENDPOINT: 'http://127.0.0.1:9' }), 'HUB_UNREACHABLE', 'ECONNREFUSED');
});

test('an aborted download leaves what it has, and no lock', async () => {
  t.hub.publish('org/aborted', files);
  await t.fetch('org/aborted', {}, { weights: false });
  t.hub.faults.slowMs = 5;
  const abort = new AbortController();
  const onProgress = (_: string, done: number) => {
    if (done > 50_000) abort.abort();
  };
  await expect(t.fetch('org/aborted', {}, { signal: abort.signal, onProgress })).rejects.toMatchObject({ name: 'AbortError' });
  const partial = join(t.home, 'hub/models--org--aborted/blobs', `${sha256(weights)}.incomplete`);
  expect(lstatSync(partial).size).toBeGreaterThan(50_000);
  expect(readdirSync(join(t.home, 'hub/.locks/models--org--aborted'))).toEqual([]);
});

const children = new Set<ChildProcess>();
afterEach(() => {
  for (const child of children) child.kill('SIGKILL');
  children.clear();
});

function fetchInChild(name: string): Promise<{ path?: string; code?: string }> {
  const script = resolve(import.meta.dirname, '../fixtures/fetch-in-child.ts');
  const child = spawn(process.execPath, ['--import', 'tsx', script, name], {
    env: { ...process.env, ...t.environment() },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  children.add(child);
  let out = '';
  child.stdout?.on('data', (bytes) => {
    out += bytes;
  });
  return new Promise((resolve) => child.once('close', () => resolve(JSON.parse(out || '{}'))));
}

test('processes that want the same model at once download it once', async () => {
  t.hub.publish('org/crowd', files);
  t.hub.faults.slowMs = 40;
  const found = await Promise.all([1, 2, 3].map(() => fetchInChild('org/crowd')));
  for (const { path } of found) expect(readFileSync(join(path ?? '', 'model.safetensors')).equals(weights)).toBe(true);
  expect(t.bodies()).toEqual(['whole']);
});

const python = process.env.MILLRACE_PYTHON ?? 'python3';
const hasPythonHub = spawnSync(python, ['-c', 'import huggingface_hub']).status === 0;

/** Runs a line of Python beside our server. */
function runPython(code: string, env: Record<string, string> = {}): Promise<string> {
  const child = spawn(python, ['-c', code], {
    env: { ...process.env, ...t.environment({ HF_HUB_DISABLE_XET: '1', ...env }) },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  children.add(child);
  let out = '';
  child.stdout?.on('data', (bytes) => {
    out += bytes;
  });
  return new Promise((resolve) => child.once('close', () => resolve(out.trim())));
}

test.skipIf(!hasPythonHub)('what huggingface_hub has downloaded is found here, and what we have is found there', async () => {
  const names = ['config.json', 'tokenizer.json', 'model.safetensors'];
  const download = (repo: string) =>
    `from huggingface_hub import hf_hub_download\nfor f in ${JSON.stringify(names)}: print(hf_hub_download('${repo}', f))`;
  t.hub.publish('org/theirs', files);
  await runPython(download('org/theirs'));
  t.hub.reset();
  const { path } = await t.fetch('org/theirs');
  expect([t.hub.bytesServed, readdirSync(path).sort()]).toEqual([0, [...names].sort()]);

  t.hub.publish('org/ours', files);
  const ours = await t.fetch('org/ours');
  t.hub.reset();
  expect(await runPython(download('org/ours'))).toBe(names.map((name) => join(ours.path, name)).join('\n'));
  expect(t.hub.bytesServed).toBe(0);
  expect(await runPython("from huggingface_hub import snapshot_download\nprint(snapshot_download('org/ours'))", { HF_HUB_OFFLINE: '1' })).toBe(
    ours.path,
  );
});
