import { describe, expect, test } from 'vitest';
import { FakeEngine } from '../../test/e2e/fake-engine.ts';
import { LLM } from './llm.ts';
import type { RunnableTool } from './tool-loop.ts';

const call = (name: string, args: string) => `<tool_call>\n{"name": "${name}", "arguments": ${args}}\n</tool_call>`;

/** Says one script a turn, and the last one ever after. */
class TurnEngine extends FakeEngine {
  readonly #scripts: string[];

  constructor(scripts: string[]) {
    super({ scriptEnds: true, stepMs: 0, outputFormats: { toolCalls: 'hermes', reasoning: 'think' } });
    this.#scripts = scripts;
  }

  override generate(...args: Parameters<FakeEngine['generate']>) {
    if (this.#scripts.length > 0) this.options.script = this.#scripts.shift()!;
    return super.generate(...args);
  }
}

const adding: RunnableTool = {
  description: 'Adds.',
  parameters: { type: 'object', properties: { a: { type: 'number' }, b: { type: 'number' } } },
  execute: ({ a, b }) => Number(a) + Number(b),
};

describe('a chat with tools', () => {
  test('runs what the model calls, tells it the results, and returns its answer', async () => {
    const engine = new TurnEngine([`<think>Sum.</think>${call('add', '{"a": 1, "b": 2}')}\n${call('add', '{"a": 3, "b": 4}')}`, 'They are 3 and 7.']);
    const types = new Set<string>();
    const answer = await new LLM(engine).chat('Add.', { tools: { add: adding }, onEvent: ({ type }) => types.add(type) });
    expect(answer).toMatchObject({ text: 'They are 3 and 7.', finishReason: 'stop', numTurns: 2 });
    expect(answer.messages).toMatchObject([
      { role: 'user', content: 'Add.' },
      { role: 'assistant', content: null, reasoning_content: 'Sum.', tool_calls: [{ function: { name: 'add', arguments: '{"a": 1, "b": 2}' } }, {}] },
      { role: 'tool', content: '3' },
      { role: 'tool', content: '7' },
      { role: 'assistant', content: 'They are 3 and 7.' },
    ]);
    const [, asked, first] = answer.messages;
    expect(first!.tool_call_id).toBe((asked!.tool_calls as { id: string }[])[0]!.id);
    expect([...types]).toEqual(['reasoning', 'toolCallStart', 'toolCallArguments', 'toolCallEnd', 'content']);
    expect(engine.seen[0]!.input).toMatchObject({ template: { tools: [{ function: { name: 'add', description: 'Adds.' } }] } });
  });

  test.each([
    ['a tool that throws', call('fail', '{}'), 'Error: no luck'],
    ['a tool that is not there', call('toString', '{}'), "Error: there is no tool 'toString'."],
    ['arguments that are no object', call('fail', '[1]'), 'Error: the arguments are not a JSON object.'],
  ])('tells the model of %s', async (_, script, told) => {
    const fail = { execute: () => Promise.reject(new Error('no luck')) };
    const { messages, text } = await new LLM(new TurnEngine([script, 'Sorry.'])).chat('Try.', { tools: { fail } });
    expect(messages.at(-2)).toMatchObject({ role: 'tool', content: told });
    expect(text).toBe('Sorry.');
  });

  test('ends at the limit of turns', async () => {
    const engine = new TurnEngine([call('add', '{"a": 1, "b": 2}')]);
    const answer = await new LLM(engine).chat('Add.', { tools: { add: adding }, maxTurns: 3 });
    expect([answer.finishReason, answer.numTurns, engine.seen.length]).toEqual(['turns', 3, 3]);
  });

  test('does not run a call that was cut off', async () => {
    const script = call('add', '{"a": 1, "b": 2}');
    const answer = await new LLM(new TurnEngine([script])).chat('Add.', { tools: { add: adding }, params: { maxTokens: script.length - 20 } });
    expect([answer.finishReason, answer.messages.length]).toEqual(['length', 2]);
  });

  test('ends when it is aborted, in a tool as between turns', async () => {
    const controller = new AbortController();
    const engine = new TurnEngine([call('leave', '{}')]);
    const leave = { execute: () => controller.abort() };
    const chat = new LLM(engine).chat('Go.', { tools: { leave }, signal: controller.signal });
    await expect(chat).rejects.toMatchObject({ code: 'REQUEST_ABORTED' });
    expect(engine.seen).toHaveLength(1);
  });

  test('is refused when nobody knows how the model calls tools, and for options that make no sense', async () => {
    const tools = { add: adding };
    await expect(new LLM(new FakeEngine({ stepMs: 0 })).chat('Add.', { tools })).rejects.toMatchObject({ code: 'NOT_SUPPORTED' });
    await expect(new LLM(new TurnEngine([])).chat('Add.', { tools, maxTurns: 0 })).rejects.toMatchObject({ code: 'REQUEST_INVALID' });
    await expect(new LLM(new TurnEngine([])).chat('Add.', { tools, params: { n: 2 } })).rejects.toMatchObject({ code: 'REQUEST_INVALID' });
  });
});
