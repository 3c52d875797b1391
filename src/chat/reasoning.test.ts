import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, test } from 'vitest';
import { asksForThinking, beginsBehindReasoning, beginsInReasoning, reasoningFormatNamed, thinkingVariables, thinksOnRequest } from './reasoning.ts';
import { ChatTemplate } from './template.ts';

const onRequest = (source: string) => {
  const template = ChatTemplate.compile(source, {});
  return thinksOnRequest((kwargs) => template.render([{ role: 'user', content: 'Hi' }], { kwargs }));
};

describe('a model thinks on request only', () => {
  test.each([
    ['a variable opens thoughts', '{{ messages[0].content }}{% if enable_thinking %}<think>{% endif %}', true],
    ['the older variable closes them unless it is set', '{{ messages[0].content }}{{ "<think>" if thinking else "</think>" }}', true],
    ['it asks in the system prompt', '{% if thinking %}Think first.{% endif %}{{ messages[0].content }}', true],
    [
      'thoughts are open unless it is unset',
      '{{ messages[0].content }}{% if enable_thinking is not defined or enable_thinking %}<think>{% endif %}',
      false,
    ],
    [
      'thoughts are closed when it is false',
      '{{ messages[0].content }}{% if enable_thinking is defined and enable_thinking is false %}<think></think>{% endif %}',
      false,
    ],
    ['it knows no such variable', '{{ messages[0].content }}<think>', false],
    ['it raises', '{{ raise_exception("no") }}', false],
  ])('%s', (_, template, expected) => expect(onRequest(template)).toBe(expected));

  const folder = join(process.env.MILLRACE_SHARED ?? resolve(import.meta.dirname, '../../../shared'), 'data/chat-templates-llama.cpp');
  test.skipIf(!existsSync(folder)).each([
    ['deepseek-ai-DeepSeek-V3.1', true],
    ['ibm-granite-granite-3.3-2B-Instruct', true],
    ['Qwen-Qwen3-0.6B', false],
    ['Qwen-QwQ-32B', true],
    ['GLM-4.7-Flash', false],
    ['HuggingFaceTB-SmolLM3-3B', false],
    ['deepseek-ai-DeepSeek-R1-Distill-Llama-8B', false],
    ['openai-gpt-oss-120b', false],
  ])('%s: %s', (name, expected) => expect(onRequest(readFileSync(join(folder, `${name}.jinja`), 'utf8'))).toBe(expected));
});

test('where a prompt stands is told by its end', () => {
  const think = reasoningFormatNamed('think')!;
  expect([beginsInReasoning(think, 'assistant\n<think>\n'), beginsBehindReasoning(think, 'assistant\n<think>\n')]).toEqual([true, false]);
  expect([beginsInReasoning(think, '<think>\n\n</think>\n\n'), beginsBehindReasoning(think, '<think>\n\n</think>\n\n')]).toEqual([false, true]);
  expect([beginsInReasoning(think, 'assistant\n'), beginsBehindReasoning(think, 'assistant\n')]).toEqual([false, false]);
});

test('thoughts are asked for by either variable, and by nothing else', () => {
  expect([asksForThinking(thinkingVariables(true)), asksForThinking({ thinking: true })]).toEqual([true, true]);
  expect([asksForThinking(thinkingVariables(false)), asksForThinking({ reasoning_effort: 'low' }), asksForThinking(undefined)]).toEqual([
    false,
    false,
    false,
  ]);
});
