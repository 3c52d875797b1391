/** Random templates: whatever they say, they render or fail as they should, and never otherwise. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { MillraceError } from '../../base/errors.ts';
import { ChatTemplate } from '../template.ts';
import { JinjaError, TemplateTooLarge } from './errors.ts';
import { filters } from './filters.ts';
import { isTests } from './is-tests.ts';
import { stringMethods } from './string-methods.ts';

const variables = { s: 'some Text', n: null, i: 3, f: 0.5, l: [3, 'a', null, [1]], d: { a: 1, b: { c: 'x' } }, m: [{ role: 'user', content: 'hi' }] };
const names = fc.constantFrom(...Object.keys(variables), 'undef', 'loop', 'range', 'namespace', 'ns');
const literals = fc.constantFrom(
  '0',
  '1',
  '-7',
  '2.5',
  '1e30',
  '10**20',
  "''",
  "'a,b'",
  "'{0} %s'",
  '[]',
  '[1, 2]',
  '(1, 2)',
  "{'a': 1}",
  'true',
  'none',
  "'🙂é'",
);
const operators = fc.constantFrom('+', '-', '*', '/', '//', '%', '**', '~', '==', '<', '>=', 'in', 'not in', 'and', 'or');

const { expression } = fc.letrec<{ expression: string }>((tie) => ({
  expression: fc.oneof(
    { maxDepth: 4, withCrossShrink: true },
    names,
    literals,
    fc.tuple(tie('expression'), operators, tie('expression')).map(([a, operator, b]) => `(${a}) ${operator} (${b})`),
    fc.tuple(tie('expression'), fc.constantFrom(...filters.keys())).map(([a, filter]) => `(${a})|${filter}`),
    fc.tuple(tie('expression'), fc.constantFrom(...filters.keys()), tie('expression')).map(([a, filter, b]) => `(${a})|${filter}(${b})`),
    fc
      .tuple(
        tie('expression'),
        fc.constantFrom(...isTests.keys()).filter((name) => /^\w+$/.test(name)),
      )
      .map(([a, name]) => `(${a}) is ${name}`),
    fc
      .tuple(tie('expression'), fc.constantFrom(...stringMethods.keys(), 'format', 'items', 'get', 'index'))
      .map(([a, method]) => `(${a}).${method}()`),
    fc
      .tuple(tie('expression'), fc.constantFrom(...stringMethods.keys(), 'format', 'get', 'index'), tie('expression'))
      .map(([a, method, b]) => `(${a}).${method}(${b})`),
    fc.tuple(tie('expression'), tie('expression')).map(([a, b]) => `(${a})[${b}]`),
    fc.tuple(tie('expression'), tie('expression'), tie('expression')).map(([a, b, c]) => `(${a})[${b}:${c}]`),
    fc.tuple(tie('expression'), tie('expression'), tie('expression')).map(([a, b, c]) => `(${a}) if (${b}) else (${c})`),
  ),
}));
const tag = fc.oneof(
  expression.map((value) => `{{ ${value} }}`),
  expression.map((value) => `{% set x = ${value} %}{{ x|list }}`),
  expression.map((value) => `{% for x in ${value} %}{{ loop.nextitem }}{{ x }}{% endfor %}`),
  expression.map((value) => `{% for a, b in ${value} if a %}{{ loop.length }}{% else %}-{% endfor %}`),
  expression.map((value) => `{% if ${value} %}a{% elif s %}b{% endif %}`),
  expression.map((value) => `{% macro q(a, b=${value}) %}{{ a }}{{ b }}{{ varargs }}{% endmacro %}{{ q(${value}) }}{{ q() }}`),
  expression.map((value) => `{% filter indent %}{{ ${value} }}{% endfilter %}`),
  expression.map((value) => `{% set ns = namespace(a=1) %}{% set ns.b = ${value} %}{{ ns.b }}`),
);

/** @returns whether the template ran to its end */
function check(source: string): boolean {
  try {
    ChatTemplate.compile(source, {}).renderVariables(variables);
    return true;
  } catch (thrown) {
    expect(thrown, source).toBeInstanceOf(MillraceError);
    const { code, cause } = thrown as MillraceError;
    expect(code).toMatch(/^(CHAT_TEMPLATE_FAILED|MODEL_CONFIG_INVALID)$/);
    expect(cause instanceof JinjaError || cause instanceof TemplateTooLarge, `${source}: ${String((cause as Error).stack)}`).toBe(true);
    return false;
  }
}

test('templates of random statements render or fail by an error of Jinja or a bound', () => {
  let rendered = 0;
  fc.assert(
    fc.property(fc.array(tag, { minLength: 1, maxLength: 2 }), (tags) => {
      if (check(tags.join(' '))) rendered++;
    }),
    { numRuns: 1500 },
  );
  expect(rendered).toBeGreaterThan(100);
});

test('templates of random tokens render or are refused', () => {
  const token = fc.oneof(
    fc.constantFrom(
      '{{',
      '}}',
      '{%',
      '%}',
      '{#',
      '#}',
      '-',
      '+',
      "'",
      '"',
      '\\',
      '(',
      ')',
      '[',
      ']',
      '{',
      '}',
      '|',
      '.',
      ',',
      ':',
      '=',
      '~',
      '**',
      '\n',
      ' ',
    ),
    fc.constantFrom(
      'if',
      'else',
      'elif',
      'endif',
      'for',
      'in',
      'endfor',
      'set',
      'endset',
      'macro',
      'endmacro',
      'call',
      'endcall',
      'raw',
      'endraw',
      'is',
      'not',
    ),
    names,
    literals,
    fc.string({ unit: 'binary', maxLength: 3 }),
  );
  fc.assert(
    fc.property(fc.array(token, { maxLength: 25 }), (tokens) => {
      check(tokens.join(' '));
      check(`{{ ${tokens.join(' ')} }}`);
    }),
    { numRuns: 1500 },
  );
});
