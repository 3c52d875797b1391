/**
 * Small random tokenizers of every kind against the reference libraries: `tokenizers`, `sentencepiece`, `tiktoken`. Made by `make_goldens.py` beside this
 * file, which says how to compare with the libraries live on other vocabularies and texts.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { tokenizerFromFolder } from '../../src/tokenizer/load-tokenizer.ts';
import { goldenTokenizers, goldenTokenizersFolder } from './goldens.ts';

type Row = readonly [ids: number[], idsWithSpecial: number[], decoded: string];

const texts = JSON.parse(readFileSync(join(goldenTokenizersFolder, 'texts.json'), 'utf8')) as string[];
const vectorsOf = (name: string): Row[] => JSON.parse(readFileSync(join(goldenTokenizersFolder, name, 'vectors.json'), 'utf8')) as Row[];

test('every kind of tokenizer has goldens', () => {
  const names = readdirSync(goldenTokenizersFolder).filter((name) => existsSync(join(goldenTokenizersFolder, name, 'vectors.json')));
  expect(names.sort()).toEqual([...goldenTokenizers].sort());
});

describe.each(goldenTokenizers)('the tokenizer %s', async (name) => {
  const tokenizer = await tokenizerFromFolder(join(goldenTokenizersFolder, name));
  const rows = vectorsOf(name);

  test('gives the ids of the reference library for plain text', () => {
    const special = [...tokenizer.specialTokenIds].map((id) => tokenizer.tokenText(id));
    rows.forEach(([ids], i) => {
      // the library's Unigram takes the spelling of a special token for that token even in plain text; here no text becomes one
      if (name.startsWith('unigram') && special.some((spelling) => texts[i].includes(spelling))) return;
      const actual = [...tokenizer.encode(texts[i], { addSpecialTokens: false, parseSpecial: false })];
      expect([texts[i], ...actual]).toEqual([texts[i], ...ids]);
    });
  });

  test('gives the ids of the reference library with special tokens', () => {
    // SentencePiece never finds a control token in a text
    const parseSpecial = !name.startsWith('spm');
    rows.forEach(([, ids], i) => {
      const actual = [...tokenizer.encode(texts[i], { addSpecialTokens: true, parseSpecial })];
      expect([texts[i], ...actual]).toEqual([texts[i], ...ids]);
    });
  });
});
