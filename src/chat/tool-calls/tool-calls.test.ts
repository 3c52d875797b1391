/** Each format of tool calls: the text that models' own templates make of calls is read back. */
import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { assemble, fed, splits } from '../../../test/fixtures/output-events.ts';
import { type OutputFormats, OutputParser } from '../output-parser.ts';
import { beginsInReasoning, reasoningFormatNamed, reasoningFormatOf } from '../reasoning.ts';
import { ChatTemplate } from '../template.ts';
import { harmony } from './harmony.ts';
import { toolCallFormatOf } from './index.ts';
import { pythonic } from './pythonic.ts';

const folder = join(process.env.MILLRACE_SHARED ?? resolve(import.meta.dirname, '../../../../shared'), 'data/chat-templates-llama.cpp');

/** Template -> the format that it teaches, and whether it takes several calls in one turn. */
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
  'Qwen3-Coder': ['qwen-xml', true],
  'NVIDIA-Nemotron-3-Nano-30B-A3B-BF16': ['qwen-xml', true],
  'GLM-4.7-Flash': ['glm', true],
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
  where: { type: 'object' },
  list: { type: 'array' },
};
const tools = ['get_weather', 'search-web', 'f'].map((name) => ({ name, parameters: { type: 'object', properties } }));
const apiTools = tools.map((tool) => ({ type: 'function', function: { ...tool, description: 'A tool.' } }));

const text = fc.string({ unit: 'grapheme', maxLength: 12 });
/** Tag formats have no way to write their own closing tags in a value, and lose line breaks at its edges. */
const value = text.filter((t) => !/<\/|^\n|\n$/.test(t));
const json = fc
  .jsonValue({ maxDepth: 2, stringUnit: 'grapheme' })
  .map((v): unknown => JSON.parse(JSON.stringify(v))) // no -0
  .filter((v) => !JSON.stringify(v).includes('</'));
const call = fc.record({
  name: fc.constantFrom(...tools.map(({ name }) => name)),
  arguments: fc.record(
    {
      city: fc.oneof(value, fc.constantFrom('quote " brace } {', 'line\nbreak', '123', 'true', '<tool_call>', ' back\\slash')),
      count: fc.integer(),
      exact: fc.boolean(),
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
      { numRuns: 60 },
    );
  });
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
