/** All that goes wrong between a hub and the cache. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { ErrorCode } from '../../src/base/errors.ts';
import { gitId, sha256 } from '../fixtures/hub-server.ts';
import { files, HubTest, refused, weights } from '../fixtures/hub-test.ts';

const t = new HubTest();

test('a cut connection is taken up where it was cut, again and again', async () => {
  t.hub.publish('org/cut', files);
  t.hub.faults.cuts = 5; // config.json, tokenizer.json are shorter than a cut
  t.hub.faults.cutAfter = 100_000;
  const { path } = await t.fetch('org/cut');
  expect(readFileSync(join(path, 'model.safetensors')).equals(weights)).toBe(true);
  expect(t.bodies()).toEqual(['whole', 'bytes=100000-', 'bytes=200000-']);
  expect(t.hub.bytesServed).toBeLessThan(weights.length + 1000);
});

test('a server without ranges sends the whole again; one that always cuts is given up', async () => {
  t.hub.publish('org/whole', files);
  t.hub.faults.noRanges = true;
  t.hub.faults.cuts = 3;
  t.hub.faults.cutAfter = 100_000;
  const { path } = await t.fetch('org/whole');
  expect(readFileSync(join(path, 'model.safetensors')).equals(weights)).toBe(true);
  t.hub.publish('org/always', files);
  t.hub.faults.cuts = 1000;
  t.waits.length = 0;
  await refused(t.fetch('org/always'), 'HUB_UNREACHABLE', 'cut at');
  expect(t.waits).toEqual([500, 1000, 2000, 4000, 8000].slice(0, t.waits.length));
  expect(t.waits.length).toBeLessThanOrEqual(5);
  expect(t.blobs('org/always')).not.toContain(sha256(weights));
});

test('a wrong hash is fetched anew once, and then refused, of large and of small files', async () => {
  t.hub.publish('org/wrong', { ...files, 'config.json': '{"x":1}' });
  await t.fetch('org/wrong', {}, { weights: false });
  t.hub.faults.corrupt = 1;
  const { path } = await t.fetch('org/wrong');
  expect(readFileSync(join(path, 'model.safetensors')).equals(weights)).toBe(true);
  expect(t.notices.join()).toContain('wrong hash');

  for (const [repo, weightsToo] of [
    ['org/wrong-small', false],
    ['org/wrong-large', true],
  ] as const) {
    t.hub.publish(repo, files);
    if (weightsToo) await t.fetch(repo, {}, { weights: false });
    t.hub.faults.corrupt = 1000;
    await refused(t.fetch(repo), 'HUB_FILE_CORRUPT', weightsToo ? 'model.safetensors' : '.json');
    t.hub.faults.corrupt = 0;
    if (weightsToo) expect(t.blobs(repo).some((name) => name.startsWith(sha256(weights)))).toBe(false);
    else expect(existsSync(join(t.home, 'hub', `models--${repo.replace('/', '--')}`, 'refs'))).toBe(false);
  }
});

test('the token goes to the hub and to no other origin, not even through redirects', async () => {
  t.hub.publish('org/private', files);
  t.hub.faults.token = 'hf_secret';
  await t.fetch('org/private', { HF_TOKEN: 'hf_secret' });
  const seen = (origin: string) => new Set(t.hub.requests.filter((request) => request.origin === origin).map(({ authorization }) => authorization));
  expect(seen('hub')).toEqual(new Set(['Bearer hf_secret']));
  expect(seen('cdn')).toEqual(new Set([undefined]));
});

test('redirects that lead in circles, or to no web address, are refused', async () => {
  t.hub.publish('org/redirects', files);
  for (const [to, text] of [
    [`${t.hub.url}/org/redirects/resolve/main/config.json`, 'redirects more than'],
    ['file:///etc/passwd', 'file:'],
    ['http://[', 'no address'],
  ]) {
    t.hub.faults.redirect = to;
    await refused(t.fetch('org/redirects'), 'HUB_RESPONSE_INVALID', text);
  }
});

test('who has no access is told how to get it', async () => {
  t.hub.publish('org/gated', files);
  t.hub.faults.token = 'hf_right';
  await refused(t.fetch('org/gated'), 'HUB_ACCESS_DENIED', 'does not exist, or it is private or gated', 'HF_TOKEN');
  t.hub.faults.gated = true;
  await refused(t.fetch('org/gated'), 'HUB_ACCESS_DENIED', 'ask for access on', '/org/gated', 'HF_TOKEN');
  await refused(t.fetch('org/gated', { HF_TOKEN: 'hf_wrong' }), 'HUB_ACCESS_DENIED', 'ask for access on', 'token of the account');
  expect(t.hub.requests).toHaveLength(3);
});

test('what is not there is named: repository, revision', async () => {
  t.hub.publish('org/there', files);
  await refused(t.fetch('org/absent'), 'HUB_NOT_FOUND', 'no model org/absent', './path');
  await refused(t.fetch('org/there@v9'), 'HUB_NOT_FOUND', 'no revision v9');
});

test('429 and 5xx are tried again after the wait that is asked for; a long wait is left to the user', async () => {
  t.hub.publish('org/busy', files);
  t.hub.faults.statuses = [
    { status: 429, headers: { 'retry-after': '7' } },
    { status: 429, headers: { ratelimit: '"api";r=0;t=3' } },
    { status: 503 },
    { status: 500 },
  ];
  await t.fetch('org/busy');
  expect(t.waits).toEqual([7000, 3000, 2000, 4000]);
  t.hub.faults.statuses = Array.from({ length: 5 }, () => ({ status: 502 }));
  await refused(t.fetch('org/new'), 'HUB_UNREACHABLE', '502');
  t.hub.faults.statuses = [{ status: 429, headers: { 'retry-after': '3600' } }];
  await refused(t.fetch('org/new'), 'HUB_RATE_LIMITED', 'wait 3600 s');
});

test('a server that says nothing is not waited for longer than the limit', async () => {
  const silent = createServer(() => undefined);
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
  const endpoint = `http://127.0.0.1:${(silent.address() as AddressInfo).port}`;
  await refused(t.fetch('org/silent', { HF_ENDPOINT: endpoint, HF_HUB_ETAG_TIMEOUT: '0.05' }), 'HUB_UNREACHABLE', 'nothing came');
  silent.closeAllConnections();
  silent.close();
});

test('hostile listings choose nothing outside the cache and end in an error with a code', async () => {
  t.hub.publish('org/hostile', files);
  const sha = 'a'.repeat(40);
  const config = { rfilename: 'config.json', size: 2, blobId: gitId(Buffer.from('{}')) };
  const lfs = { sha256: 'b'.repeat(64), size: 10 };
  const hostile: [unknown, ErrorCode][] = [
    [[], 'HUB_RESPONSE_INVALID'],
    [{ sha: '../../x', siblings: [] }, 'HUB_RESPONSE_INVALID'],
    [{ sha, siblings: 7 }, 'HUB_RESPONSE_INVALID'],
    [{ sha, siblings: [config, config] }, 'HUB_RESPONSE_INVALID'],
    [{ sha, siblings: [config, { rfilename: '../../model.safetensors', size: 10, lfs }] }, 'HUB_NOT_FOUND'],
    [{ sha, siblings: [config, { rfilename: '/tmp/model.safetensors', size: 10, lfs }] }, 'HUB_NOT_FOUND'],
    [{ sha, siblings: [config, { rfilename: 'model.safetensors', size: 10, lfs: { sha256: '../x', size: 10 } }] }, 'HUB_NOT_FOUND'],
    [{ sha, siblings: [config, { rfilename: 'model.safetensors', size: -1, lfs: { sha256: 'b'.repeat(64) } }] }, 'HUB_NOT_FOUND'],
    [
      {
        sha,
        siblings: [
          { ...config, size: 2 ** 40 },
          { rfilename: 'model.safetensors', size: 10, lfs },
        ],
      },
      'HUB_RESPONSE_INVALID',
    ],
    [{ sha, siblings: [{ rfilename: 'm.gguf', size: 2 ** 52, lfs: { ...lfs, size: 2 ** 52 } }] }, 'DISK_FULL'],
    [
      {
        sha,
        siblings: [...Array(300).keys()]
          .map((i) => ({ ...config, rfilename: `${i}.json` }))
          .concat([config, { ...config, rfilename: 'model.safetensors' }]),
      },
      'HUB_RESPONSE_INVALID',
    ],
  ];
  for (const [listing, code] of hostile) {
    t.hub.faults.listing = listing;
    await refused(t.fetch('org/hostile'), code);
  }
  expect(readdirSync(t.home)).toEqual(existsSync(join(t.home, 'hub')) ? ['hub'] : []);
});

test('a file longer than the listing says is refused before it fills the disk', async () => {
  const commit = t.hub.publish('org/long', files);
  t.hub.faults.listing = {
    sha: commit,
    siblings: [
      { rfilename: 'config.json', size: 2, blobId: 'c'.repeat(40) },
      { rfilename: 'model.safetensors', size: 2, blobId: 'd'.repeat(40) },
    ],
  };
  await refused(t.fetch('org/long'), 'HUB_RESPONSE_INVALID', 'longer than the 2 bytes');
});

test('a full disk is a clear error, half a file is never taken for a whole one, and the next start goes on', async () => {
  t.hub.publish('org/full', files);
  await t.fetch('org/full', {}, { weights: false });
  let room = 100_000;
  const openFile: typeof open = async (...args) => {
    const handle = await open(...args);
    const write = handle.write.bind(handle) as (...args: unknown[]) => Promise<unknown>;
    handle.write = (async (buffer: Buffer, offset: number, length: number, position: number) => {
      if (length > room) throw Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC', syscall: 'write' });
      room -= length;
      return write(buffer, offset, length, position);
    }) as typeof handle.write;
    return handle;
  };
  await refused(t.fetch('org/full', {}, { openFile }), 'DISK_FULL', 'HF_HUB_CACHE');
  expect(t.blobs('org/full')).not.toContain(sha256(weights));
  await refused(t.fetch('org/full', { HF_HUB_OFFLINE: '1' }), 'HUB_OFFLINE');
  t.hub.reset();
  const { path } = await t.fetch('org/full');
  expect(readFileSync(join(path, 'model.safetensors')).equals(weights)).toBe(true);
  expect(t.bodies()[0]).toMatch(/^bytes=\d{4,}-$/);
});

test('a cache that cannot be written is named', async () => {
  t.hub.publish('org/unwritable', files);
  writeFileSync(join(t.home, 'file'), '');
  await refused(t.fetch('org/unwritable', { HF_HUB_CACHE: join(t.home, 'file') }), 'HUB_CACHE_UNUSABLE', 'HF_HUB_CACHE');
});

test('requests go through the proxy that the environment names', async () => {
  t.hub.publish('org/proxied', files);
  const asked: string[] = [];
  const proxy: Server = createServer((request, response) => {
    asked.push(request.url ?? '');
    const target = new URL(request.url ?? '');
    const socket = connect(Number(target.port), target.hostname, () => {
      socket.write(`${request.method} ${target.pathname}${target.search} HTTP/1.1\r\nhost: ${target.host}\r\nconnection: close\r\n\r\n`);
      response.socket?.pipe(socket);
      socket.pipe(response.socket as NodeJS.WritableStream);
    });
  });
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  const address = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`;
  await t.fetch('org/proxied', { http_proxy: address }, { weights: false });
  expect(asked.some((url) => url.startsWith(`${t.hub.url}/api/models/`))).toBe(true);
  await refused(t.fetch('org/other', { https_proxy: address, HF_ENDPOINT: 'https://hub.example' }), 'HUB_UNREACHABLE', 'the proxy 127.0.0.1');
  proxy.closeAllConnections();
  proxy.close();
});
