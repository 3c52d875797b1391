/**
 * Chat templates: messages to the prompt's text, by the Jinja template that comes with the model
 * (https://huggingface.co/docs/transformers/chat_templating).
 *
 * A template is not trusted: steps, time, text, lists and calls are bounded (`jinja/runtime.ts`), it sees plain data only, and reaches
 * nothing else. `jinja/` renders as Python does, since that is what models were trained with.
 */
import { MillraceError } from '../base/errors.ts';
import { TemplateRaised, TemplateTooLarge } from './jinja/errors.ts';
import { JinjaTemplate, textFunction } from './jinja/jinja-template.ts';
import { messagesForTemplate, plainValue } from './message-values.ts';
import type { ChatMessage, ChatTemplateOptions } from './messages.ts';
import { strftime } from './strftime.ts';

/** One template, or several by name: `default`, and `tool_use` for requests with tools. */
export type TemplateSource = string | ReadonlyMap<string, string>;

/** Values of `bos_token`, `eos_token` and kin; spellings by name. */
export type SpecialTokens = Readonly<Record<string, string>>;

const maxSourceLength = 1 << 20;
/** Most messages in one conversation. */
export const maxMessages = 16_384;
const reserved = new Set(['messages', 'tools', 'documents', 'add_generation_prompt']);

export class ChatTemplate {
  /** Text of all its templates, to look for formats in. */
  readonly source: string;
  readonly #templates: ReadonlyMap<string, JinjaTemplate>;
  readonly #specialTokens: SpecialTokens;
  readonly #now: () => Date;
  /** True for templates that only understand content as a list of parts; by name. */
  readonly #wantsParts: ReadonlyMap<string, boolean>;

  private constructor(source: string, templates: ReadonlyMap<string, JinjaTemplate>, specialTokens: SpecialTokens, now: () => Date) {
    this.source = source;
    this.#templates = templates;
    this.#specialTokens = specialTokens;
    this.#now = now;
    this.#wantsParts = new Map([...templates].map(([name, template]) => [name, this.#probeParts(template)]));
  }

  /**
   * @param now what `strftime_now` tells
   * @throws MODEL_CONFIG_INVALID when the source is not a template that can be parsed
   */
  static compile(source: TemplateSource, specialTokens: SpecialTokens, now: () => Date = () => new Date()): ChatTemplate {
    const sources = typeof source === 'string' ? new Map([['default', source]]) : source;
    if (sources.size === 0) throw new MillraceError('MODEL_CONFIG_INVALID', 'There is no chat template to compile.');
    const templates = new Map<string, JinjaTemplate>();
    for (const [name, text] of sources) templates.set(name, parse(name, text));
    return new ChatTemplate([...sources.values()].join('\n'), templates, specialTokens, now);
  }

  /**
   * @param prepare is given every value of the request before the template sees it, and returns what it shall see
   * @returns the prompt's text
   * @throws CHAT_TEMPLATE_FAILED when the template raises an error or passes a bound; REQUEST_INVALID for messages or
   *   options that contradict themselves; NOT_SUPPORTED for content that is not text
   */
  render(messages: readonly ChatMessage[], options: ChatTemplateOptions = {}, prepare: (value: unknown) => unknown = (value) => value): string {
    checkOptions(messages, options);
    const name = options.tools !== undefined && options.tools.length > 0 && this.#templates.has('tool_use') ? 'tool_use' : this.#defaultName();
    const template = this.#templates.get(name);
    if (template === undefined) throw new MillraceError('INTERNAL', 'A chat template has gone.');
    const mark = options.continueFinalMessage === true ? continuationMark() : null;
    const variables = new Map<string, unknown>([
      ['tools', options.tools === undefined || options.tools.length === 0 ? null : prepare(plainValue(options.tools))],
      ['documents', options.documents === undefined ? null : prepare(plainValue(options.documents))],
      ['add_generation_prompt', mark === null && (options.addGenerationPrompt ?? true)],
    ]);
    for (const [key, value] of Object.entries(options.kwargs ?? {})) variables.set(key, prepare(plainValue(value)));
    const form = { asParts: this.#wantsParts.get(name) === true, appendToLast: mark, prepare };
    const run = (shown: readonly ChatMessage[]) => this.#run(template, variables.set('messages', messagesForTemplate(shown, form)));
    const text = hasBareCalls(messages) ? eitherForm(messages, run) : run(messages);
    return mark === null ? text : cutAtMark(text, mark);
  }

  /** Renders with exactly these variables, beside the special tokens and `strftime_now`. For tests against other renderers. */
  renderVariables(variables: Readonly<Record<string, unknown>>): string {
    const template = this.#templates.get(this.#defaultName());
    return template === undefined ? '' : this.#run(template, new Map(Object.entries(variables)));
  }

  #defaultName(): string {
    return this.#templates.has('default') ? 'default' : [...this.#templates.keys()][0];
  }

  #run(template: JinjaTemplate, given: ReadonlyMap<string, unknown>): string {
    const now = textFunction('strftime_now', (format) => strftime(this.#now(), format));
    const variables = new Map<string, unknown>([['strftime_now', now], ...Object.entries(this.#specialTokens), ...given]);
    try {
      return template.render(variables);
    } catch (thrown) {
      throw templateFailed(thrown);
    }
  }

  /** Shows it a message as text, and as a part if the text does not come out. A template that needs other messages than one is taken to want text. */
  #probeParts(template: JinjaTemplate): boolean {
    const needle = 'probe7e1f';
    for (const content of [needle, [{ type: 'text', text: needle }]]) {
      const messages = [{ role: 'user', content }];
      const variables = new Map<string, unknown>(Object.entries({ messages, tools: null, documents: null, add_generation_prompt: true }));
      try {
        if (this.#run(template, variables).includes(needle)) return content !== needle;
      } catch (thrown) {
        if (thrown instanceof MillraceError && thrown.cause instanceof TemplateTooLarge) return false;
      }
    }
    return false;
  }
}

function parse(name: string, source: string): JinjaTemplate {
  if (source.length > maxSourceLength) {
    throw new MillraceError('MODEL_CONFIG_INVALID', {
      message: `The chat template '${name.slice(0, 64)}' is too long.`,
      expected: `at most ${maxSourceLength} characters`,
    });
  }
  try {
    return new JinjaTemplate(source);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message.slice(0, 400) : String(cause);
    throw new MillraceError('MODEL_CONFIG_INVALID', {
      message: `The chat template '${name.slice(0, 64)}' cannot be parsed: ${reason}.`,
      hint: 'pass another one with --chat-template FILE',
      cause,
    });
  }
}

/** Calls without text, which clients send with the content null. */
function hasBareCalls(messages: readonly ChatMessage[]): boolean {
  return messages.some((message) => isBareCall(message));
}

function isBareCall({ content, tool_calls: calls }: ChatMessage): boolean {
  return (content === null || content === undefined) && calls !== undefined;
}

/** Some templates tell calls by content that is null, others take every content for text: null first, and the empty text where that fails. */
function eitherForm(messages: readonly ChatMessage[], run: (messages: readonly ChatMessage[]) => string): string {
  try {
    return run(messages);
  } catch (thrown) {
    if (!(thrown instanceof MillraceError) || thrown.code !== 'CHAT_TEMPLATE_FAILED') throw thrown;
    return run(messages.map((message) => (isBareCall(message) ? { ...message, content: '' } : message)));
  }
}

function checkOptions(messages: readonly ChatMessage[], options: ChatTemplateOptions): void {
  const invalid = (message: string, param: string): MillraceError => new MillraceError('REQUEST_INVALID', { message, param });
  if (messages.length === 0) throw invalid('There are no messages.', 'messages');
  if (messages.length > maxMessages) throw invalid(`There are more than ${maxMessages} messages.`, 'messages');
  if (options.continueFinalMessage === true && options.addGenerationPrompt === true) {
    throw invalid('continue_final_message and add_generation_prompt exclude each other.', 'continue_final_message');
  }
  for (const key of Object.keys(options.kwargs ?? {})) {
    if (reserved.has(key)) throw invalid(`chat_template_kwargs must not set '${key}'.`, 'chat_template_kwargs');
  }
}

/** No message can hold it by accident or by intent. Ends with a space, which tells whether the template trims. */
function continuationMark(): string {
  return `${crypto.randomUUID()} `;
}

function cutAtMark(text: string, mark: string): string {
  const at = text.lastIndexOf(mark.trimEnd());
  if (at < 0) {
    throw new MillraceError('CHAT_TEMPLATE_FAILED', {
      message: 'The chat template does not show the final message, so it cannot be continued.',
      param: 'continue_final_message',
    });
  }
  // A template that trims would have trimmed the text before the mark as well.
  return text.startsWith(mark, at) ? text.slice(0, at) : text.slice(0, at).trimEnd();
}

function templateFailed(thrown: unknown): MillraceError {
  if (thrown instanceof MillraceError) return thrown;
  const reason = thrown instanceof Error ? thrown.message : String(thrown);
  const message = thrown instanceof TemplateRaised ? `The chat template refuses these messages: ${reason}` : `The chat template failed: ${reason}`;
  return new MillraceError('CHAT_TEMPLATE_FAILED', { message: message.slice(0, 1000), param: 'messages', cause: thrown });
}
