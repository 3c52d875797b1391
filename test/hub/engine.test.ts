/** Engine, library and commands with a model that lies on a hub. */
import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { LLM } from '../../src/engine/llm.ts';
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
