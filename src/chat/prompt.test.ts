import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { loadTokenizer, tokenizerFolder } from '../../test/fixtures/tokenizers.ts';
import { chatTemplateFromFolder } from './load-template.ts';
import type { ChatMessage } from './messages.ts';
import { renderToIds } from './prompt.ts';
import { ChatTemplate } from './template.ts';

const tokenizer = await loadTokenizer('byte-level');
const template = await chatTemplateFromFolder(tokenizerFolder('byte-level'), tokenizer);
const [start, end] = ['<|im_start|>', '<|im_end|>'].map((spelling) => tokenizer.tokenId(spelling));
const special = [...tokenizer.specialTokenIds];
const specialsIn = (ids: Int32Array): number[] => [...ids].filter((id) => tokenizer.specialTokenIds.has(id));
const user = (content: string): ChatMessage[] => [{ role: 'user', content }];

describe('renderToIds', () => {
  test('encodes an ordinary conversation as the rendered text is encoded', async () => {
    const messages = [...user('Does 1 < 2 hold? <b>'), { role: 'assistant', content: '> quoted\nyes |' }, ...user('水车 🙂 <|')];
    const { text, tokenIds } = await renderToIds(tokenizer, template, messages);
    expect(text).toBe(template?.render(messages));
    expect([...tokenIds]).toEqual([...tokenizer.encode(text, { addSpecialTokens: false, parseSpecial: true })]);
    expect(specialsIn(tokenIds)).toEqual([start, end, start, end, start, end, start]);
  });

  test('takes special tokens from the template alone, whatever the messages spell', async () => {
    const parts = fc.constantFrom('<|im_end|>', '<|im_start|>', '<|begin|>', '<|', 'im_end', '|>', '<', '>', '\n', ' ', 'a', 'system');
    const texts = fc.array(parts, { maxLength: 8 }).map((list) => list.join(''));
    await fc.assert(
      fc.asyncProperty(texts, texts, async (first, second) => {
        const messages = [...user(first), { role: 'assistant', content: second }];
        const { text, tokenIds } = await renderToIds(tokenizer, template, messages);
        expect(text).toBe(`<|im_start|>user\n${first}<|im_end|>\n<|im_start|>assistant\n${second}<|im_end|>\n<|im_start|>assistant\n`);
        expect(specialsIn(tokenIds)).toEqual([start, end, start, end, start]);
        expect(tokenizer.decode(tokenIds, { skipSpecialTokens: false })).toBe(text);
      }),
      { numRuns: 300 },
    );
  });

  test('lets no special token arise where the template joins two values of the request, or one with its own text', async () => {
    const joined = ChatTemplate.compile('{% for m in messages %}{{ m.content | trim }}{{ m.name }}{% endfor %}|>{{ tools | tojson }}{{ extra }}', {});
    const messages = [{ role: 'user', content: ' <|im_ ', name: 'end|>' }, ...user('<|im_end')];
    const tools = [{ type: 'function', '<|im_end|>': { description: 'a "<|im_start|>" b' } }];
    const { text, tokenIds } = await renderToIds(tokenizer, joined, messages, { tools, kwargs: { extra: '<|begin|>' } });
    expect(text).toBe('<|im_end|><|im_end|>[{"type": "function", "<|im_end|>": {"description": "a \\"<|im_start|>\\" b"}}]<|begin|>');
    expect(specialsIn(tokenIds)).toEqual([]);
  });

  test('sees through all that trim takes away, as Python knows white space', async () => {
    const trimming = ChatTemplate.compile('{% for m in messages %}{{ m.content | trim }}{% endfor %}', {});
    for (const blank of [' ', '\n', '\t', '\u0085', '\u001c', '\u00a0', '\u2028', '\u3000']) {
      const { text, tokenIds } = await renderToIds(tokenizer, trimming, [...user(`a<|im_${blank}`), ...user(`${blank}end|>b`)]);
      expect(text).toBe('a<|im_end|>b');
      expect(specialsIn(tokenIds)).toEqual([]);
    }
  });

  test('lets a template build its own special token around a role', async () => {
    const wrapped = ChatTemplate.compile("{% for m in messages %}{{ '<|im_' ~ m.kind ~ '|>' }}{{ m.content }}{% endfor %}", {});
    const messages = [{ role: 'user', kind: 'start', content: 'x' }] as unknown as ChatMessage[];
    expect(specialsIn((await renderToIds(tokenizer, wrapped, messages)).tokenIds)).toEqual([start]);
  });

  test('keeps literal what a template changes to upper or lower case, trims or escapes', async () => {
    const changing = ChatTemplate.compile(
      '{{ messages[0].content | upper }}{{ messages[0].content | trim | lower }}{{ messages[0].content | tojson }}',
      {},
    );
    const { text, tokenIds } = await renderToIds(tokenizer, changing, user(' a<|im_end|>'));
    expect(text).toBe(' A<|im_end|>a<|im_end|>" a<|im_end|>"');
    expect(specialsIn(tokenIds)).toEqual([]);
  });

  test('continues a final message that spells a special token', async () => {
    const messages = [...user('x'), { role: 'assistant', content: 'a<|im_end|>' }];
    const { text, tokenIds } = await renderToIds(tokenizer, template, messages, { continueFinalMessage: true });
    expect(text.endsWith('<|im_start|>assistant\na<|im_end|>')).toBe(true);
    expect(specialsIn(tokenIds)).toEqual([start, end, start]);
  });

  test('says what to do when the model has no template', async () => {
    await expect(renderToIds(tokenizer, null, user('x'))).rejects.toMatchObject({
      code: 'CHAT_TEMPLATE_MISSING',
      hint: expect.stringContaining('--chat-template'),
    });
  });
});

test('the SentencePiece test template renders BOS and EOS as special tokens and user text as text', async () => {
  const spm = await loadTokenizer('sentencepiece');
  const spmTemplate = await chatTemplateFromFolder(tokenizerFolder('sentencepiece'), spm);
  const { text, tokenIds } = await renderToIds(spm, spmTemplate, [...user('hi </s> there'), { role: 'assistant', content: 'the mill' }]);
  expect(text).toBe('<s>[user] hi </s> there[assistant] the mill</s>');
  expect([...tokenIds].filter((id) => spm.specialTokenIds.has(id))).toEqual([1, 2]);
  expect(special.length).toBe(3);
});
