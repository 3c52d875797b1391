import Ajv2020 from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';
import { describe, expect, test } from 'vitest';
import { random, trie, walk } from '../../../test/grammar/random-walk.ts';
import { ByteTokenizer } from '../../tokenizer/byte-tokenizer.ts';
import { compileJsonSchema } from './json-schema.ts';
import { CompiledGrammar } from './matcher.ts';
import { VocabularyTrie } from './vocabulary-trie.ts';

const compile = (schema: unknown, compact = false) => new CompiledGrammar(compileJsonSchema(schema, { compact }), trie);
const accepts = (grammar: CompiledGrammar, text: string) => grammar.accepts(new TextEncoder().encode(text));

const schemas: readonly Record<string, unknown>[] = [
  {
    type: 'object',
    properties: { a: { type: 'string' }, b: { type: 'integer' }, c: { type: 'boolean' } },
    required: ['b'],
    additionalProperties: false,
  },
  { type: 'object', properties: { name: { type: 'string', maxLength: 5 } }, required: ['name'], additionalProperties: { type: 'null' } },
  { type: 'array', items: { type: 'integer', minimum: -12, maximum: 305 }, minItems: 1, maxItems: 4 },
  { type: 'array', prefixItems: [{ type: 'null' }, { enum: ['x', 7, { k: [1] }] }], items: { type: 'boolean' }, minItems: 1 },
  { type: 'number', minimum: -0.5, exclusiveMaximum: 2.25 },
  { type: 'integer', exclusiveMinimum: 99, maximum: 1001 },
  { anyOf: [{ type: 'string', pattern: '^[a-c]+\\d{2}$', maxLength: 6 }, { const: 'z"\\' }] },
  { type: 'string', format: 'date-time' },
  { type: 'string', format: 'date' },
  { type: 'string', format: 'ipv6' },
  { type: 'string', format: 'email' },
  { type: 'string', format: 'uuid' },
  { type: 'string', minLength: 2, maxLength: 4 },
  { type: 'string', pattern: 'b.b', maxLength: 7 },
  {
    $defs: {
      node: {
        type: 'object',
        properties: { next: { anyOf: [{ $ref: '#/$defs/node' }, { type: 'null' }] } },
        required: ['next'],
        additionalProperties: false,
      },
    },
    $ref: '#/$defs/node',
  },
  {
    allOf: [
      { type: 'object', properties: { a: { type: 'integer' } }, required: ['a'] },
      { properties: { b: { type: 'string', maxLength: 3 } }, required: ['b'] },
    ],
    maxProperties: 2,
  },
  {
    oneOf: [
      { type: 'object', properties: { kind: { const: 'a' }, x: { type: 'null' } }, required: ['kind'] },
      { type: 'object', properties: { kind: { const: 'b' } }, required: ['kind'] },
    ],
  },
  { type: 'object', patternProperties: { '^x': { type: 'integer' } }, additionalProperties: { type: 'boolean' }, minProperties: 1 },
  { type: 'string', maxLength: 3, not: { enum: ['a', 'b'] } },
  { type: 'object', properties: { a: { type: 'null' }, b: { type: 'null' } }, additionalProperties: false, not: { required: ['a', 'b'] } },
  { type: 'integer', minimum: 0, maximum: 40, not: { anyOf: [{ const: 7 }, { minimum: 30 }] } },
  { type: ['string', 'integer'], maxLength: 2, minimum: 0, maximum: 20, not: { type: 'integer' } },
  { type: 'string', maxLength: 4, not: { pattern: '^[a-f]' } },
  {
    type: 'object',
    properties: { kind: { enum: ['n', 's'] }, value: { type: ['integer', 'string'], maxLength: 3, minimum: 0, maximum: 9 } },
    required: ['kind', 'value'],
    additionalProperties: false,
    if: { properties: { kind: { const: 'n' } } },
    // biome-ignore lint/suspicious/noThenProperty: the keyword of JSON Schema
    then: { properties: { value: { type: 'integer' } } },
    else: { properties: { value: { type: 'string' } } },
  },
  {
    oneOf: [
      { type: 'object', properties: { a: { type: 'null' } }, required: ['a'] },
      { type: 'object', properties: { b: { type: 'null' } }, required: ['b'] },
    ],
    maxProperties: 3,
  },
  {
    oneOf: [
      { type: 'integer', minimum: 3, maximum: 50 },
      { type: 'integer', minimum: 20, maximum: 70 },
    ],
  },
  {
    type: 'object',
    properties: { a: { type: 'null' }, b: { type: 'null' }, c: { type: 'null' } },
    dependentRequired: { a: ['b'] },
    dependentSchemas: { b: { required: ['c'] } },
    additionalProperties: false,
    minProperties: 1,
  },
  { type: 'integer', multipleOf: 7, minimum: -30, maximum: 200 },
  { type: 'number', multipleOf: 0.25, minimum: 0, maximum: 9 },
  { type: 'object', propertyNames: { pattern: '^[ab]{1,2}$' }, additionalProperties: { type: 'null' }, minProperties: 1, maxProperties: 4 },
  { type: 'array', items: { type: 'integer', minimum: 0, maximum: 12 }, contains: { multipleOf: 5 } },
  {
    allOf: [
      { type: 'object', patternProperties: { '^x': { type: 'integer', minimum: 0, maximum: 9 } } },
      {
        type: 'object',
        patternProperties: { '^y': { type: 'null' } },
        additionalProperties: { type: ['integer', 'boolean'], minimum: 0, maximum: 9 },
      },
    ],
    minProperties: 1,
  },
  { type: 'string', format: 'json-pointer' },
  { type: 'string', format: 'regex' },
  { type: 'string', format: 'uri-reference' },
  { type: 'string', format: 'a-format-that-there-is-not', maxLength: 3 },
  { type: 'object', properties: { a: { type: 'null' } }, unevaluatedProperties: false },
  {},
];

describe('a JSON Schema as a grammar', () => {
  const ajv = new Ajv2020.default({ strict: false });
  addFormats.default(ajv);

  test.each(schemas.map((schema) => [JSON.stringify(schema), schema] as const))('random walks under the mask of %s end in instances', (_, schema) => {
    const validate = ajv.compile(schema);
    const grammar = compile(schema);
    const draw = random(7);
    let numEnded = 0;
    for (let i = 0; i < 25; i++) {
      const text = walk(grammar, draw);
      if (text === null) continue;
      numEnded++;
      expect(validate(JSON.parse(text)), text).toBe(true);
    }
    expect(numEnded).toBeGreaterThan(0);
  });

  test('integers between bounds are exactly those', () => {
    const grammar = compile({ type: 'integer', minimum: -105, maximum: 23 });
    for (let i = -1200; i <= 1200; i++) expect(accepts(grammar, String(i)), String(i)).toBe(i >= -105 && i <= 23);
    for (const text of ['', '-', '-0', '01', '1.0', '+1']) expect(accepts(grammar, text), text).toBe(false);
  });

  test('bounds that were rounded when the schema was parsed are kept from inside', () => {
    const grammar = compile(JSON.parse('{"type": "integer", "minimum": -9223372036854775808, "maximum": 9223372036854775807}'));
    for (const text of ['9223372036854775808', '9223372036854776000', '-9223372036854775809']) expect(accepts(grammar, text), text).toBe(false);
    for (const text of ['9007199254740993', '9223372036854000000', '-9223372036854000000']) expect(accepts(grammar, text), text).toBe(true);
  });

  test('numbers keep fractional and exclusive bounds', () => {
    const grammar = compile({ type: 'number', minimum: 0.25, exclusiveMaximum: 3 });
    for (const text of ['0.25', '0.3', '1', '2.999', '0.250']) expect(accepts(grammar, text), text).toBe(true);
    for (const text of ['0.2', '0', '3', '3.0', '-1', '0.2499', '1e2']) expect(accepts(grammar, text), text).toBe(false);
  });

  test('the first colon and the first comma of a text decide whether spaces stand behind the others', () => {
    const grammar = compile({ type: 'object', additionalProperties: { type: 'array', items: { type: 'integer' } } });
    for (const text of ['{"a": [1, 2], "b": [3, 4]}', '{"a":[1,2],"b":[3,4]}', '{"a": [1,2],"b": [3,4]}', '{"a":[1, 2], "b":[3]}'])
      expect(accepts(grammar, text), text).toBe(true);
    for (const text of ['{"a": [1, 2],"b": [3]}', '{"a": [1], "b":[3]}', '{"a":[1,2], "b":[3]}', '{"a":  [1]}', '{"a" :[1]}'])
      expect(accepts(grammar, text), text).toBe(false);
  });

  test('texts are compact, with one space after a colon or a comma unless asked without', () => {
    const schema = { type: 'object', properties: { a: { type: 'array', items: { type: 'null' } } }, required: ['a'], additionalProperties: false };
    expect(accepts(compile(schema), '{"a": [null, null]}')).toBe(true);
    expect(accepts(compile(schema), '{"a":[null,null]}')).toBe(true);
    expect(accepts(compile(schema), '{"a":  []}')).toBe(false);
    expect(accepts(compile(schema), '{ "a": []}')).toBe(false);
    expect(accepts(compile(schema, true), '{"a": []}')).toBe(false);
  });

  test('an undeclared property cannot take the name of a declared one, however it is written', () => {
    const grammar = compile({ type: 'object', properties: { ab: { type: 'null' } } });
    expect(accepts(grammar, '{"ab":null,"abc":1,"a":2,"é":3}')).toBe(true);
    expect(accepts(grammar, '{"x":1,"ab":1}')).toBe(false);
    expect(accepts(grammar, '{"\\u0061b":1}')).toBe(false);
  });

  test('a character counts once however many bytes or escapes it has', () => {
    const grammar = compile({ type: 'string', minLength: 2, maxLength: 2 });
    for (const text of ['"ab"', '"é😀"', '"\\ud83d\\ude00x"', '"\\n\\""']) expect(accepts(grammar, text), text).toBe(true);
    for (const text of ['"a"', '"abc"', '"\\ud83d\\ude00"', '"\\ud83dab"', '"a\nb"']) expect(accepts(grammar, text), text).toBe(false);
  });

  test.each([
    ['uniqueItems', { type: 'array', uniqueItems: true }],
    ['the opposite', { type: 'array', not: { items: { type: 'string' } } }],
    ['multipleOf', { type: 'number', multipleOf: 1e-20 }],
    ['minContains', { type: 'array', contains: {}, minContains: 2 }],
    ['contains', { type: 'array', contains: {}, minItems: 2 }],
    ['unevaluatedItems', { type: 'array', unevaluatedItems: false }],
    ['unevaluatedProperties', { $ref: '#', unevaluatedProperties: false }],
    ['$dynamicRef', { $dynamicRef: '#x' }],
    ['oneOf', { oneOf: [{ items: { type: 'string' } }, { items: { type: 'integer' } }] }],
    ['look-ahead', { type: 'string', pattern: '(?=a)b' }],
    ['look-behind', { type: 'string', pattern: '(?<=a)b' }],
    ['another document', { $ref: 'https://example.com/schema.json' }],
  ])('what cannot be enforced is refused by name: %s', (name, schema) => {
    expect(() => compile({ type: 'object', properties: { p: schema } })).toThrow(
      expect.objectContaining({ code: 'GRAMMAR_UNSUPPORTED', message: expect.stringContaining(name) }),
    );
  });

  test.each([
    ['a false schema', false],
    ['contradicting types', { allOf: [{ type: 'string' }, { type: 'null' }] }],
    ['an object that must hold itself', { $id: 'x', type: 'object', properties: { a: { $ref: '#' } }, required: ['a'] }],
    ['a reference to itself', { $ref: '#' }],
    ['bounds in the wrong order', { type: 'integer', minimum: 3, maximum: 2 }],
    ['a reference into nothing', { $ref: '#/$defs/x' }],
    ['a type that is none', { type: 'strnig' }],
  ])('what no text can fulfil is refused: %s', (_, schema) => {
    expect(() => compile(schema)).toThrow(expect.objectContaining({ code: 'GRAMMAR_INVALID' }));
  });

  test.each([
    [{ type: 'string' }, '"a'],
    [{ type: 'string', maxLength: 9 }, '"ab'],
    [{ type: 'string', maxLength: 2 }, '"ab'],
    [{ type: 'object', properties: { abc: { type: 'null' }, b: {} } }, '{"a'],
    [{ type: 'string', pattern: '^[^x]*$', minLength: 70 }, '"'],
    [{}, ''],
  ])('a mask allows exactly the tokens that the grammar reads: %j after %s', (schema, before) => {
    const words = ['a', 'ab', 'é', 'éé', '日本', '日', 'x', '"', '",', '": ', '\\', 'abcdefghij', '{', '{"', 'b": nul', 'c', '12', '\n', 'a\n'];
    const bytesOf = [...words.map((word) => [...Buffer.from(word)]), [0xe6], [0xe6, 0x97], [0x97], [0xa5, 0x61], [0xc3], [0xa9]].map((bytes) =>
      Uint8Array.from(bytes),
    );
    const tokenizer = new ByteTokenizer(bytesOf.length);
    tokenizer.tokenBytes = (id) => bytesOf[id];
    const grammar = new CompiledGrammar(compileJsonSchema(schema, { compact: false }), new VocabularyTrie(tokenizer, 32, []));
    const state = grammar.read(grammar.automaton.start, Buffer.from(before));
    expect(state).not.toBeNull();
    if (state === null) return;
    const [mask] = grammar.maskOf(state);
    for (const [id, bytes] of bytesOf.entries()) {
      expect([Buffer.from(bytes).toString(), (mask >>> id) & 1]).toEqual([
        Buffer.from(bytes).toString(),
        grammar.read(state, bytes) === null ? 0 : 1,
      ]);
    }
  });

  test('tokens can be taken back', () => {
    const matcher = compile({ const: 'ab' }).matcher();
    const [row, before] = [new Uint32Array(10), new Uint32Array(10)];
    matcher.accept(0x22);
    matcher.fillMask(before);
    for (const byte of Buffer.from('ab"')) expect(matcher.accept(byte)).toBe(true);
    expect(matcher.isFinished).toBe(true);
    expect(matcher.accept(0x61)).toBe(false);
    matcher.rollback(3);
    matcher.fillMask(row);
    expect(row).toEqual(before);
    expect(row[0x61 >>> 5]).toBe(1 << (0x61 & 31));
  });
});

describe('hostile schemas stay within bounds', () => {
  const nested = (depth: number): unknown => (depth === 0 ? { type: 'null' } : { type: 'array', items: nested(depth - 1) });
  const doubling = (depth: number): unknown => ({
    $defs: Object.fromEntries(
      Array.from(
        { length: depth },
        (_, i) =>
          [
            `d${i}`,
            {
              anyOf: [
                { minLength: 1, $ref: `#/$defs/d${i + 1}` },
                { minLength: 2, $ref: `#/$defs/d${i + 1}` },
              ],
            },
          ] as [string, unknown],
      ).concat([[`d${depth}`, { type: 'string' }]]),
    ),
    $ref: '#/$defs/d0',
  });
  test.each([
    ['deep nesting', nested(5000)],
    ['doubling references', doubling(30)],
    [
      'a product of unions',
      { allOf: Array.from({ length: 10 }, (_, i) => ({ anyOf: Array.from({ length: 10 }, (_, j) => ({ minLength: i, maxLength: 100 + j })) })) },
    ],
    ['a pattern that explodes when made deterministic', { type: 'string', pattern: '^(a|b)*a(a|b){20}$' }],
    ['a huge bounded pattern', { type: 'string', pattern: '^(\\w+\\s?){1,100000}$' }],
  ])('%s', (_, schema) => {
    expect(() => compile(schema)).toThrow(expect.objectContaining({ code: 'GRAMMAR_TOO_LARGE' }));
  });

  test('large counts and large enums cost little', () => {
    expect(accepts(compile({ type: 'string', maxLength: 900_000 }), '"abc"')).toBe(true);
    const values = Array.from({ length: 20_000 }, (_, i) => `value ${i}`);
    expect(accepts(compile({ enum: values }), '"value 19999"')).toBe(true);
    expect(accepts(compile({ enum: values }), '"value 20000"')).toBe(false);
  });

  test('a pattern made to backtrack is read in linear time', () => {
    expect(accepts(compile({ type: 'string', pattern: '^(a+)+$' }), `"${'a'.repeat(20_000)}b"`)).toBe(false);
  });
});
