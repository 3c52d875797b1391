import { type ChannelContext, harmonyTags, parseHarmony, teachesHarmony } from './harmony.ts';
import type { Parsing } from './output-reader.ts';

/** How models set their reasoning apart from the answer. */
export interface ReasoningFormat {
  readonly name: string;
  readonly open: string;
  readonly close: string;
  /** All tags that may have a token of their own; without it, the two. */
  readonly tokenTags?: readonly string[];
  /** Whether a chat template knows of it; without it, by the tags. */
  isTaughtBy?(template: string): boolean;
  /** Reads the whole output, for formats in which all of it stands in messages of their own. */
  parseOutput?(context: ChannelContext): Parsing<void>;
}

export const reasoningFormats: readonly ReasoningFormat[] = [
  {
    name: 'harmony',
    open: '<|channel|>analysis<|message|>',
    close: '<|end|>',
    tokenTags: harmonyTags,
    isTaughtBy: teachesHarmony,
    parseOutput: parseHarmony,
  },
  { name: 'think', open: '<think>', close: '</think>' },
  { name: 'mistral', open: '[THINK]', close: '[/THINK]' },
  { name: 'seed', open: '<seed:think>', close: '</seed:think>' },
];

/** All its tags that may be tokens. */
export function tagsOf({ open, close, tokenTags }: ReasoningFormat): readonly string[] {
  return tokenTags ?? [open, close];
}

/** The format that a chat template knows of, by its text; null when there is none. */
export function reasoningFormatOf(template: string): ReasoningFormat | null {
  const told = reasoningFormats.find((format) => format.isTaughtBy?.(template) === true);
  if (told !== undefined) return told;
  const byTags = reasoningFormats.filter(({ isTaughtBy }) => isTaughtBy === undefined);
  return byTags.find(({ close }) => template.includes(close)) ?? byTags.find(({ open }) => template.includes(open)) ?? null;
}

export function reasoningFormatNamed(name: string | null): ReasoningFormat | null {
  return reasoningFormats.find((format) => format.name === name) ?? null;
}

/** Variables by which chat templates are told whether to let the model think; one that knows neither leaves them alone. */
export function thinkingVariables(isOn: boolean): { readonly enable_thinking: boolean; readonly thinking: boolean } {
  return { enable_thinking: isOn, thinking: isOn };
}

/** Whether these variables of a chat template ask for thoughts. */
export function asksForThinking(variables: Readonly<Record<string, unknown>> | undefined): boolean {
  return variables?.enable_thinking === true || variables?.thinking === true;
}

/**
 * Whether a model thinks when it is asked to and not otherwise: its chat template makes the same prompt of a request that says nothing as of one that
 * wants no thoughts, and another of one that wants them.
 * @param render makes the prompt of some conversation with these variables
 */
export function thinksOnRequest(render: (variables: Readonly<Record<string, unknown>>) => string): boolean {
  try {
    const unasked = render({});
    return unasked === render(thinkingVariables(false)) && unasked !== render(thinkingVariables(true));
  } catch {
    return false;
  }
}

/** True when the end of a prompt has ended the reasoning already, so that the answer is next. */
export function beginsBehindReasoning(format: ReasoningFormat, promptTail: string): boolean {
  return format.parseOutput === undefined && promptTail.trimEnd().endsWith(format.close);
}

/** True when the end of a prompt has opened the reasoning already, as some templates do. */
export function beginsInReasoning(format: ReasoningFormat, promptTail: string): boolean {
  return promptTail.trimEnd().endsWith(format.open);
}
