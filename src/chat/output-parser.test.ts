import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type AssembledOutput, assemble, fed, splits } from '../../test/fixtures/output-events.ts';
import { loadTokenizer } from '../../test/fixtures/tokenizers.ts';
import { IncrementalDetokenizer } from '../tokenizer/detokenizer.ts';
import type { OutputEvent } from './output-events.ts';
import { type OutputFormats, OutputParser, type OutputParserOptions, outputFormats } from './output-parser.ts';
import { beginsInReasoning, reasoningFormatNamed, reasoningFormatOf } from './reasoning.ts';
import { toolCallFormatNamed, toolCallFormatOf } from './tool-calls/index.ts';

const tools = [
  { name: 'weather', parameters: { type: 'object', properties: { city: { type: 'string' }, days: { type: 'integer' } } } },
  { name: 'stop', parameters: {} },
];

function formats(toolCalls: string | null, reasoning: string | null = 'think'): OutputFormats {
  return { toolCalls: toolCallFormatNamed(toolCalls), reasoning: reasoningFormatNamed(reasoning), markers: new Map() };
}

/** Parses a text whole, and in every number of equal pieces, which must not matter. */
function parse(given: OutputFormats, text: string, options: OutputParserOptions = {}): AssembledOutput {
  const parser = () => new OutputParser(given, { tools, drawId: () => 'id', ...options });
  const whole = assemble(fed(parser(), [text]));
  for (const size of [1, 2, 3, 5, 8]) expect(assemble(fed(parser(), splits(text, sizes(size))))).toEqual(whole);
  return whole;
}

function* sizes(size: number): Generator<number> {
  for (;;) yield size;
}

const call = (name: string, args: string, isEnded = true, index = 0) => ({ index, id: 'id', name, arguments: args, isEnded });

describe('reasoning', () => {
  test('is told from the answer, without the white space between them', () => {
    expect(parse(formats(null), '<think>\nHm, 2 < 3.\n</think>\n\nYes.\n')).toEqual({ content: 'Yes.\n', reasoning: 'Hm, 2 < 3.', calls: [] });
  });

  test('has begun already when the prompt ends with its tag', () => {
    const think = reasoningFormatNamed('think')!;
    expect(beginsInReasoning(think, 'assistant\n<think>\n')).toBe(true);
    expect(beginsInReasoning(think, 'assistant\n<think>\n\n</think>\n\n')).toBe(false);
    expect(parse(formats(null), 'Hm.</think>Yes.', { beginsInReasoning: true })).toMatchObject({ content: 'Yes.', reasoning: 'Hm.' });
  });

  test('that the model opens once more is opened once', () => {
    expect(parse(formats(null), '<think>Hm.</think>Yes.', { beginsInReasoning: true })).toMatchObject({ content: 'Yes.', reasoning: 'Hm.' });
  });

  test('that never ends is all there is', () => {
    expect(parse(formats(null), '<think>Hm. </thin')).toEqual({ content: '', reasoning: 'Hm. </thin', calls: [] });
  });

  test('stands at the beginning only: tags in an answer are text', () => {
    const text = '  Write <think>like this</think>.';
    expect(parse(formats(null), text)).toEqual({ content: text, reasoning: '', calls: [] });
  });

  test('may hold what looks like a call', () => {
    const output = parse(formats('hermes'), '<think><tool_call>{"name": "stop"}</tool_call></think>No.');
    expect(output).toMatchObject({ content: 'No.', calls: [] });
  });

  test('is found in templates', () => {
    expect(reasoningFormatOf("{{ '<think>' }}")?.name).toBe('think');
    expect(reasoningFormatOf("{{ '[THINK]' }}")?.name).toBe('mistral');
    expect(reasoningFormatOf('{{ messages }}')).toBeNull();
  });
});

describe('calls', () => {
  test('follow content and each other without white space between', () => {
    const text =
      'Let me see.\n<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>\n<tool_call>{"name":"stop","arguments":{}}</tool_call>\n';
    expect(parse(formats('hermes'), text)).toEqual({
      content: 'Let me see.',
      reasoning: '',
      calls: [call('weather', '{"city": "Rome"}'), call('stop', '{}', true, 1)],
    });
  });

  test('are left out beyond the number that was asked for', () => {
    const text = '<tool_call>{"name":"stop","arguments":{}}</tool_call>'.repeat(3);
    expect(parse(formats('hermes'), text, { maxCalls: 1 }).calls).toEqual([call('stop', '{}')]);
  });

  test.each([
    ['arguments before the name', '{"arguments": {"city": "Rome"}, "name": "weather"}', '{"city": "Rome"}'],
    ['arguments as a string of JSON', '{"name": "weather", "arguments": "{\\"city\\": \\"Rome\\"}"}', '{"city": "Rome"}'],
    ['no arguments', '{"name": "weather"}', '{}'],
    ['null for arguments', '{"name": "weather", "arguments": null}', '{}'],
    ['closing tags inside a string', '{"name": "weather", "arguments": {"city": "</tool_call>"}}', '{"city": "</tool_call>"}'],
    ['a bare line break inside a string', '{"name": "weather", "arguments": {"city": "a\nb"}}', '{"city": "a\\nb"}'],
    ['keys that mean nothing here', '{"id": [1, {"a": "}"}], "name": "weather", "arguments": {"city": "Rome"}, "x": 1}', '{"city": "Rome"}'],
  ])('are read with %s', (_, object, args) => {
    expect(parse(formats('hermes'), `<tool_call>\n${object}\n</tool_call>`).calls).toEqual([call('weather', args)]);
  });

  test('that are cut off keep what came, unended', () => {
    expect(parse(formats('hermes'), '<tool_call>{"name": "weather", "arguments": {"city": "Ro').calls).toEqual([
      call('weather', '{"city": "Ro', false),
    ]);
  });

  test.each([
    '<tool_call>not JSON</tool_call>',
    '<tool_call>{"city": "Rome"}</tool_call> and more',
    '<tool_call>{"name": 3',
    '<tool_c',
    '<tool_call>',
  ])('that are none are text: %s', (text) => {
    expect(parse(formats('hermes'), text)).toEqual({ content: text, reasoning: '', calls: [] });
  });

  test.each(['{"answer": 42}', '{"name": "unknown", "parameters": {}}', '{"name": "weather", "city": 1}', '{', 'Hello {"name": "stop"}', ' {} '])(
    'of Llama are not the JSON that somebody asked for: %s',
    (text) => {
      expect(parse(formats('llama3-json'), text)).toEqual({ content: text, reasoning: '', calls: [] });
    },
  );

  test('of Llama may be several', () => {
    const text = '{"name": "weather", "parameters": {"city": "Rome"}}; {"type": "function", "name": "stop", "parameters": {}}';
    expect(parse(formats('llama3-json'), text).calls).toEqual([call('weather', '{"city": "Rome"}'), call('stop', '{}', true, 1)]);
  });

  test('in tags of parameters become JSON by the schema of the tool', () => {
    const text =
      '<tool_call>\n<function=weather>\n<parameter=city>\n5\n</parameter>\n<parameter=days>\n3\n</parameter>\n<parameter=x>\ntwo\nlines\n</parameter>\n</function>\n</tool_call>';
    const [found] = parse(formats('qwen-xml'), text).calls;
    expect(JSON.parse(found!.arguments)).toEqual({ city: '5', days: 3, x: 'two\nlines' });
  });

  test.each(['hermes', 'llama3-json', 'mistral', 'qwen-xml', 'deepseek', 'kimi', 'glm'])(
    'in %s survive any text without a throw or a hang',
    (name) => {
      const words = fc.constantFrom(
        ...[
          '<tool_call>',
          '</tool_call>',
          '{',
          '}',
          '"name"',
          ':',
          '"weather"',
          ',',
          '"arguments"',
          '[',
          ']',
          ' ',
          '\n',
          'x',
          '\\',
          '[TOOL_CALLS]',
          '[ARGS]',
        ],
        ...[
          '<function=',
          '>',
          '<parameter=',
          '</parameter>',
          '</function>',
          '<think>',
          '</think>',
          ';',
          '<arg_key>',
          '</arg_key>',
          '<arg_value>',
          '</arg_value>',
        ],
        ...[
          '<｜tool▁calls▁begin｜>',
          '<｜tool▁call▁begin｜>',
          '<｜tool▁sep｜>',
          '```json',
          '<｜tool▁call▁end｜>',
          '<|tool_call_begin|>',
          '<|tool_calls_section_begin|>',
        ],
      );
      fc.assert(
        fc.property(fc.array(words, { maxLength: 30 }), fc.infiniteStream(fc.integer({ min: 1, max: 9 })), (parts, cuts) => {
          const text = parts.join('');
          const parser = () => new OutputParser(formats(name), { tools, drawId: () => 'id' });
          expect(assemble(fed(parser(), splits(text, cuts)))).toEqual(assemble(fed(parser(), [text])));
        }),
        { numRuns: 300 },
      );
    },
  );
});

describe('tags with a token of their own', () => {
  const marked: OutputFormats = {
    ...formats('mistral', null),
    markers: new Map([
      [5, { spelling: '[TOOL_CALLS]', isSpecial: true }],
      [6, { spelling: '[ARGS]', isSpecial: true }],
    ]),
  };

  test('are known by the token and never by the spelling', () => {
    const parser = new OutputParser(marked, { tools, drawId: () => 'id' });
    const events = [
      ...parser.push('Say [TOOL_CALLS]! '),
      ...parser.push('stop{}', [
        { at: 0, tokenId: 5 },
        { at: 4, tokenId: 6 },
      ]),
      ...parser.end(),
    ];
    expect(assemble(events)).toEqual({ content: 'Say [TOOL_CALLS]!', reasoning: '', calls: [call('stop', '{}')] });
  });

  test('are not shown where they mean nothing, unless they are ordinary tokens', () => {
    const ordinary = { ...formats('hermes', null), markers: new Map([[7, { spelling: '</tool_call>', isSpecial: false }]]) };
    expect(assemble(new OutputParser(marked, { tools }).push('ab', [{ at: 1, tokenId: 6 }]))).toMatchObject({ content: 'ab' });
    expect(assemble(new OutputParser(ordinary, { tools }).push('ab', [{ at: 1, tokenId: 7 }]))).toMatchObject({ content: 'a</tool_call>b' });
  });
});

test('templates tell their format of calls', () => {
  expect(toolCallFormatOf('<tool_call>{"name": .., "arguments": ..}')?.name).toBe('hermes');
  expect(toolCallFormatOf('<tool_call><function=f><parameter=p>')?.name).toBe('qwen-xml');
  expect(toolCallFormatOf('[TOOL_CALLS]')?.name).toBe('mistral');
  expect(toolCallFormatOf('{{ messages }}')).toBeNull();
});

test('the tags that a tokenizer has tokens for are found by it, special or not', async () => {
  const tokenizer = await loadTokenizer('byte-level');
  const [special] = tokenizer.specialTokenIds;
  const open = tokenizer.tokenText(special!);
  const format = { ...toolCallFormatNamed('hermes')!, openTags: [open], tokenTags: [open, '<no such token>'] };
  const found = outputFormats(tokenizer, null, format);
  expect([...found.markers]).toEqual([[special, { spelling: open, isSpecial: true }]]);
  const detokenizer = new IncrementalDetokenizer(tokenizer, {});
  const parser = new OutputParser(found, { tools, drawId: () => 'id' });
  const events: OutputEvent[] = [];
  const ids = [...tokenizer.encode(`Say ${open}! `, { addSpecialTokens: false, parseSpecial: false }), special!];
  for (const id of [...ids, ...tokenizer.encode('{"name": "stop"}', { addSpecialTokens: false, parseSpecial: false })]) {
    if (found.markers.has(id)) events.push(...parser.push('', [{ at: 0, tokenId: id }]));
    else events.push(...parser.push(detokenizer.push(id)));
  }
  expect(assemble([...events, ...parser.end()])).toMatchObject({ content: `Say ${open}!`, calls: [{ name: 'stop', arguments: '{}' }] });
});
