/** What holds for every kind of tokenizer: special tokens come from templates alone, streams decode as wholes, hostile texts take bounded time. */
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { renderToIds } from '../../src/chat/prompt.ts';
import { ChatTemplate } from '../../src/chat/template.ts';
import { IncrementalDetokenizer } from '../../src/tokenizer/detokenizer.ts';
import { tokenizerFromFolder } from '../../src/tokenizer/load-tokenizer.ts';
import { tokenizerFolder, tokenizerKinds } from '../fixtures/tokenizers.ts';
import { goldenTokenizers, goldenTokenizersFolder } from './goldens.ts';

const folders = [
  ...tokenizerKinds.map((kind) => [kind, tokenizerFolder(kind)] as const),
  ...goldenTokenizers.map((name) => [name, join(goldenTokenizersFolder, name)] as const),
];

describe.each(folders)('the tokenizer %s', async (name, folder) => {
  const tokenizer = await tokenizerFromFolder(folder);
  const unknown = ['<unk>', '[UNK]'].map((spelling) => tokenizer.tokenId(spelling));
  const special = [...tokenizer.specialTokenIds].filter((id) => !unknown.includes(id));
  const spellings = special.map((id) => tokenizer.tokenText(id));
  const specialsIn = (ids: ArrayLike<number>): number[] => Array.from(ids).filter((id) => special.includes(id));
  const spelled = fc.oneof(
    fc.constantFrom('</s>', ...spellings, ...spellings.flatMap((spelling) => [spelling.slice(0, -1), spelling.slice(1), spelling.toUpperCase()])),
    fc.constantFrom('▁', ' ', '<', '|', '>', '[', ']', '\n', '##', '\u0301', '\u200b'),
    fc.string({ unit: 'grapheme', maxLength: 5 }),
  );
  const hostile = fc.array(spelled, { maxLength: 10 }).map((parts) => parts.join(''));

  test('gives a special token for no text of a user, whatever it spells, through the chat template or as plain text', async () => {
    const mark = spellings[0] ?? '';
    const marks = special.slice(0, 1).flatMap((id) => [id, id, id, id]);
    const template = ChatTemplate.compile(`{% for m in messages %}${mark}{{ m.content }}{{ m.name }}${mark}{% endfor %}{{ tools | tojson }}`, {});
    await fc.assert(
      fc.asyncProperty(hostile, hostile, async (content, other) => {
        expect(specialsIn(tokenizer.encode(content, { addSpecialTokens: false, parseSpecial: false }))).toEqual([]);
        const tools = [{ type: 'function', function: { name: content, description: other } }];
        const { tokenIds } = await renderToIds(
          tokenizer,
          template,
          [
            { role: 'user', content, name },
            { role: 'user', content: name },
          ],
          { tools },
        );
        expect(specialsIn(tokenIds)).toEqual(marks);
      }),
      { numRuns: 60 },
    );
  });

  test('decodes token by token to the text that it decodes at once, for any ids and of any text', () => {
    const ids = fc.oneof(
      fc.array(fc.nat(tokenizer.vocabSize + 2), { maxLength: 60 }),
      hostile.map((text) => [...tokenizer.encode(text, { addSpecialTokens: true, parseSpecial: false })]),
    );
    fc.assert(
      fc.property(ids, fc.boolean(), (list, skipSpecialTokens) => {
        const detokenizer = new IncrementalDetokenizer(tokenizer, { skipSpecialTokens });
        const parts = list.map((id) => detokenizer.push(id));
        expect(parts.join('') + detokenizer.flush()).toBe(tokenizer.decode(list, { skipSpecialTokens }));
        for (const part of parts) expect(part).not.toMatch(/\p{Surrogate}/u);
        const bytes = list.filter((id) => !(skipSpecialTokens && tokenizer.specialTokenIds.has(id))).flatMap((id) => [...tokenizer.tokenBytes(id)]);
        const whole = new TextDecoder('utf-8', { ignoreBOM: true }).decode(Uint8Array.from(bytes));
        expect(tokenizer.decode(list, { skipSpecialTokens })).toBe(tokenizer.stripsLeadingSpace && whole.startsWith(' ') ? whole.slice(1) : whole);
      }),
      { numRuns: 60 },
    );
  });

  // these two have patterns that take quadratic time by themselves, as in the published tokenizers they were taken from
  test.skipIf(name === 'bpe-triples' || name === 'bpe-cuts')('encodes fifty thousand characters of one kind, of any kind, to an end', () => {
    for (const unit of ['a', ' ', '1', '水', '\u0301', "'s", '▁', '\u00a0', '🙂']) {
      const text = unit.repeat(Math.ceil(50_000 / unit.length));
      expect(tokenizer.encode(text, { addSpecialTokens: false, parseSpecial: false })).toBeInstanceOf(Int32Array);
    }
  });
});
