import { expect, test } from 'vitest';
import { isSafeRepoPath, parseHubId, servedNameOf } from './model-id.ts';

test.each([
  ['Qwen/Qwen3-0.6B', 'Qwen/Qwen3-0.6B', 'main', null],
  ['Qwen/Qwen3-0.6B@refs/pr/1', 'Qwen/Qwen3-0.6B', 'refs/pr/1', null],
  ['a/b-GGUF:b-Q4_K_M.gguf', 'a/b-GGUF', 'main', 'b-Q4_K_M.gguf'],
  ['a/b:Q4_K_M@v1.0', 'a/b', 'v1.0', 'Q4_K_M'],
  ['a/b@v1.0:sub/x.gguf', 'a/b', 'v1.0', 'sub/x.gguf'],
  ['a/b:latest', 'a/b', 'main', null],
  ['hf.co/a/b:Q8_0', 'a/b', 'main', 'Q8_0'],
  ['https://huggingface.co/a/b', 'a/b', 'main', null],
  ['hf:a/b', 'a/b', 'main', null],
])('%s is a model on the hub', (text, repo, revision, selector) => {
  expect(parseHubId(text)).toMatchObject({ repo, revision, selector });
});

test.each([
  'gpt2',
  '/a/b',
  './a',
  '../a/b',
  '~/a',
  'a/b/c',
  'a/',
  '/',
  '',
  'a b/c',
  'a/b@',
  'a/b@../x',
  'a/b@x@y',
  'a/b:x:y',
  'a/b:../x.gguf',
  'a/b:/x.gguf',
  'C:/x',
  '-a/b',
  'a/b--c',
  'a/b..c',
  'a/b:x\\y.gguf',
  'a/b@v 1',
  'a/b\n',
])('%j is none', (text) => {
  expect(parseHubId(text)).toBeNull();
});

test('a model is served under its name without place and revision', () => {
  expect(servedNameOf(parseHubId('hf.co/a/b:Q8_0@v1')!)).toBe('a/b:Q8_0');
});

test('paths of a repository stay inside it on every system', () => {
  for (const path of ['a.json', 'a/b c/ü.txt']) expect(isSafeRepoPath(path), path).toBe(true);
  for (const path of ['', '/a', 'a//b', '../a', 'a/../b', 'a/.', 'a\\b', 'c:x', 'a\0', 'a\n', 'x'.repeat(300)])
    expect(isSafeRepoPath(path), path).toBe(false);
});
