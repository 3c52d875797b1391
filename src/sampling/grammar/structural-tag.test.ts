import { describe, expect, test } from 'vitest';
import { ByteTokenizer } from '../../tokenizer/byte-tokenizer.ts';
import { CompiledGrammar } from './matcher.ts';
import { compileStructuredOutput } from './structured-output.ts';
import { VocabularyTrie } from './vocabulary-trie.ts';

const trie = new VocabularyTrie(new ByteTokenizer(260), 260, [259]);
const compile = (structuralTag: unknown) => new CompiledGrammar(compileStructuredOutput({ structuralTag, disableAnyWhitespace: true }), trie);
const accepts = (grammar: CompiledGrammar, text: string) => grammar.accepts(new TextEncoder().encode(text));

const city = { type: 'object', properties: { city: { type: 'string', maxLength: 9 } }, required: ['city'], additionalProperties: false };
const content = { type: 'json_schema', json_schema: city };
const weather = { begin: '<function=weather>', content, end: '</function>' };
const time = { begin: '<function=time>', content: { type: 'regex', pattern: '\\d+' }, end: '</function>' };
const call = '<function=weather>{"city":"Ulm"}</function>';

describe('structural tags', () => {
  test("vLLM's older form: text is free until a trigger opens a structure", () => {
    const grammar = compile({
      type: 'structural_tag',
      structures: [{ begin: '<function=weather>', schema: city, end: '</function>' }],
      triggers: ['<function='],
    });
    for (const text of ['', 'Hello, <b>you</b>.', call, `Let me see. ${call} And ${call}!`, 'a < b', '<function', '<<function', `<<${call}`]) {
      expect(accepts(grammar, text), text).toBe(true);
    }
    for (const text of ['<function=', '<function=other>{}</function>', '<function=weather>{"city":1}</function>', `${call}<function=x`]) {
      expect(accepts(grammar, text), text).toBe(false);
    }
  });

  test('at_least_one and stop_after_first', () => {
    const of = (more: object) =>
      compile({ type: 'structural_tag', format: { type: 'triggered_tags', triggers: ['<function='], tags: [weather, time], ...more } });
    const once = of({ at_least_one: true, stop_after_first: true });
    expect(['', 'text', call, `text ${call}`, `${call} text`, call + call].map((text) => accepts(once, text))).toEqual([
      false,
      false,
      true,
      true,
      false,
      false,
    ]);
    const some = of({ at_least_one: true });
    expect(['text', `text ${call} text <function=time>12</function> end`].map((text) => accepts(some, text))).toEqual([false, true]);
    const most = of({ stop_after_first: true });
    expect(['text', call, `${call} more`].map((text) => accepts(most, text))).toEqual([true, true, false]);
  });

  test('sequences, choices, separators, grammars and text inside of tags', () => {
    const think = { type: 'tag', begin: '<think>', content: { type: 'any_text' }, end: '</think>' };
    const grammar = compile({
      format: { type: 'sequence', elements: [think, { type: 'or', elements: [content, { type: 'const_string', value: 'no' }] }] },
    });
    for (const text of ['<think></think>no', '<think>a < b </thin</think>{"city":"Ulm"}']) expect(accepts(grammar, text), text).toBe(true);
    for (const text of ['no', '<think>no', '<think></think></think>no', '<think></think>yes']) expect(accepts(grammar, text), text).toBe(false);
    const list = compile({ format: { type: 'tags_with_separator', separator: ', ', tags: [time, weather], at_least_one: true } });
    expect([call, `${call}, <function=time>7</function>`, `${call}${call}`, ''].map((text) => accepts(list, text))).toEqual([
      true,
      true,
      false,
      false,
    ]);
    expect(accepts(compile({ format: { type: 'grammar', grammar: 'root ::= "a" b\nb ::= [0-9]+' } }), 'a12')).toBe(true);
  });

  test.each([
    ['no structures', { structures: [], triggers: ['<'] }, 'GRAMMAR_INVALID'],
    ['a trigger that opens nothing', { structures: [{ begin: 'a', schema: {}, end: 'b' }], triggers: ['a', 'c'] }, 'GRAMMAR_INVALID'],
    ['a tag that nothing opens', { structures: [{ begin: 'a', schema: {}, end: 'b' }], triggers: ['c'] }, 'GRAMMAR_INVALID'],
    ['an empty trigger', { structures: [{ begin: 'a', schema: {}, end: 'b' }], triggers: [''] }, 'GRAMMAR_INVALID'],
    ['a form that nobody knows', { format: { type: 'magic' } }, 'GRAMMAR_UNSUPPORTED'],
    ['a schema that cannot be held', { format: { type: 'json_schema', json_schema: { uniqueItems: true } } }, 'GRAMMAR_UNSUPPORTED'],
    ['text that is no JSON', '{', 'GRAMMAR_INVALID'],
  ])('%s is refused', (_, structuralTag, code) => {
    expect(() => compile(structuralTag)).toThrow(expect.objectContaining({ code }));
  });
});
