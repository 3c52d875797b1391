import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ByteTokenizer } from '../../tokenizer/byte-tokenizer.ts';
import { CompiledGrammar } from './matcher.ts';
import { compileStructuredOutput, type StructuredOutput } from './structured-output.ts';
import { VocabularyTrie } from './vocabulary-trie.ts';

const trie = new VocabularyTrie(new ByteTokenizer(256), 256, [0]);
const compile = (wanted: StructuredOutput) => new CompiledGrammar(compileStructuredOutput(wanted), trie);
const accepts = (grammar: CompiledGrammar, text: string) => grammar.accepts(new TextEncoder().encode(text));

describe('a pattern', () => {
  test.each([
    '[a-c]+x{2,3}',
    '(ab|a)(bc|c)?',
    '^\\d{1,3}(\\.\\d+)?$',
    '(a*)*b',
    '[^a-b]c?|\\w\\s',
    'a.c',
    '(?:a|(?<n>b))+?',
    '\\u0061[\\x62-\\x63]',
    '[\\d-]b',
    '(?=.*1)(?!.*b)[abx1]{1,3}',
    '^a(x|$)|(^|b)c$',
    'é+|😀{2}',
  ])('%s matches whole texts as RegExp does', (source) => {
    const grammar = compile({ regex: source });
    const oracle = new RegExp(`^(?:${source})$`, 'u');
    const text = fc.string({ unit: fc.constantFrom('a', 'b', 'c', 'x', '1', '.', '-', ' ', 'é', '😀', '\n'), maxLength: 6 });
    fc.assert(
      fc.property(text, (sample) => {
        expect(accepts(grammar, sample)).toBe(oracle.test(sample));
      }),
      { numRuns: 300 },
    );
  });

  test.each(['^(?!ab)[a-c]+$', '^(?=.*1)(?=.*a).{2,5}$', 'a$|^b', '(^a|x)c*', '(^|-)a($|-)', '^$', '$^|abc', 'ab|bc|ca|abc'])(
    'a schema with the pattern %s holds the strings in which RegExp finds it',
    (pattern) => {
      const grammar = compile({ json: { type: 'string', pattern } });
      const oracle = new RegExp(pattern, 'u');
      const text = fc.string({ unit: fc.constantFrom('a', 'b', 'c', 'x', '1', '-'), maxLength: 6 });
      fc.assert(
        fc.property(text, (sample) => {
          expect(accepts(grammar, JSON.stringify(sample))).toBe(oracle.test(sample));
        }),
        { numRuns: 300 },
      );
    },
  );

  test('a pattern or format beside a long maxLength is kept to shorter texts, never longer ones', () => {
    const grammar = compile({ json: { type: 'string', pattern: '^[a-z]+@[a-z]+$', minLength: 3, maxLength: 30_000 } });
    for (const length of [1, 60, 400]) expect(accepts(grammar, `"${'a'.repeat(length)}@b"`)).toBe(true);
    for (const length of [29_999, 40_000]) expect(accepts(grammar, `"${'a'.repeat(length)}@b"`)).toBe(false);
    expect(() => compile({ json: { type: 'string', pattern: '^[a-z]+@[a-z]+$', minLength: 5000, maxLength: 30_000 } })).toThrow(
      expect.objectContaining({ code: 'GRAMMAR_TOO_LARGE' }),
    );
  });

  test.each(['(', 'a)', '[a', '*', 'a{3,1}', '\\q', 'x{'])('%s is refused as malformed', (regex) => {
    expect(() => compile({ regex })).toThrow(expect.objectContaining({ code: 'GRAMMAR_INVALID' }));
  });

  test.each(['a(?=b)b', '(?<!a)b', '(a)\\1', '\\bword'])('%s is refused as not enforceable', (regex) => {
    expect(() => compile({ regex })).toThrow(expect.objectContaining({ code: 'GRAMMAR_UNSUPPORTED' }));
  });
});

test('a choice takes one of its texts and nothing else', () => {
  const grammar = compile({ choice: ['yes', 'no', 'not sure', 'no'] });
  for (const text of ['yes', 'no', 'not sure']) expect(accepts(grammar, text)).toBe(true);
  for (const text of ['', 'y', 'not', 'nono']) expect(accepts(grammar, text)).toBe(false);
});

test.each([
  ['none', {}],
  ['two', { regex: 'a', choice: ['a'] }],
  ['an empty choice', { choice: [] }],
  ['a schema that is no JSON', { json: '{' }],
])('exactly one well-formed constraint is taken: %s', (_, wanted) => {
  expect(() => compile(wanted)).toThrow(expect.objectContaining({ code: 'GRAMMAR_INVALID' }));
});

test('any JSON object is one that JSON.parse reads', () => {
  const grammar = compile({ jsonObject: true, disableAnyWhitespace: true });
  fc.assert(
    fc.property(fc.dictionary(fc.string(), fc.jsonValue()), (value) => {
      const text = JSON.stringify(value);
      fc.pre(!/\de[+-]\d{3}/.test(text)); // beyond the exponents that are generated
      expect(accepts(grammar, text), text).toBe(true);
    }),
    { numRuns: 200 },
  );
  for (const text of ['[]', '1', '{"a":}', '{"a":1,}', "{'a':1}", '{"a":01}', '{"a":"\t"}']) expect(accepts(grammar, text), text).toBe(false);
});

describe('a grammar in GBNF', () => {
  test('has rules, groups, classes, escapes, bounds and comments', () => {
    const grammar = compile({
      grammar: `
        # a list of sums
        root  ::= sum (", " sum)*   # separated
        sum ::= term ( "+" term
                     | "-" term )*
          | "nothing"
        term ::= [1-9] [0-9]{0,2} | "(" sum ")" | [^\\x00-\\x7F]
      `,
    });
    for (const text of ['1', '12+345', '(1+2)-3, nothing', 'é', '1, 2']) expect(accepts(grammar, text), text).toBe(true);
    for (const text of ['', '01', '1234', '(1', '1,2', 'e']) expect(accepts(grammar, text), text).toBe(false);
  });

  test.each([
    ['no root', 'start ::= "a"', 'root'],
    ['an undefined rule', 'root ::= other', 'other'],
    ['left recursion', 'root ::= root "a" | "b"', 'root'],
    ['hidden left recursion', 'root ::= empty tail\nempty ::= "x"?\ntail ::= root "a" | "b"', 'left recursion'],
    ['no text at all', 'root ::= "a" root', 'no text'],
    ['an open literal', 'root ::= "a', 'line 1'],
    ['an unknown escape', 'root ::= "\\q"', '\\q'],
  ])('%s is refused by name', (_, grammar, name) => {
    expect(() => compile({ grammar })).toThrow(expect.objectContaining({ code: 'GRAMMAR_INVALID', message: expect.stringContaining(name) }));
  });

  test('right recursion needs no stack', () => {
    expect(accepts(compile({ grammar: 'root ::= "a" root | "b"' }), `${'a'.repeat(50_000)}b`)).toBe(true);
  });
});

const folder = join(process.env.MILLRACE_SHARED ?? fileURLToPath(new URL('../../../../shared', import.meta.url)), 'data/grammars-gbnf');
describe.skipIf(!existsSync(folder))("llama.cpp's own grammars", () => {
  const files = existsSync(folder) ? readdirSync(folder).filter((name) => name.endsWith('.gbnf')) : [];
  test.each(files)('%s compiles', (name) => {
    compile({ grammar: readFileSync(join(folder, name), 'utf8') });
  });
});
