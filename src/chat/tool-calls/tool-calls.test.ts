/** Each format of tool calls: the text that models' own templates make of calls is read back. */
import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { assemble, fed, readTokens, splits } from '../../../test/fixtures/output-events.ts';
import { TaggedTokenizer } from '../../../test/fixtures/tagged-tokenizer.ts';
import { type OutputFormats, OutputParser, outputFormats } from '../output-parser.ts';
import { beginsInReasoning, reasoningFormatNamed, reasoningFormatOf, tagsOf } from '../reasoning.ts';
import { ChatTemplate } from '../template.ts';
import { harmony } from './harmony.ts';
import { toolCallFormatNamed, toolCallFormatOf } from './index.ts';
import { pythonic } from './pythonic.ts';

const folder = join(process.env.MILLRACE_SHARED ?? resolve(import.meta.dirname, '../../../../shared'), 'data/chat-templates-llama.cpp');

/**
 * Template -> the format that it teaches, and whether it takes several calls in one turn. Not among them: templates that leave calls of the
 * assistant out (SmolLM3, DeepSeek R1 Distill Llama, LFM2.5-Instruct) or fail in Python's sandbox as here (Kimi-K2-Instruct and -Thinking).
 */
const templates: Readonly<Record<string, readonly [format: string, many: boolean]>> = {
  'NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use': ['hermes', true],
  'NousResearch-Hermes-3-Llama-3.1-8B-tool_use': ['hermes', true],
  'Qwen-Qwen2.5-7B-Instruct': ['hermes', true],
  'Qwen-QwQ-32B': ['hermes', true],
  'Qwen-Qwen3-0.6B': ['hermes', true],
  'MiMo-VL': ['hermes', true],
  'Bielik-11B-v3.0-Instruct': ['hermes', true],
  'ibm-granite-granite-4.0': ['hermes', true],
  'Reka-Edge': ['hermes', true],
  'ibm-granite-granite-4.1': ['hermes', true],
  'unsloth-Apriel-1.5': ['apriel', true],
  'NVIDIA-Nemotron-Nano-v2': ['nemotron', true],
  'Qwen3-Coder': ['qwen-xml', true],
  'ByteDance-Seed-OSS': ['seed-xml', true],
  'NVIDIA-Nemotron-3-Nano-30B-A3B-BF16': ['qwen-xml', true],
  'GLM-4.7-Flash': ['glm', true],
  'poolside-Laguna-S-2.1': ['glm', true],
  'meta-llama-Llama-3.2-3B-Instruct': ['llama3-json', false],
  'mistralai-Mistral-Nemo-Instruct-2407': ['mistral', true],
  'Mistral-Small-3.2-24B-Instruct-2506': ['mistral', true],
  'unsloth-mistral-Devstral-Small-2507': ['mistral', true],
  'deepseek-ai-DeepSeek-R1-Distill-Qwen-32B': ['deepseek', true],
  'deepseek-ai-DeepSeek-V3.1': ['deepseek', true],
  'moonshotai-Kimi-K2': ['kimi', true],
  'openai-gpt-oss-120b': ['harmony', false],
  'LFM2.5-8B-A1B': ['pythonic', true],
};

const properties = {
  city: { type: 'string' },
  count: { type: 'integer' },
  ratio: { type: 'number' },
  exact: { type: 'boolean' },
  /** Some templates cannot show it, so none does. */
  nothing: { type: 'null' },
  where: { type: 'object' },
  list: { type: 'array' },
};
const tools = ['get_weather', 'search-web', 'f'].map((name) => ({ name, parameters: { type: 'object', properties } }));
const apiTools = tools.map(
  ({
    name,
    parameters: {
      properties: { nothing: _, ...shown },
    },
  }) => ({
    type: 'function',
    function: { name, parameters: { type: 'object', properties: shown }, description: 'A tool.' },
  }),
);

const text = fc.string({ unit: 'grapheme', maxLength: 12 });
/** Tag formats have no way to write their own closing tags in a value, and lose line breaks at its edges. */
const value = text.filter((t) => !/<\/|^\n|\n$/.test(t));
const json = fc.jsonValue({ maxDepth: 2, stringUnit: 'grapheme' }).map((v): unknown => JSON.parse(JSON.stringify(v))); // no -0
const call = fc.record({
  name: fc.constantFrom(...tools.map(({ name }) => name)),
  arguments: fc.record(
    {
      city: fc.oneof(value, fc.constantFrom('quote " brace } {', 'line\nbreak', '123', 'true', '<tool_call>', ' back\\slash')),
      count: fc.integer(),
      exact: fc.boolean(),
      nothing: fc.constant(null),
      where: fc.dictionary(fc.constantFrom('a', 'b "c'), json, { maxKeys: 2, noNullPrototype: true }),
      list: fc.array(json, { maxLength: 3 }),
    },
    { requiredKeys: [], noNullPrototype: true },
  ),
});

describe.skipIf(!existsSync(folder))('templates of real models', () => {
  test.each(Object.entries(templates))('the calls that %s writes are read back, however they are cut', (name, [format, many]) => {
    const source = readFileSync(join(folder, `${name}.jinja`), 'utf8');
    expect(toolCallFormatOf(source)?.name).toBe(format);
    const template = ChatTemplate.compile(source, { bos_token: '<s>', eos_token: '</s>' }, () => new Date(2026, 0, 15));
    const formats: OutputFormats = { reasoning: reasoningFormatOf(source), toolCalls: toolCallFormatOf(source), markers: new Map() };
    fc.assert(
      fc.property(fc.array(call, { minLength: 1, maxLength: many ? 3 : 1 }), fc.infiniteStream(fc.integer({ min: 1, max: 9 })), (calls, sizes) => {
        // this template writes strings between quotes as they are
        fc.pre(format !== 'pythonic' || calls.every(({ arguments: { city } }) => !/'|\\(?!slash)/.test(String(city))));
        const { prompt, output } = rendered(template, calls);
        const options = { tools, drawId: () => 'id', beginsInReasoning: formats.reasoning !== null && beginsInReasoning(formats.reasoning, prompt) };
        const whole = assemble(fed(new OutputParser(formats, options), [output]));
        expect(whole.calls.map((c) => ({ name: c.name, arguments: JSON.parse(c.arguments) }))).toEqual(calls);
        expect(whole.calls.every(({ isEnded }) => isEnded)).toBe(true);
        expect(assemble(fed(new OutputParser(formats, options), splits(output, sizes)))).toEqual(whole);
      }),
      { numRuns: 25 },
    );
  });
});

const sample = [
  {
    name: 'get_weather',
    arguments: { city: 'Zürich 😀 "x"', count: -3, exact: true, nothing: null, where: { a: [1.5, null, { 'b "c': 'é\n' }] }, list: [] },
  },
  { name: 'f', arguments: {} },
];

/** Tags that are tokens, of whole vocabularies of tags. */
function tokensOf(formats: OutputFormats): TaggedTokenizer {
  return new TaggedTokenizer([...(formats.toolCalls?.tokenTags ?? []), ...(formats.reasoning === null ? [] : tagsOf(formats.reasoning))]);
}

describe.skipIf(!existsSync(folder))('one output of each template', () => {
  test.each(Object.entries({ ...templates }))(
    'of %s is read alike at every cut, and with every number of tokens at a time',
    (name, [format, many]) => {
      const source = readFileSync(join(folder, `${name}.jinja`), 'utf8');
      const template = ChatTemplate.compile(source, { bos_token: '<s>', eos_token: '</s>' }, () => new Date(2026, 0, 15));
      const formats: OutputFormats = { reasoning: reasoningFormatOf(source), toolCalls: toolCallFormatOf(source), markers: new Map() };
      const calls = many ? sample : sample.slice(0, 1);
      const { prompt, output } = rendered(template, calls);
      const options = { tools, drawId: () => 'id', beginsInReasoning: formats.reasoning !== null && beginsInReasoning(formats.reasoning, prompt) };
      const whole = assemble(fed(new OutputParser(formats, options), [output]));
      expect(whole.calls.map((c) => ({ name: c.name, arguments: JSON.parse(c.arguments) }))).toEqual(calls);
      for (let cut = 1; cut < output.length; cut++) {
        expect(assemble(fed(new OutputParser(formats, options), [output.slice(0, cut), output.slice(cut)]))).toEqual(whole);
      }
      const tokenizer = tokensOf(formats);
      const marked = outputFormats(tokenizer, formats.reasoning, formats.toolCalls);
      const ids = tokenizer.encode(output, { parseSpecial: true });
      for (let size = 1; size <= Math.min(ids.length, 32); size++) {
        const { calls: read } = readTokens(marked, options, tokenizer, ids, size);
        expect([format, read]).toEqual([format, whole.calls]);
      }
    },
  );
});

/** What the model would have written, for the template to look like this afterwards. */
function rendered(template: ChatTemplate, calls: readonly { name: string; arguments: object }[]): { prompt: string; output: string } {
  const user = { role: 'user', content: 'Hello' };
  const toolCalls = calls.map((c, i) => ({ type: 'function', id: `call0000${i}`, function: { name: c.name, arguments: c.arguments } }));
  const options = { tools: apiTools };
  let after = '';
  for (const content of [null, '']) {
    try {
      after = template.render([user, { role: 'assistant', content, tool_calls: toolCalls }], { ...options, addGenerationPrompt: false });
      break;
    } catch {
      // some templates want text where others want nothing
    }
  }
  // The output begins behind what opens the assistant's turn, or where the call parts from that.
  const prompt = template.render([user], options);
  if (after.startsWith(prompt)) return { prompt, output: after.slice(prompt.length) };
  const before = template.render([user], { ...options, addGenerationPrompt: false });
  let shared = 0;
  while (shared < before.length && before[shared] === after[shared]) shared++;
  return { prompt: '', output: after.slice(shared) };
}

describe('calls as Python writes them', () => {
  const parse = (output: string, names = ['f', 'g']) => {
    const formats: OutputFormats = { reasoning: null, toolCalls: pythonic, markers: new Map() };
    const whole = assemble(fed(new OutputParser(formats, { tools: names.map((name) => ({ name })), drawId: () => 'id' }), [output]));
    return { content: whole.content, calls: whole.calls.map((c): [string, unknown] => [c.name, JSON.parse(c.arguments)]) };
  };

  test('a whole answer that is a list of calls of known tools is calls', () => {
    const written = String.raw`[f(a="x\\y \"z\"", b=[1, -2.5, None], c={'k': True}), g()]`;
    expect(parse(written).calls).toEqual([
      ['f', { a: 'x\\y "z"', b: [1, -2.5, null], c: { k: true } }],
      ['g', {}],
    ]);
  });

  test.each(['[1, 2, 3]', '[h(a=1)]', '[f(a=1)', '[f(__import__("os"))]', 'f(a=1)', '[f(a=open)]'])('%s is text', (written) => {
    expect(parse(written)).toEqual({ content: written, calls: [] });
  });
});

describe('Gemma', () => {
  const parse = (name: string, output: string) => {
    const formats: OutputFormats = { reasoning: null, toolCalls: toolCallFormatNamed(name), markers: new Map() };
    const parser = () => new OutputParser(formats, { tools: [{ name: 'f' }], drawId: () => 'id' });
    const whole = assemble(fed(parser(), [output]));
    for (let cut = 1; cut < output.length; cut++) expect(assemble(fed(parser(), [output.slice(0, cut), output.slice(cut)]))).toEqual(whole);
    return { content: whole.content, calls: whole.calls.map((c): unknown[] => [c.name, c.isEnded ? JSON.parse(c.arguments) : c.arguments]) };
  };
  const args = { a: 'x, {y}: "z"', n: -1.5, yes: true, none: null, list: ['p', 2, []], deep: { 'k v': 'w', e: {} } };

  test.each([
    ['function-gemma', '<start_function_call>', '<end_function_call>', '<escape>'],
    ['gemma4', '<|tool_call>', '<tool_call|>', '<|"|>'],
  ])('%s writes strings between tags of their own and keys as they are', (name, open, close, q) => {
    const written = `a:${q}x, {y}: "z"${q},n:-1.5,yes:true,none:null,list:[${q}p${q},2,[]],deep:{${q}k v${q}:${q}w${q},e:{}}`;
    const output = `Let me see.${open}call:f{${written}}${close}${open}call:g{}${close}`;
    expect(parse(name, output)).toEqual({
      content: 'Let me see.',
      calls: [
        ['f', args],
        ['g', {}],
      ],
    });
    expect(parse(name, `${open}call:f{a:${q}x${q},n:`).calls).toEqual([['f', '{"a": "x"']]);
    expect(parse(name, `${open}no call${close}`).content).toContain('no call');
    expect(toolCallFormatOf(`{{ '${open}call:' }}`)?.name).toBe(name);
  });

  test('3 writes Python in fenced blocks, a call a line or a list', () => {
    const calls = [
      ['f', { a: 'b' }],
      ['g', { n: [1, null] }],
    ];
    expect(parse('tool-code', "I look.\n```tool_code\nprint(f(a='b'))\ng(n=[1, None])\n```")).toEqual({ content: 'I look.', calls });
    expect(parse('tool-code', '```tool_code\n[f(a="b"), g(n=[1, None])]\n```').calls).toEqual(calls);
    const program = '```tool_code\nimport os\n```';
    expect(parse('tool-code', program)).toEqual({ content: program, calls: [] });
    expect(toolCallFormatOf('Wrap it in ```tool_code')?.name).toBe('tool-code');
  });
});

describe('harmony', () => {
  const parse = (pieces: Iterable<string>) => {
    const formats: OutputFormats = { reasoning: reasoningFormatNamed('harmony'), toolCalls: harmony, markers: new Map() };
    const parser = new OutputParser(formats, { tools: [{ name: 'f' }], drawId: () => 'id' });
    return { ...assemble(fed(parser, pieces)), state: parser.reasoningState };
  };
  const output =
    '<|channel|>analysis<|message|>Let me see.<|end|><|start|>assistant<|channel|>commentary<|message|>I ask.<|end|>' +
    '<|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>{"a": 1}<|call|>';

  test('analysis is reasoning, commentary to a function is a call, the rest is the answer, however it is cut', () => {
    const whole = parse([output]);
    expect(whole).toMatchObject({ reasoning: 'Let me see.', content: 'I ask.', state: 'closed' });
    expect(whole.calls).toMatchObject([{ name: 'f', arguments: '{"a": 1}', isEnded: true }]);
    for (let size = 1; size < 12; size++)
      expect(
        parse(
          splits(
            output,
            Array.from({ length: output.length }, () => size),
          ),
        ),
      ).toEqual(whole);
  });

  test('the final channel is the answer, without calls and with the end token left out of the text', () => {
    expect(parse(['<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Yes.'])).toMatchObject({
      reasoning: 'Hm.',
      content: 'Yes.',
      calls: [],
    });
  });
});
