/** Constraints made to cost much: each is refused, and the refusal names what was too much. */
import { expect, test } from 'vitest';
import { MillraceError } from '../../base/errors.ts';
import { WorkSpent, withWork } from './limits.ts';
import { compileStructuredOutput, type StructuredOutput } from './structured-output.ts';

const nested = (depth: number): unknown => (depth === 0 ? { type: 'null' } : { type: 'array', items: nested(depth - 1) });
const one = (schema: object): StructuredOutput => ({ json: { type: 'object', properties: { p: schema } } });
const eitherOr = (count: number) => Array.from({ length: count }, (_, i) => ({ oneOf: [{ required: [`a${i}`] }, { required: [`b${i}`] }] }));
const inPairs = (name: string) => ({ allOf: [{ $ref: `#/$defs/${name}` }, { $ref: `#/$defs/${name}` }] });

test.each<[string, StructuredOutput, string, string]>([
  ['deep nesting', { json: nested(5000) }, 'GRAMMAR_TOO_LARGE', 'the schema. Expected at most 200 levels'],
  [
    'an exponential oneOf',
    { json: { allOf: eitherOr(12) } },
    'GRAMMAR_TOO_LARGE',
    'the combinations of anyOf, oneOf and allOf. Expected at most 512',
  ],
  ['a pattern that is none', one({ type: 'string', pattern: '(' }), 'GRAMMAR_INVALID', 'The pattern "(" has a group that is not closed'],
  ['a pattern of too many states', one({ type: 'string', pattern: '^(a|b)*a(a|b){30}$' }), 'GRAMMAR_TOO_LARGE', 'format at #/properties/p. Expected'],
  [
    'a pattern of nested bounds',
    one({ type: 'string', pattern: '^((a{1,1000}){1,1000})$' }),
    'GRAMMAR_TOO_LARGE',
    'the pattern "^((a{1,1000}){1,1000})$"',
  ],
  ['a pattern of nested groups', one({ pattern: `^${'('.repeat(500)}${')'.repeat(500)}` }), 'GRAMMAR_TOO_LARGE', '200 nested groups'],
  ['look-ahead that multiplies', one({ pattern: `^${'(?=.*a.{20})'.repeat(20)}` }), 'GRAMMAR_TOO_LARGE', 'the pattern or format at #/properties/p'],
  ['a huge count', one({ type: 'array', minItems: 5_000_000 }), 'GRAMMAR_TOO_LARGE', 'a bound of a repetition. Expected at most 1000000'],
  ['huge counts in a grammar', { grammar: 'root ::= ("a"{1,9999999}){1,9999999}' }, 'GRAMMAR_TOO_LARGE', 'a bound of a repetition'],
  [
    'references in a circle',
    { json: { $defs: { a: { $ref: '#/$defs/b' }, b: { $ref: '#/$defs/a' } }, $ref: '#/$defs/a' } },
    'GRAMMAR_INVALID',
    'no text',
  ],
  ['a circle that doubles', { json: { $defs: { a: inPairs('b'), b: inPairs('a') }, $ref: '#/$defs/a' } }, 'GRAMMAR_TOO_LARGE', 'allOf at #/$defs/a'],
  ['a schema that is not itself', { json: { not: { $ref: '#' } } }, 'GRAMMAR_INVALID', 'no text at all'],
  ['left recursion', { grammar: 'root ::= list\nlist ::= list "," | "x"' }, 'GRAMMAR_INVALID', 'The rule list can come back to itself'],
  ['a huge divisor', one({ type: 'integer', multipleOf: 123_456_789 }), 'GRAMMAR_TOO_LARGE', 'the "multipleOf" at #/properties/p'],
  [
    'too many properties',
    { json: { properties: Object.fromEntries(Array.from({ length: 30_000 }, (_, i) => [`p${i}`, { maxLength: i }])) } },
    'GRAMMAR_TOO_LARGE',
    'the rule #/properties/p',
  ],
])('%s is refused by name', (_, wanted, code, culprit) => {
  let thrown: unknown;
  try {
    compileStructuredOutput(wanted);
  } catch (error) {
    thrown = error;
  }
  expect(thrown).toBeInstanceOf(MillraceError);
  expect(thrown).toMatchObject({ code, message: expect.stringContaining(culprit) });
});

test('a short pattern that takes long is told from one that does not, so that it can be compiled elsewhere', () => {
  const long = one({ type: 'string', pattern: '^(a|b)*a(a|b){9}$' });
  expect(() => withWork(1000, () => compileStructuredOutput(long))).toThrow(WorkSpent);
  expect(withWork(1000, () => compileStructuredOutput(one({ type: 'string', pattern: '^[a-z]+$' }))).numNodes).toBeGreaterThan(0);
  // the limit ends with the work
  expect(compileStructuredOutput(long).numNodes).toBeGreaterThan(0);
});
