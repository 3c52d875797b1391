/** What a hostile template cannot do: run long, fill memory, or reach anything that it was not given. */
import { describe, expect, test } from 'vitest';
import { renderJinja } from '../../../test/fixtures/render-jinja.ts';
import { TemplateTooLarge } from './errors.ts';
import { JinjaTemplate } from './jinja-template.ts';
import { Runtime } from './runtime.ts';

const doubling = (step: string, end: string): string => `{% set ns = namespace(x=[1], y=[1]) %}{% for i in range(60) %}${step}{% endfor %}${end}`;

describe('a bound', () => {
  test.each([
    ['loops in loops', '{% for a in range(90000) %}{% for b in range(90000) %}{% set c = b %}{% endfor %}{% endfor %}', 'steps'],
    ['a long string', "{{ 'a' * 10**9 }}", 'text of more'],
    ['a string that doubles', doubling('{% set ns.x = ns.x ~ ns.x %}', ''), 'text of more'],
    ['long strings again and again', "{% for i in range(100000) %}{{ ('a' * 4000000)|length }}{% endfor %}", 'steps'],
    ['a long list', '{{ [0] * 10**9 }}', 'list of more'],
    ['a list that doubles', doubling('{% set ns.x = ns.x + ns.x %}', ''), 'list of more'],
    ['many lists', '{% set ns = namespace(x=[]) %}{% for i in range(100000) %}{% set ns.x = ns.x + [range(100000)|list] %}{% endfor %}', 'steps'],
    ['a macro that calls itself', '{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}', 'nests'],
    [
      'callers in callers',
      '{% macro m() %}{{ caller() }}{% endmacro %}{% macro n() %}{% call m() %}{{ n() }}{% endcall %}{% endmacro %}{{ n() }}',
      'nests',
    ],
    ['many arguments', '{% macro m() %}{{ m(*range(100000)) }}{{ varargs }}{% endmacro %}{{ m() }}', 'arguments'],
    ['deep data, printed', doubling('{% set ns.x = [[[[ns.x]]]] %}', '{{ ns.x }}'), 'nested deeper'],
    ['deep data, as JSON', doubling('{% set ns.x = [[[[ns.x]]]] %}', '{{ ns.x|tojson }}'), 'nested deeper'],
    ['data that holds itself', '{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}', 'nested deeper'],
    ['data that shows itself twice a level, printed', doubling('{% set ns.x = [ns.x, ns.x] %}', '{{ ns.x }}'), 'text of more'],
    ['such data compared', doubling('{% set ns.x = [ns.x, ns.x] %}{% set ns.y = [ns.y, ns.y] %}', '{{ ns.x == ns.y }}'), 'steps'],
    [
      'such data as a key',
      '{% set ns = namespace(x=()) %}{% for i in range(60) %}{% set ns.x = (ns.x, ns.x) %}{% endfor %}{{ {ns.x: 1} }}',
      'long tuple',
    ],
    [
      'deep data as a key',
      '{% set ns = namespace(x=()) %}{% for i in range(90000) %}{% set ns.x = (ns.x,) %}{% endfor %}{{ {ns.x: 1} }}',
      'too deep',
    ],
    [
      'filters of filters',
      "{% set ns = namespace(x=[1]) %}{% for i in range(50000) %}{% set ns.x = ns.x|map('string') %}{% endfor %}{{ ns.x|list }}",
      'too deep',
    ],
    ['replace', "{{ ('a' * 100000)|replace('a', 'b' * 1000) }}", 'text of more'],
    ['join', "{{ range(100000)|join('x' * 100000) }}", 'text of more'],
    ['split', "{{ ('a ' * 2000000).split(' ') }}", 'list of more'],
    ['indent', "{{ ('a\\n' * 100000)|indent(100000) }}", 'text of more'],
    ['center', "{{ 'a'|center(10**9) }}", 'text of more'],
    ['ljust', "{{ 'a'.ljust(10**12) }}", 'text of more'],
    ['zfill', "{{ '1'.zfill(10**9) }}", 'text of more'],
    ['expandtabs', "{{ ('\\t' * 100000).expandtabs(100000) }}", 'text of more'],
    ['format', "{{ '{:1000000000}'.format(1) }}", 'text of more'],
    ['fields of format', "{{ ('{0}' * 100000).format('a' * 1000000) }}", 'text of more'],
    ['percent', "{{ '%*d' % (1000000000, 1) }}", 'text of more'],
    ['digits', "{{ '{:.1000000000f}'.format(1.5) }}", 'digits'],
    ['tojson', "{{ range(100000)|list|tojson(separators=('x' * 100000, ':')) }}", 'text of more'],
    ['batch', "{{ [1]|batch(10**9, 'x')|list }}", 'list of more'],
    ['slice', '{{ [1]|slice(10**9)|list }}', 'list of more'],
    ['powers', '{{ 10 ** (10 ** 8) }}', 'integer of more'],
    ['squares of squares', '{% set ns = namespace(x=10) %}{% for i in range(100) %}{% set ns.x = ns.x * ns.x %}{% endfor %}', 'integer of more'],
    ['output', "{% for i in range(100000) %}{{ 'a' * 1000000 }}{% endfor %}", 'text of more'],
  ])('stops %s', (_, template, reason) => {
    let thrown: unknown;
    try {
      renderJinja(template);
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(TemplateTooLarge);
    expect(String(thrown)).toMatch(new RegExp(`${reason}|steps|longer`));
  });

  test('on ranges is that of the sandbox of Python', () => {
    expect(renderJinja('{{ range(100000)|length }}')).toBe('100000');
    expect(renderJinja('{{ range(100001) }}')).toEqual({
      error: 'OverflowError: Range too big. The sandbox blocks ranges larger than MAX_RANGE (100000).',
    });
  });

  test('on time holds within built-ins, whatever a step costs', () => {
    for (const template of [
      "{% set a = 'a' * 4000000 %}{% set b = 'a' * 4000000 %}{% for i in range(100) %}{{ a == b }}{% endfor %}",
      '{% for i in range(100) %}{{ range(100000)|sort|length }}{% endfor %}',
      '{{ range(100000)|map("string")|list|join|replace("1", "22")|length }}',
    ]) {
      let clock = 0;
      const rt = new Runtime(() => (clock += 500));
      expect(() => new JinjaTemplate(template).render(new Map(), rt)).toThrow('it takes longer than 2000 ms');
      expect(clock).toBe(3000);
    }
  });

  test('leaves room for what templates need', () => {
    expect(renderJinja('{% macro f(n) %}{{ n }}{% if n %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(100)|length }}')).toBe('193');
    expect(renderJinja("{{ ('word ' * 200000)|replace('o', '0')|upper|trim|length }}")).toBe('999999');
    expect(renderJinja('{{ (range(100000)|list|tojson|length) }}')).toBe('688890');
  });
});

describe('the sandbox', () => {
  const names = [
    'constructor',
    '__proto__',
    'prototype',
    'toString',
    'valueOf',
    'hasOwnProperty',
    'call',
    'apply',
    'bind',
    'push',
    'forEach',
    'size',
    'text',
    'attributes',
  ];
  const objects = [
    's',
    'l',
    'd',
    'i',
    'f',
    't',
    'n',
    '(1,)',
    'range(3)',
    'd.items()',
    'd.items',
    'namespace()',
    'range',
    "('a'|safe)",
    'l|map("string")',
    'cycler(1)',
    'joiner()',
    '10**30',
    '1.0',
  ];

  test('shows no property of JavaScript objects', () => {
    for (const name of names) {
      for (const object of objects) {
        expect(renderJinja(`{{ (${object}).${name} is defined }}`), `${object}.${name}`).toBe('False');
        expect(renderJinja(`{{ (${object})['${name}'] is defined }}`), `${object}['${name}']`).toBe('False');
        expect(renderJinja(`{{ (${object})|attr('${name}') is defined }}`), `${object}|attr('${name}')`).toBe('False');
      }
      expect(renderJinja(`{{ ${name} is defined }}`)).toBe('False');
      expect(renderJinja(`{{ '{0.${name}}'.format(s) }}`)).toBe('');
      expect(renderJinja(`{{ 1|${name} }}`)).toHaveProperty('error');
      expect(renderJinja(`{{ 1 is ${name} }}`)).toHaveProperty('error');
      expect(renderJinja(`{{ [1]|map('${name}')|list }}`)).toHaveProperty('error');
      expect(renderJinja(`{{ s.${name}() }}`)).toHaveProperty('error');
    }
  });

  test('shows nothing of what Python keeps under double underscores', () => {
    for (const name of ['__class__', '__init__', '__globals__', '__subclasses__', '__dict__'])
      for (const object of ['s', 'l', 'd', 'i', 'range', 'namespace()']) expect(renderJinja(`{{ ${object}.${name}.x }}`)).toHaveProperty('error');
  });

  test('holds keys named like properties of JavaScript objects as data', () => {
    expect(renderJinja("{% set x = {'__proto__': 1, 'constructor': 2} %}{{ x['__proto__'] }}{{ x.constructor }}{{ x }}")).toBe(
      "12{'__proto__': 1, 'constructor': 2}",
    );
    expect(renderJinja('{% set ns = namespace() %}{% set ns.__proto__ = 5 %}{{ ns }}{% set constructor = 6 %}{{ constructor }}')).toBe(
      "<Namespace {'__proto__': 5}>6",
    );
    expect(renderJinja('{{ x.a }}{{ x.constructor }}{{ f2 }}', { x: JSON.parse('{"a": 1, "__proto__": {"constructor": 3}}'), f2: () => 1 })).toBe(
      '1None',
    );
  });

  test('changes nothing that it was given', () => {
    const given = { list: [1, 2, 3], dict: { a: 1 } };
    for (const change of [
      'list.append(4)',
      'list.pop()',
      'list.sort()',
      'list.clear()',
      'dict.update({1: 2})',
      "dict.pop('a')",
      'dict.clear()',
      "dict.setdefault('b', 1)",
    ])
      expect(renderJinja(`{{ ${change} }}`, given)).toMatchObject({ error: expect.stringContaining('SecurityError: access to attribute') });
    expect(renderJinja('{{ list|sort(reverse=true) }}{{ list|reverse|list }}{{ list }}', given)).toBe('[3, 2, 1][3, 2, 1][1, 2, 3]');
    expect(given).toEqual({ list: [1, 2, 3], dict: { a: 1 } });
  });
});
