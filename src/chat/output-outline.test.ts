/** Outputs held to their form: what a grammar allows is what the parser reads back, whatever is drawn, in every format. */
import Ajv2020 from 'ajv/dist/2020.js';
import { describe, expect, test } from 'vitest';
import { type AssembledOutput, readTokens } from '../../test/fixtures/output-events.ts';
import { TaggedTokenizer } from '../../test/fixtures/tagged-tokenizer.ts';
import { CompiledGrammar, type GrammarMatcher } from '../sampling/grammar/matcher.ts';
import { compileStructuredOutput } from '../sampling/grammar/structured-output.ts';
import { VocabularyTrie } from '../sampling/grammar/vocabulary-trie.ts';
import { type HeldCalls, type OutlineParts, outputOutline, tagTokens } from './output-outline.ts';
import { outputFormats } from './output-parser.ts';
import { reasoningFormatNamed, reasoningFormats, tagsOf } from './reasoning.ts';
import type { ToolDefinition } from './tool-calls/format.ts';
import { toolCallFormats } from './tool-calls/index.ts';

const tools = [
  {
    name: 'get_weather',
    parameters: {
      type: 'object',
      properties: {
        city: { enum: ['Rome', 'São Paulo', '</tool_call', 'a\nb'], type: 'string' },
        days: { type: 'integer', minimum: 0, maximum: 14 },
        exact: { type: 'boolean' },
        note: { type: 'string', maxLength: 5 },
        tags: { type: 'array', items: { type: 'integer', minimum: 0, maximum: 9 } },
      },
      required: ['days', 'exact'],
      additionalProperties: false,
    },
  },
  { name: 'stop', parameters: { type: 'object', properties: {}, additionalProperties: false } },
] as const satisfies ToolDefinition[];
const ajv = new Ajv2020.default({ strict: false });
const isValid = Object.fromEntries(tools.map(({ name, parameters }) => [name, ajv.compile(parameters)]));
const answer = { type: 'object', properties: { ok: { type: 'boolean' } }, required: ['ok'], additionalProperties: false };

/** Numbers in [0, 1) that look random (xorshift). */
function randomOf(seed: number): () => number {
  let state = Math.imul(seed, 0x9e3779b9) | 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}

interface Drawn {
  readonly ids: readonly number[];
  readonly isWhole: boolean;
}

/** Takes all of these tokens, or none. */
function takes(matcher: GrammarMatcher, given: Int32Array, ids: number[]): boolean {
  const refused = given.findIndex((id) => !matcher.accept(id));
  if (refused < 0) ids.push(...given);
  else matcher.rollback(refused);
  return refused < 0;
}

/** Draws what the masks allow; ends where that may be, sooner or later. @param nudges taken now and then: bytes at random would hardly spell them */
function draw(grammar: CompiledGrammar, tokenizer: TaggedTokenizer, random: () => number, nudges: readonly string[]): Drawn {
  const matcher = grammar.matcher();
  const mask = new Uint32Array(Math.ceil(tokenizer.vocabSize / 32));
  const ids: number[] = [];
  while (ids.length < 400 && !matcher.isFinished) {
    const nudge = nudges[Math.floor(random() * 10 * nudges.length)];
    if (nudge !== undefined && takes(matcher, tokenizer.encode(nudge, { parseSpecial: true }), ids)) continue;
    matcher.fillMask(mask);
    const allowed = Array.from({ length: tokenizer.vocabSize }, (_, id) => id).filter((id) => ((mask[id >>> 5]! >>> (id & 31)) & 1) === 1);
    expect(allowed, tokenizer.decode(ids, { skipSpecialTokens: false })).not.toHaveLength(0);
    // tags and ends are rare among the bytes: without a push a text would hardly end
    const rare = allowed.filter((id) => id > 255 || [0x22, 0x3c, 0x5b, 0x60, 0x7b].includes(id));
    const from = rare.length > 0 && random() < 0.3 ? rare : allowed;
    const id = from[Math.floor(random() * from.length)]!;
    expect(matcher.accept(id)).toBe(true);
    if (tokenizer.eosTokenIds.includes(id)) return { ids, isWhole: true };
    ids.push(id);
  }
  return { ids, isWhole: matcher.isFinished };
}

function held(parts: OutlineParts, tokenizer: TaggedTokenizer): CompiledGrammar {
  const tags = tagTokens(tokenizer);
  const trie = new VocabularyTrie(tokenizer, tokenizer.vocabSize, tokenizer.eosTokenIds, [...tags.values()]);
  return new CompiledGrammar(compileStructuredOutput({ outline: outputOutline(parts, tags) }), trie);
}

type Output = AssembledOutput & { readonly state: string };

/** The output as it streams: token by token or, with `sizes`, some at a time. */
function read({ reasoning, isOpen, calls }: OutlineParts, tokenizer: TaggedTokenizer, ids: readonly number[], size: number): Output {
  const formats = outputFormats(tokenizer, reasoning, calls?.format ?? null);
  const options = { beginsInReasoning: isOpen, tools: calls?.tools ?? [], isEither: calls?.mode === 'instead', drawId: () => 'id' };
  return readTokens(formats, options, tokenizer, ids, size);
}

/** With tags that are tokens, and with tags that are text; harmony exists only with tokens. */
const vocabularies = (tags: readonly string[], isHarmony: boolean) => (isHarmony ? [tags] : [tags, []]).map((given) => new TaggedTokenizer(given));

function check(parts: OutlineParts, numRuns: number, judge: (output: Output) => void): void {
  const tags = [...(parts.calls?.format.tokenTags ?? []), ...(parts.reasoning === null ? [] : tagsOf(parts.reasoning))];
  for (const tokenizer of vocabularies(tags, parts.calls?.format.name === 'harmony' || parts.reasoning?.name === 'harmony')) {
    const grammar = held(parts, tokenizer);
    const bare = parts.calls?.format.bareStart === '{' ? ['{"name": "'] : [];
    const nudges = [...bare, ...(parts.reasoning === null ? [] : [parts.reasoning.close]), ...(parts.calls?.format.openTags ?? [])];
    let numWhole = 0;
    for (let seed = 1; seed <= numRuns; seed++) {
      const drawn = draw(grammar, tokenizer, randomOf(seed), nudges);
      const one = read(parts, tokenizer, drawn.ids, 1);
      expect(read(parts, tokenizer, drawn.ids, 2 + (seed % 8))).toEqual(one);
      if (!drawn.isWhole) continue;
      numWhole++;
      judge(one);
    }
    expect(numWhole).toBeGreaterThan(numRuns / 4);
  }
}

const callsOf = (name: string, mode: HeldCalls['mode'], allowsMany: boolean, some: readonly ToolDefinition[] = tools): HeldCalls => ({
  format: toolCallFormats.find((format) => format.name === name)!,
  tools: some,
  allowsMany,
  mode,
});

function expectValid(calls: AssembledOutput['calls']): void {
  for (const call of calls) {
    expect(call.isEnded).toBe(true);
    expect(isValid[call.name]?.(JSON.parse(call.arguments)), `${call.name} ${call.arguments}`).toBe(true);
  }
}

const names = toolCallFormats.map(({ name }) => name);
const reasoningOf = (name: string) => (name === 'harmony' ? reasoningFormatNamed('harmony') : null);

describe.each(names)('calls in %s', (name) => {
  const base = { reasoning: reasoningOf(name), isOpen: false, answer: null };

  test('that are required are calls of the tools with arguments of their schemas, one only where one is wanted', () => {
    for (const allowsMany of [true, false]) {
      let most = 0;
      check({ ...base, calls: callsOf(name, 'required', allowsMany) }, 10, ({ calls, content }) => {
        expect(content).toBe('');
        expect(calls.length).toBeGreaterThan(0);
        expectValid(calls);
        most = Math.max(most, calls.length);
      });
      if (!allowsMany || name === 'harmony') expect(most).toBe(1);
      else expect(most).toBeGreaterThan(1);
    }
  });

  test('to a tool that is named are to that tool', () => {
    check({ ...base, calls: callsOf(name, 'required', false, [tools[0]]) }, 6, ({ calls }) => {
      expect(calls.map((call) => call.name)).toEqual(['get_weather']);
      expectValid(calls);
    });
  });

  test('stand in the place of a JSON answer, or not at all', () => {
    const parts = { ...base, answer: { json: answer }, calls: callsOf(name, 'instead', true) };
    if (name === 'llama3-json') {
      expect(() => outputOutline(parts, new Map())).toThrow(expect.objectContaining({ code: 'NOT_SUPPORTED', param: 'tools' }));
      return;
    }
    const seen = new Set<boolean>();
    check(parts, 12, ({ calls, content }) => {
      seen.add(calls.length > 0);
      expectValid(calls);
      if (calls.length === 0) expect(JSON.parse(content)).toEqual({ ok: expect.any(Boolean) });
      else expect(content).toBe('');
    });
    expect(seen.size).toBe(2);
  });

  test('within free text have arguments of their schemas', () => {
    let numCalls = 0;
    check({ ...base, calls: callsOf(name, 'within', true) }, 16, ({ calls }) => {
      numCalls += calls.length;
      expectValid(calls);
    });
    expect(numCalls).toBeGreaterThan(0);
  });
});

describe.each(reasoningFormats.map(({ name }) => name))('reasoning in %s', (name) => {
  test.each([false, true])('comes before an answer that is held and is held to nothing itself (opened by the prompt: %s)', (isOpen) => {
    const states = new Set<string>();
    check({ reasoning: reasoningFormatNamed(name), isOpen, answer: { json: answer }, calls: null }, 10, ({ content, state }) => {
      states.add(state);
      expect(JSON.parse(content)).toEqual({ ok: expect.any(Boolean) });
    });
    expect(states).toContain('closed');
    if (isOpen) expect(states).toEqual(new Set(['closed']));
  });

  test('comes before calls that are required', () => {
    const format = name === 'harmony' ? 'harmony' : 'hermes';
    const parts = { reasoning: reasoningFormatNamed(name), isOpen: true, answer: null, calls: callsOf(format, 'required', false) };
    check(parts, 6, ({ calls, state }) => {
      expect(state).toBe('closed');
      expectValid(calls);
    });
  });
});

test('answers of every kind may follow reasoning', () => {
  const kinds = [
    { regex: '[ab]{3}' },
    { choice: ['yes', 'no'] },
    { grammar: 'root ::= "x"+ "y"' },
    { jsonObject: true },
    { json: JSON.stringify(answer) },
    { structuralTag: { format: { type: 'const_string', value: 'here' } } },
    { structuralTag: { structures: [{ begin: '<f>', schema: answer, end: '</f>' }], triggers: ['<f>'] } },
  ];
  for (const kind of kinds) {
    const parts: OutlineParts = { reasoning: reasoningFormatNamed('think'), isOpen: true, answer: kind, calls: null };
    check(parts, 8, ({ content, state }) => {
      expect(state).toBe('closed');
      if ('choice' in kind) expect(['yes', 'no']).toContain(content);
      if ('regex' in kind) expect(content).toMatch(/^[ab]{3}$/);
    });
  }
});

test.each([
  ['a pattern', { regex: 'a+' }, 'hermes', tools, 'structured_outputs'],
  [
    'a schema that cannot be written in parameters',
    { json: answer },
    'qwen-xml',
    [{ name: 'f', parameters: { anyOf: [{ type: 'object' }] } }],
    'tools',
  ],
  [
    'a pattern of a parameter',
    { json: answer },
    'glm',
    [{ name: 'f', parameters: { type: 'object', properties: { a: { type: 'string', pattern: '^a' } } } }],
    'tools',
  ],
] as const)('%s beside calls is refused by name', (_, given, name, some, param) => {
  const parts = { reasoning: null, isOpen: false, answer: given, calls: callsOf(name, 'instead', true, some) };
  expect(() => outputOutline(parts, new Map())).toThrow(expect.objectContaining({ code: 'NOT_SUPPORTED', param }));
});
