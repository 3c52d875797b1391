import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import Ajv2020 from 'ajv/dist/2020.js';
import type OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { loadEngine } from '../../src/engine/load.ts';
import { type Serving, serve } from './serving.ts';

const pocket = fileURLToPath(new URL('../../pocket/model', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'millrace-structured-'));
copyFileSync(fileURLToPath(new URL('../golden/qwen3/config.json', import.meta.url)), join(folder, 'config.json'));
writeFileSync(join(folder, 'chat_template.jinja'), "{% for m in messages %}{{ m.role + ': ' + m.content + '\\n' }}{% endfor %}");
afterAll(() => rmSync(folder, { recursive: true }));

const schema = {
  type: 'object',
  properties: {
    name: { type: 'string', maxLength: 4 },
    age: { type: 'integer', minimum: 0, maximum: 120 },
    tags: { type: 'array', items: { enum: ['red', 'green', 'blue'] }, maxItems: 3 },
    size: { anyOf: [{ type: 'number', exclusiveMinimum: 0, maximum: 2.5 }, { type: 'null' }] },
  },
  required: ['name', 'age', 'tags', 'size'],
  additionalProperties: false,
};
const validate = new Ajv2020.default().compile(schema);

const engines = [
  [
    'random weights on the reference backend',
    () => loadEngine({ model: folder, loadFormat: 'dummy', servedModelName: ['any'], backend: 'reference' }),
  ],
  ['random weights on the best backend here', () => loadEngine({ model: folder, loadFormat: 'dummy', servedModelName: ['any'] })],
  ['random weights with two steps in flight', () => loadEngine({ model: folder, loadFormat: 'dummy', maxInFlight: 2, servedModelName: ['any'] })],
  ['the pocket model on the best backend here', () => loadEngine({ model: pocket, servedModelName: ['any'] })],
] as const;

describe.each(engines)('structured output with %s', (_, load) => {
  let served: Serving;
  let client: OpenAI;
  beforeAll(async () => {
    served = await serve(await load());
    client = served.client;
  });
  afterAll(() => served[Symbol.asyncDispose]());

  async function text(fields: object, seed: number): Promise<string> {
    const params = { model: 'any', prompt: 'Once upon a time', max_tokens: 400, seed, ...fields };
    const { choices } = await client.completions.create(params as never);
    expect(choices[0].finish_reason).toBe('stop');
    return choices[0].text;
  }

  test('a schema holds for whatever the model draws, alone and in company', async () => {
    const format = { response_format: { type: 'json_schema', json_schema: { name: 'person', schema, strict: true } } };
    const plain = client.completions.create({ model: 'any', prompt: 'Once', max_tokens: 40, seed: 1 });
    const texts = await Promise.all([1, 2, 3, 4].map((seed) => text(format, seed)));
    for (const one of texts) expect(validate(JSON.parse(one)), one).toBe(true);
    expect(await text(format, 3)).toBe(texts[2]);
    expect((await plain).choices[0].text).toBe(
      (await client.completions.create({ model: 'any', prompt: 'Once', max_tokens: 40, seed: 1 })).choices[0].text,
    );
  });

  test('any JSON object is one', async () => {
    const { choices } = await client.completions.create({
      model: 'any',
      prompt: 'A',
      max_tokens: 100,
      seed: 4,
      response_format: { type: 'json_object' },
    } as never);
    expect(choices[0].text.startsWith('{')).toBe(true);
    if (choices[0].finish_reason === 'stop') JSON.parse(choices[0].text);
  });

  test('each choice of several stands by itself', async () => {
    const { choices } = await client.completions.create({
      model: 'any',
      prompt: 'A',
      n: 3,
      max_tokens: 400,
      seed: 5,
      structured_outputs: { json: schema },
    } as never);
    for (const { text: one } of choices) expect(validate(JSON.parse(one)), one).toBe(true);
  });

  test('patterns, choices and grammars hold', async () => {
    expect(await text({ structured_outputs: { regex: '[A-Z]{3}-\\d{2}' } }, 1)).toMatch(/^[A-Z]{3}-\d{2}$/);
    expect(['yes', 'no', 'maybe']).toContain(await text({ structured_outputs: { choice: ['yes', 'no', 'maybe'] } }, 2));
    expect(await text({ structured_outputs: { grammar: 'root ::= "<" [a-z]{2,5} ">"' } }, 3)).toMatch(/^<[a-z]{2,5}>$/);
  });

  test('free text has its tagged parts held to schemas', async () => {
    const value = { type: 'object', properties: { n: { type: 'integer', minimum: 0, maximum: 9 } }, required: ['n'], additionalProperties: false };
    const tag = { type: 'tag', begin: '<a>', content: { type: 'json_schema', json_schema: value }, end: '</a>' };
    const one = { type: 'sequence', elements: [{ type: 'const_string', value: 'So: ' }, tag] };
    const written = await text({ structured_outputs: { structural_tag: JSON.stringify({ type: 'structural_tag', format: one }) } }, 2);
    expect(written).toMatch(/^So: <a>\{"n": ?\d\}<\/a>$/);
    expect(await text({ response_format: { type: 'structural_tag', format: one } }, 2)).toBe(written);
  });

  test('an output does not end before min_tokens, or with ignore_eos, where it may go on', async () => {
    const fields = { model: 'any', prompt: 'A', max_tokens: 12, seed: 3, structured_outputs: { regex: 'a*' } };
    const ask = async (more: object) => (await client.completions.create({ ...fields, ...more } as never)).choices[0];
    expect(await ask({ ignore_eos: true })).toMatchObject({ finish_reason: 'length', text: expect.stringMatching(/^a{12,}$/) });
    expect((await ask({ min_tokens: 5 })).text.length).toBeGreaterThanOrEqual(4);
    expect(await text({ structured_outputs: { choice: ['yes'] }, min_tokens: 30 }, 1)).toBe('yes');
  });

  test('a streamed chat gives the same JSON as a whole one', async () => {
    const bounded = { ...schema, properties: { ...schema.properties, size: { enum: [1, 2, null] } } }; // a number may have digits without end
    const held = { max_tokens: 400, seed: 9, structured_outputs: { json: bounded } };
    const params = { model: 'any', messages: [{ role: 'user', content: 'Hi' }], ...held };
    const whole = await client.chat.completions.create(params as never);
    let streamed = '';
    for await (const chunk of (await client.chat.completions.create({
      ...params,
      stream: true,
    } as never)) as unknown as AsyncIterable<OpenAI.ChatCompletionChunk>) {
      streamed += chunk.choices[0]?.delta.content ?? '';
    }
    expect(streamed).toBe((whole as OpenAI.ChatCompletion).choices[0].message.content);
    expect(validate(JSON.parse(streamed)), streamed).toBe(true);
  });

  test.each([
    ['a keyword that is not enforced', { structured_outputs: { json: { type: 'array', uniqueItems: true } } }, 'GRAMMAR_UNSUPPORTED'],
    ['two constraints', { structured_outputs: { regex: 'a', choice: ['a'] } }, 'GRAMMAR_INVALID'],
    ['no constraint', { structured_outputs: {} }, 'GRAMMAR_INVALID'],
    ['a schema of nothing', { response_format: { type: 'json_schema', json_schema: { name: 'x', schema: false } } }, 'GRAMMAR_INVALID'],
    ['a missing schema', { response_format: { type: 'json_schema' } }, 'REQUEST_INVALID'],
    ['an unknown format', { response_format: { type: 'yaml' } }, 'NOT_SUPPORTED'],
    ['an empty structural tag', { structured_outputs: { structural_tag: {} } }, 'GRAMMAR_INVALID'],
    ['a pattern that explodes', { structured_outputs: { json: { type: 'string', pattern: '^(a|b)*a(a|b){30}$' } } }, 'GRAMMAR_TOO_LARGE'],
  ])('%s is refused with 400 and harms nobody', async (_, fields, code) => {
    const wrong = client.completions.create({ model: 'any', prompt: 'A', max_tokens: 5, ...fields } as never);
    await expect(wrong).rejects.toMatchObject({ status: 400, code });
  });
});
