/** A message as templates see it: OpenAI's shape, content as text or parts. */
export interface ChatMessage {
  readonly role: string;
  readonly content: string | readonly ContentPart[] | null;
  readonly name?: string;
  readonly tool_calls?: readonly unknown[];
  readonly tool_call_id?: string;
  readonly reasoning_content?: string;
}

export interface ContentPart {
  readonly type: string;
  readonly text?: string;
  readonly [key: string]: unknown;
}

export interface ChatTemplateOptions {
  readonly tools?: readonly unknown[];
  readonly documents?: readonly unknown[];
  /** Open the assistant's turn at the end; true unless told otherwise. */
  readonly addGenerationPrompt?: boolean;
  /** Leave the last message open, to be continued. Excludes `addGenerationPrompt`. */
  readonly continueFinalMessage?: boolean;
  /** Extra variables for the template (`enable_thinking`, ...). */
  readonly kwargs?: Readonly<Record<string, unknown>>;
}
