import { describe, expect, test } from 'vitest';
import { renderJinja } from '../../../test/fixtures/render-jinja.ts';
import { JinjaTemplate } from './jinja-template.ts';

const syntaxError = (message: string) => expect.objectContaining({ kind: 'TemplateSyntaxError', message: expect.stringContaining(message) });

describe('a template with a mistake', () => {
  test.each([
    ['{{ }}', "Expected an expression, got 'end of print statement'"],
    ['{{ 1 + }}', "unexpected 'end of print statement'"],
    ['{{ a b }}', "expected token 'end of print statement', got 'b'"],
    ["{{ 'a }}", "unexpected char ''' at 3"],
    ['{{ 1 ! 2 }}', "unexpected char '!' at 5"],
    ['{{ (1 }}', "unexpected '}', expected ')'"],
    ['{{ 1) }}', "unexpected ')'"],
    ['{{ a is b is c }}', 'You cannot chain multiple tests with is'],
    ['{{ f(a=1, 2) }}', 'invalid syntax for function call expression'],
    ['{{ a..b }}', 'expected name or number'],
    ['{% if 1 %}', "Unexpected end of template. Jinja was looking for the following tags: 'elif', 'else' or 'endif'."],
    ['{% for x in y %}{% endif %}', "Encountered unknown tag 'endif'. Jinja was looking for the following tags: 'endfor' or 'else'."],
    ['{% foo %}', "Encountered unknown tag 'foo'."],
    ['{% for x %}{% endfor %}', "expected token 'in', got 'end of statement block'"],
    ['{% set 1 = 2 %}', "can't assign to 'const"],
    ['{% set a.b.c = 1 %}', "expected token 'end of statement block', got '.'"],
    ['{% macro f(a=1,b) %}{% endmacro %}', 'non-default argument follows default argument'],
    ['{% call f %}{% endcall %}', 'expected call'],
    ['{% break %}', "'break' outside loop"],
    ['{% for x in y %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}', "'break' outside loop"],
    ['{# x', 'Missing end of comment tag'],
    ['{% raw %} x', 'Missing end of raw directive'],
    ["{{ '\\x1' }}", 'truncated \\x escape'],
  ])('is refused with the message of Jinja: %s', (template, message) => {
    expect(() => new JinjaTemplate(template)).toThrow(syntaxError(message));
  });

  test('is told by its line', () => {
    expect(() => new JinjaTemplate('a\n{% if 1 %}\n{# two\nlines #}\n  {{ 1 + }}\n{% endif %}')).toThrow(syntaxError('(line 5)'));
  });

  test('cannot overflow the parser, however deep it nests', () => {
    for (const part of ['(', '[', '{1:', '-', 'not ', '1 if 1 else ', 'f(', 'a['])
      expect(() => new JinjaTemplate(`{{ ${part.repeat(50_000)}1`)).toThrow(syntaxError(''));
    for (const part of ['{% if 1 %}', '{% for x in y %}', '{% macro m() %}', '{% call f() %}', '{% filter upper %}', '{% set x %}'])
      expect(() => new JinjaTemplate(part.repeat(10_000))).toThrow(syntaxError(''));
    for (const part of [' + 1', '|upper', '.a', '[0]', '()', ' or 1'])
      expect(() => new JinjaTemplate(`{{ a${part.repeat(50_000)} }}`)).toThrow(syntaxError('more than'));
  });
});

test('a name that does not exist matters only where it is reached', () => {
  expect(renderJinja('{% if false %}{{ 1|nope }}{{ 1 is nope }}{% include "x" %}{% endif %}ok')).toBe('ok');
  expect(renderJinja('{{ 1|nope }}')).toEqual({ error: "TemplateRuntimeError: No filter named 'nope' found." });
  expect(renderJinja('{{ 1 is nope }}')).toEqual({ error: "TemplateRuntimeError: No test named 'nope' found." });
});

test('a template is compiled once and keeps nothing between renderings', () => {
  const template = new JinjaTemplate(
    '{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}{{ left }}{% set left = 1 %}',
  );
  for (const count of [3, 0, 7]) expect(template.render(new Map([['messages', new Array(count).fill(0)]]))).toBe(String(count));
});
