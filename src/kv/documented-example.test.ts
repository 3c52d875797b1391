/** The worked example of docs/kv-cache.md, run: what the page shows is what the cache does. */
import fs from 'node:fs';
import { expect, test } from 'vitest';
import { type EvictionPolicyName, evictionPolicies } from './eviction/index.ts';
import { KvCache } from './kv-cache.ts';

const page = fs.readFileSync(new URL('../../docs/kv-cache.md', import.meta.url), 'utf8');

interface Example {
  blockSize: number;
  numBlocks: number;
  policy: EvictionPolicyName;
  requests: { text: string; salt?: string }[];
}

/** The fenced block of a language that follows a marker. */
function block(marker: string, language: string): string {
  const from = page.indexOf(`<!-- ${marker} -->`);
  expect(from, marker).toBeGreaterThanOrEqual(0);
  const start = page.indexOf(`\`\`\`${language}\n`, from) + language.length + 4;
  return page.slice(start, page.indexOf('\n```', start));
}

function run({ requests, policy, blockSize, numBlocks }: Example): string[] {
  const groups = [{ name: 'full', kind: 'full' as const, numBlocks, numLayers: 1, numKvHeads: 1, headDim: 8 }];
  const kv = new KvCache({ groups, blockSize, enablePrefixCaching: true, eviction: evictionPolicies[policy]({ ttlMs: 1000 }) });
  return requests.map(({ text, salt }) => {
    const ids = Int32Array.from(text, (letter) => letter.codePointAt(0) ?? 0);
    const sequence = kv.open();
    const before = kv.numEvicted;
    const found = kv.matchPrefix(sequence, ids, ids.length - 1, salt);
    expect(kv.allocate(sequence, found, ids.length)).toBe(true);
    kv.drainCopies({ copies: new Int32Array(4) });
    kv.free(sequence, ids, ids.length);
    kv.check([]);
    const name = `${text.padEnd(20)} ${salt === undefined ? '' : `(${salt})`}`.padEnd(32);
    return `${name}found ${String(found).padStart(2)}  cached ${kv.numCached}  evicted ${kv.numEvicted - before}`;
  });
}

test('the documented example is what the cache does', () => {
  const example = JSON.parse(block('example', 'json')) as Example;
  expect(run(example).join('\n')).toBe(block('steps', 'text'));
});
