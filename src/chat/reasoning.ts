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

/** True when the end of a prompt has opened the reasoning already, as some templates do. */
export function beginsInReasoning(format: ReasoningFormat, promptTail: string): boolean {
  return promptTail.trimEnd().endsWith(format.open);
}
