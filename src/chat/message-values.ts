/** Messages as plain data for a template: content as text or as parts, tool arguments as objects, nothing undefined. */
import { MillraceError } from '../base/errors.ts';
import type { ChatMessage, ContentPart } from './messages.ts';

export type PlainObject = { [key: string]: unknown };

const maxDepth = 64;
/** Names that templates compare with; anything else is the user's text. */
const roles = new Set(['system', 'developer', 'user', 'assistant', 'tool', 'function', 'ipython']);

/**
 * Copies JSON-like data; what a template cannot use (functions, undefined) is left out.
 * @throws REQUEST_INVALID when it is nested too deep
 */
export function plainValue(value: unknown, depth = 0): unknown {
  if (depth > maxDepth) throw new MillraceError('REQUEST_INVALID', { message: `The messages or tools are nested deeper than ${maxDepth} levels.` });
  if (Array.isArray(value)) return value.map((item: unknown) => plainValue(item, depth + 1) ?? null);
  if (typeof value === 'bigint') return Number(value);
  if (typeof value !== 'object' || value === null) return typeof value === 'function' || typeof value === 'symbol' ? undefined : value;
  const entries = Object.entries(value).map(([key, item]) => [key, plainValue(item, depth + 1)] as const);
  // Not by assignment: the key `__proto__` would set the prototype instead of a value.
  return Object.fromEntries(entries.filter(([, plain]) => plain !== undefined));
}

export interface MessageForm {
  /** Content becomes a list of parts rather than a string. */
  readonly asParts: boolean;
  /** Put behind the content of the last message. */
  readonly appendToLast: string | null;
  /** Applied to all that comes from the messages. */
  readonly prepare: (value: unknown) => unknown;
}

/**
 * @throws NOT_SUPPORTED for content other than text; REQUEST_INVALID for a malformed part, or when the last message has no text to append to
 */
export function messagesForTemplate(messages: readonly ChatMessage[], form: MessageForm): PlainObject[] {
  return messages.map((message, i) => {
    const shown: PlainObject = {};
    for (const [key, value] of Object.entries(message)) {
      // The order of the keys is the sender's: a template may print a whole message.
      if (key === 'content') shown.content = null;
      else if (key === 'role' && roles.has(message.role)) shown.role = message.role;
      else if (value !== undefined && key !== '__proto__')
        shown[key] = form.prepare(plainValue(key === 'tool_calls' ? withParsedCalls(value) : value));
    }
    const { content } = message;
    let text = content === null || content === undefined ? null : String(form.prepare(textOf(content, i)));
    if (form.appendToLast !== null && i === messages.length - 1) {
      if (text === null) throw invalidMessage(i, 'has no content to be continued');
      text += form.appendToLast;
    }
    shown.content = text === null ? null : form.asParts ? [{ type: 'text', text }] : text;
    return shown;
  });
}

/** Parts are joined by line breaks. */
function textOf(content: string | readonly ContentPart[], index: number): string {
  if (typeof content === 'string') return content;
  if (!Array.isArray(content)) throw invalidMessage(index, 'has content that is neither text nor a list of parts');
  const texts = content.map((part: ContentPart) => {
    if (part.type !== 'text' && part.type !== 'input_text') {
      throw new MillraceError('NOT_SUPPORTED', {
        message: `Message ${index} has content of type '${String(part.type).slice(0, 64)}'.`,
        expected: 'text',
        param: 'messages',
      });
    }
    if (typeof part.text !== 'string') throw invalidMessage(index, 'has a text part without text');
    return part.text;
  });
  return texts.join('\n');
}

function withParsedCalls(calls: unknown): unknown {
  return Array.isArray(calls) ? calls.map(withParsedArguments) : calls;
}

/** Clients send arguments as a JSON string, templates are written for the object. What is not an object stays a string. */
function withParsedArguments(call: unknown): unknown {
  if (typeof call !== 'object' || call === null || !('function' in call)) return call;
  const { function: target } = call;
  if (typeof target !== 'object' || target === null || !('arguments' in target) || typeof target.arguments !== 'string') return call;
  try {
    const parsed: unknown = JSON.parse(target.arguments);
    if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) return call;
    return { ...call, function: { ...target, arguments: parsed } };
  } catch {
    return call;
  }
}

function invalidMessage(index: number, what: string): MillraceError {
  return new MillraceError('REQUEST_INVALID', { message: `Message ${index} ${what}.`, param: 'messages' });
}
