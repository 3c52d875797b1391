/** Keywords that were once refused: what is written under them fulfils the schema, what breaks it cannot be written. */
import { expect, test } from 'vitest';
import { Automaton } from './automaton.ts';
import { compileJsonSchema } from './json-schema.ts';

function reader(schema: unknown): (value: unknown) => boolean {
  const automaton = new Automaton(compileJsonSchema(schema, { compact: true }));
  return (value) => {
    let state: ReturnType<Automaton['next']> = automaton.start;
    for (const byte of Buffer.from(JSON.stringify(value))) {
      if (state === null) return false;
      state = automaton.next(state, byte);
    }
    return state?.isAccepting ?? false;
  };
}

const abc = { a: { type: 'integer' }, b: { type: 'integer' }, c: { type: 'integer' } };
const closed = { type: 'object', properties: abc, additionalProperties: false };
const email = `a@${'b'.repeat(20)}.com`;

test.each<[string, unknown, unknown[], unknown[]]>([
  [
    'minProperties of declared ones',
    { ...closed, minProperties: 2 },
    [
      { a: 1, c: 2 },
      { a: 1, b: 2, c: 3 },
    ],
    [{}, { b: 1 }],
  ],
  ['maxProperties below the declared ones', { ...closed, maxProperties: 1 }, [{}, { b: 1 }], [{ a: 1, b: 2 }]],
  [
    'both',
    { ...closed, required: ['b'], minProperties: 2, maxProperties: 2 },
    [
      { a: 1, b: 2 },
      { b: 1, c: 2 },
    ],
    [{ b: 1 }, { a: 1, b: 2, c: 3 }],
  ],
  [
    'others count as one',
    { type: 'object', properties: { a: {} }, additionalProperties: { type: 'null' }, minProperties: 2 },
    [
      { a: 1, x: null },
      { a: 1, x: null, y: null },
    ],
    [{ a: 1 }, { x: null }],
  ],
  [
    'lists beside keywords of objects and arrays',
    {
      enum: [{ n: 1 }, { n: 'x' }, { m: 1 }, [1, 2], [1, 2, 3], 'free'],
      properties: { n: { type: 'integer' } },
      required: ['n'],
      maxItems: 2,
    },
    [{ n: 1 }, [1, 2], 'free'],
    [{ n: 'x' }, { m: 1 }, [1, 2, 3]],
  ],
  ['lists beside multipleOf', { enum: [3, 4, 6.5], multipleOf: 1.5 }, [3], [4, 6.5]],
  ['lists beside a format', { enum: ['2020-02-29', '2020-01-01'], format: 'date' }, ['2020-02-29'], ['2021-02-29']],
  [
    'names with look-ahead',
    { type: 'object', patternProperties: { '^(?!@@)[a-z@]+$': { type: 'integer' } }, additionalProperties: { type: 'null' } },
    [{ ab: 1 }, { '@@a': null }, { '@a': 1 }],
    [{ ab: null }, { '@@a': 1 }],
  ],
  ['addresses of bounded length', { type: 'string', format: 'email', maxLength: 254 }, [email], ['a@b', `a@${'b'.repeat(70)}.com`]],
  ['addresses of few characters', { type: 'string', format: 'email', maxLength: 10 }, ['a@b.co'], [email]],
  ['Unicode properties', { type: 'string', pattern: '^\\p{Lu}\\P{L}$' }, ['Ä1', 'Ω!'], ['ä1', 'ÄB']],
  ['bounds beyond any number that is written', { type: 'number', maximum: 1.79769e308, minimum: 0 }, [0, 12.5], [-1]],
  ['no item of a kind', { type: 'array', not: { contains: { type: 'string' } } }, [[], [1, null]], [['x'], [1, 'x']]],
])('%s', (_, schema, written, broken) => {
  const reads = reader(schema);
  expect(written.filter((value) => !reads(value))).toEqual([]);
  expect(broken.filter(reads)).toEqual([]);
});

test('a property that nobody knows and a list of which nothing is left are refused by name', () => {
  expect(() => compileJsonSchema({ type: 'string', pattern: '\\p{Nothing}' }, { compact: true })).toThrow('an unknown Unicode property');
  expect(() => compileJsonSchema({ enum: [{ a: 1 }], required: ['b'] }, { compact: true })).toThrow('no text at all');
});
