import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { proxyFor } from './connect.ts';
import { readHubSettings } from './settings.ts';

test('nothing set means the hub itself and the cache in the home folder', () => {
  const { endpoint, token, cacheFolder, offline } = readHubSettings({}, '/home/x');
  expect([endpoint.href, token, cacheFolder, offline]).toEqual(['https://huggingface.co/', null, '/home/x/.cache/huggingface/hub', false]);
});

test.each([
  [{ XDG_CACHE_HOME: '/c' }, '/c/huggingface/hub'],
  [{ HF_HOME: '/h', XDG_CACHE_HOME: '/c' }, '/h/hub'],
  [{ HF_HOME: '~/h' }, '/home/x/h/hub'],
  [{ HF_HUB_CACHE: '/b', HF_HOME: '/h' }, '/b'],
  [{ HUGGINGFACE_HUB_CACHE: '/old' }, '/old'],
])('%j puts the cache at %s', (env, folder) => {
  expect(readHubSettings(env, '/home/x').cacheFolder).toBe(folder);
});

test('the token comes from the variable, else from the file that hf auth login writes', () => {
  const home = mkdtempSync(join(tmpdir(), 'millrace-token-'));
  writeFileSync(join(home, 'token'), 'hf_file\n');
  expect(readHubSettings({ HF_HOME: home }).token).toBe('hf_file');
  expect(readHubSettings({ HF_HOME: home, HF_TOKEN: ' hf_env ' }).token).toBe('hf_env');
  expect(readHubSettings({ HF_HOME: home, HF_HUB_DISABLE_IMPLICIT_TOKEN: '1' }).token).toBeNull();
  expect(readHubSettings({ HF_TOKEN_PATH: join(home, 'token') }, '/nowhere').token).toBe('hf_file');
  rmSync(home, { recursive: true });
});

test.each([
  [{ HF_ENDPOINT: 'ftp://x' }, 'HF_ENDPOINT'],
  [{ HF_ENDPOINT: 'hub.example' }, 'HF_ENDPOINT'],
  [{ HF_TOKEN: 'two words' }, 'HF_TOKEN'],
  [{ HF_TOKEN: 'x\r\ninjected: y' }, 'HF_TOKEN'],
  [{ HF_HUB_ETAG_TIMEOUT: '-1' }, 'HF_HUB_ETAG_TIMEOUT'],
  [{ https_proxy: '://' }, 'https_proxy'],
])('%j is refused by name', (env, name) => {
  expect(() => readHubSettings(env, '/home/x')).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID', message: expect.stringContaining(name) }));
});

test('a proxy serves its protocol, except for hosts that are spared', () => {
  const { proxies } = readHubSettings({ HTTPS_PROXY: 'http://p:1', http_proxy: 'q:2', NO_PROXY: 'localhost, .corp.example,other:8443' });
  const proxy = (url: string) => proxyFor(new URL(url), proxies)?.host ?? null;
  expect(proxy('https://huggingface.co/x')).toBe('p:1');
  expect(proxy('http://huggingface.co/x')).toBe('q:2');
  expect(proxy('https://localhost/')).toBeNull();
  expect(proxy('https://a.corp.example/')).toBeNull();
  expect(proxy('https://corp.example/')).toBeNull();
  expect(proxy('https://notcorp.example/')).toBe('p:1');
  expect(proxy('https://other:8443/')).toBeNull();
  expect(proxy('https://other/')).toBe('p:1');
});
