import { createHash } from 'node:crypto';
import { Script } from 'node:vm';
import { expect, test } from 'vitest';
import { chatPage, chatPagePolicy } from './chat-page.ts';

const between = (tag: string) => [...chatPage.matchAll(new RegExp(`<${tag}>([\\s\\S]*?)</${tag}>`, 'g'))].map(([, text]) => text ?? '');

test('the page asks for nothing from outside', () => {
  expect(chatPage).not.toMatch(/(?:https?:)?\/\/[a-z0-9-]+\.[a-z]/i);
  expect(chatPage).not.toMatch(/<(?:link|script|img)[^>]+(?:src|href)="(?!data:)/);
});

test('the policy allows exactly the script and the style that are in the page', () => {
  for (const [directive, tag] of [
    ['script-src', 'script'],
    ['style-src', 'style'],
  ] as const) {
    const blocks = between(tag);
    expect(blocks).toHaveLength(1);
    const hash = createHash('sha256').update(blocks[0]!).digest('base64');
    expect(chatPagePolicy).toContain(`${directive} 'sha256-${hash}'`);
  }
  expect(chatPagePolicy).not.toContain('unsafe');
  expect(chatPage).not.toMatch(/\son[a-z]+="|\sstyle="/);
});

test('the script parses, and every element that it asks for is in the page', () => {
  const [script] = between('script');
  expect(() => new Script(script!)).not.toThrow();
  const wanted = [...script!.matchAll(/byId\('([a-z-]+)'\)/g)].map(([, id]) => id);
  expect(wanted.length).toBeGreaterThan(10);
  for (const id of wanted) expect(chatPage).toContain(`id="${id}"`);
  expect(script).not.toMatch(/innerHTML|insertAdjacentHTML|document\.write|eval\(/);
});
