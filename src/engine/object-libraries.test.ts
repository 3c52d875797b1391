/** Values typed and checked by the libraries that people have: Zod, Valibot, TypeBox. What is written here about types, `tsc` checks. */
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { toStandardJsonSchema } from '@valibot/to-json-schema';
import { Type } from 'typebox';
import * as v from 'valibot';
import { afterAll, beforeAll, expect, expectTypeOf, test } from 'vitest';
import { z } from 'zod';
import { LLM } from './llm.ts';

const folder = mkdtempSync(join(tmpdir(), 'millrace-libraries-'));
copyFileSync(fileURLToPath(new URL('../../test/golden/qwen3/config.json', import.meta.url)), join(folder, 'config.json'));
let llm: LLM;
beforeAll(async () => {
  llm = await LLM.load({ model: folder, loadFormat: 'dummy', backend: 'reference' });
});
afterAll(async () => {
  await llm.close();
  rmSync(folder, { recursive: true });
});

const prompt = 'A person:';
const params = { seed: 5, maxTokens: 300 };

test('a schema of Zod types the value, and what is there of it so far', async () => {
  const schema = z.strictObject({ name: z.string().max(6), age: z.int().min(0).max(120), tags: z.array(z.enum(['a', 'b'])).max(2) });
  const stream = llm.objectStream({ schema, prompt, params });
  for await (const partial of stream) expectTypeOf(partial).toEqualTypeOf<{ name?: string; age?: number; tags?: ('a' | 'b')[] }>();
  const value = await stream;
  expectTypeOf(value).toEqualTypeOf<{ name: string; age: number; tags: ('a' | 'b')[] }>();
  expect(schema.parse(value)).toEqual(value);
});

test('a transformation of Zod is made of the whole value, and its type is that of the result', async () => {
  const schema = z.strictObject({
    year: z
      .int()
      .min(1900)
      .max(1999)
      .transform((year) => new Date(Date.UTC(year, 0))),
  });
  // what a transformation gives cannot be said as JSON Schema: the grammar holds what goes in
  const value = await llm.object({ schema, prompt, params });
  expectTypeOf(value).toEqualTypeOf<{ year: Date }>();
  expect(value.year.getUTCFullYear()).toBeGreaterThanOrEqual(1900);
});

test('a refinement of Zod has the last word', async () => {
  const schema = z.strictObject({ digit: z.int().min(0).max(9) }).refine(() => false, 'never right');
  await expect(llm.object({ schema, prompt, params })).rejects.toMatchObject({
    code: 'OUTPUT_INCOMPLETE',
    message: expect.stringContaining('never right'),
  });
});

test('a schema of Valibot, which says itself as JSON Schema by its own package, types and checks the value', async () => {
  const inner = v.strictObject({ name: v.pipe(v.string(), v.maxLength(6)), kind: v.picklist(['x', 'y']) });
  const value = await llm.object({ schema: toStandardJsonSchema(inner), prompt, params });
  expectTypeOf(value).toEqualTypeOf<{ name: string; kind: 'x' | 'y' }>();
  expect(v.parse(inner, value)).toEqual(value);
  await expect(llm.object({ schema: inner, prompt, params })).rejects.toMatchObject({
    code: 'GRAMMAR_UNSUPPORTED',
    message: expect.stringContaining('valibot'),
  });
});

test('a schema of TypeBox types the value', async () => {
  const schema = Type.Object({ ok: Type.Boolean(), count: Type.Integer({ minimum: 1, maximum: 3 }) }, { additionalProperties: false });
  const value = await llm.object({ schema, prompt, params });
  expectTypeOf(value).toEqualTypeOf<{ ok: boolean; count: number }>();
  expect([1, 2, 3]).toContain(value.count);
});
