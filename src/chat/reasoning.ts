/** How models set their reasoning apart from the answer. */
export interface ReasoningFormat {
  readonly name: string;
  readonly open: string;
  readonly close: string;
}

export const reasoningFormats: readonly ReasoningFormat[] = [
  { name: 'think', open: '<think>', close: '</think>' },
  { name: 'mistral', open: '[THINK]', close: '[/THINK]' },
  { name: 'seed', open: '<seed:think>', close: '</seed:think>' },
];

/** The format that a chat template knows of, by its text; null when there is none. */
export function reasoningFormatOf(template: string): ReasoningFormat | null {
  return reasoningFormats.find(({ close }) => template.includes(close)) ?? reasoningFormats.find(({ open }) => template.includes(open)) ?? null;
}

export function reasoningFormatNamed(name: string | null): ReasoningFormat | null {
  return reasoningFormats.find((format) => format.name === name) ?? null;
}

/** True when the end of a prompt has opened the reasoning already, as some templates do. */
export function beginsInReasoning(format: ReasoningFormat, promptTail: string): boolean {
  return promptTail.trimEnd().endsWith(format.open);
}
