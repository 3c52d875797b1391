import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Type } from 'typebox';
import { afterAll, beforeAll, expect, expectTypeOf, test } from 'vitest';
import { LLM } from './llm.ts';
import type { StandardSchema, ValueOf } from './object.ts';

const folder = mkdtempSync(join(tmpdir(), 'millrace-object-'));
copyFileSync(fileURLToPath(new URL('../../test/golden/qwen3/config.json', import.meta.url)), join(folder, 'config.json'));
let llm: LLM;
beforeAll(async () => {
  llm = await LLM.load({ model: folder, loadFormat: 'dummy', backend: 'reference' });
});
afterAll(async () => {
  await llm.close();
  rmSync(folder, { recursive: true });
});

const person = { type: 'object', properties: { age: { type: 'integer', minimum: 1, maximum: 9 } }, required: ['age'], additionalProperties: false };

/** A schema as a validation library gives it: the value comes out changed. */
function standard(accepts: boolean, withJson = true): StandardSchema & { '~standard': { types?: { input: unknown; output: { years: number } } } } {
  return {
    '~standard': {
      version: 1,
      vendor: 'test',
      validate: (value) => (accepts ? { value: { years: (value as { age: number }).age } } : { issues: [{ message: 'too young' }] }),
      ...(withJson ? { jsonSchema: { input: () => person } } : {}),
    },
  };
}

test('a JSON Schema gives a value that fulfils it', async () => {
  const value = (await llm.object({ schema: person, prompt: 'A person:', params: { seed: 1 } })) as { age: number };
  expect(Object.keys(value)).toEqual(['age']);
  expect(value.age).toBeGreaterThanOrEqual(1);
  expect(value.age).toBeLessThanOrEqual(9);
});

test('a schema of TypeBox is a JSON Schema', async () => {
  const schema = Type.Object({ ok: Type.Boolean() }, { additionalProperties: false });
  const value = await llm.object({ schema, prompt: 'Well?', params: { seed: 2 } });
  expect([{ ok: true }, { ok: false }]).toContainEqual(value);
});

test('a Standard Schema types the value and has the last word', async () => {
  const value = await llm.object({ schema: standard(true), prompt: 'A person:' });
  expectTypeOf(value).toEqualTypeOf<{ years: number }>();
  expectTypeOf<ValueOf<{ static: string }>>().toEqualTypeOf<string>();
  expect(value.years).toBeGreaterThan(0);
  await expect(llm.object({ schema: standard(false), prompt: 'A person:' })).rejects.toMatchObject({
    code: 'OUTPUT_INCOMPLETE',
    message: expect.stringContaining('too young'),
  });
});

test('what cannot be held to is refused', async () => {
  await expect(llm.object({ schema: standard(true, false), prompt: 'a' })).rejects.toMatchObject({ code: 'GRAMMAR_UNSUPPORTED' });
  await expect(llm.object({ schema: { type: 'array', uniqueItems: true }, prompt: 'a' })).rejects.toMatchObject({ code: 'GRAMMAR_UNSUPPORTED' });
  await expect(llm.object({ schema: person })).rejects.toMatchObject({ code: 'REQUEST_INVALID' });
  await expect(llm.object({ schema: person, prompt: 'a', params: { maxTokens: 3 } })).rejects.toMatchObject({ code: 'OUTPUT_INCOMPLETE' });
});

test('a value can be watched while it is written, typed as a deep partial', async () => {
  const inner = Type.Object(
    { name: Type.String({ maxLength: 5 }), tags: Type.Array(Type.String({ maxLength: 3 }), { minItems: 2, maxItems: 2 }) },
    { additionalProperties: false },
  );
  const schema = Type.Object({ who: inner, ok: Type.Boolean() }, { additionalProperties: false });
  const stream = llm.objectStream({ schema, prompt: 'A person:', params: { seed: 3, maxTokens: 200 } });
  const seen: { who?: { name?: string; tags?: string[] }; ok?: boolean }[] = [];
  for await (const partial of stream) {
    expectTypeOf(partial.who?.tags?.[0]).toEqualTypeOf<string | undefined>();
    seen.push(partial);
  }
  const whole = await stream;
  expectTypeOf(whole.who.name).toEqualTypeOf<string>();
  expect(seen.length).toBeGreaterThan(3);
  expect(seen[0]).toEqual({});
  expect(seen.at(-1)).toEqual(whole);
  expect(await llm.object({ schema, prompt: 'A person:', params: { seed: 3, maxTokens: 200 } })).toEqual(whole);
});

test('a value that is cut or refused fails the loop as it fails the promise', async () => {
  const cut = llm.objectStream({ schema: person, prompt: 'a', params: { maxTokens: 3 } });
  await expect(
    (async () => {
      for await (const _ of cut);
    })(),
  ).rejects.toMatchObject({ code: 'OUTPUT_INCOMPLETE' });
  await expect(Promise.resolve(cut)).rejects.toMatchObject({ code: 'OUTPUT_INCOMPLETE' });
  const refused = llm.objectStream({ schema: standard(false), prompt: 'A person:' });
  await expect(
    (async () => {
      for await (const _ of refused);
    })(),
  ).rejects.toMatchObject({ code: 'OUTPUT_INCOMPLETE' });
});
