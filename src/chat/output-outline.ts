/** The form of one whole output: reasoning first, then an answer that fulfils a constraint, or calls, or free text with calls in it. */
import { MillraceError } from '../base/errors.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { harmonyTurn } from './harmony.ts';
import { either, emptySyntax, json, optional, pattern, repeat, type Syntax, SyntaxWriter, sequence } from './output-syntax.ts';
import { type ReasoningFormat, reasoningFormats, tagsOf } from './reasoning.ts';
import type { ToolCallFormat, ToolDefinition } from './tool-calls/format.ts';
import { toolCallFormats } from './tool-calls/index.ts';

/** How far the calls of an output are held to the syntax of their format and the schemas of their tools. */
export interface HeldCalls {
  readonly format: ToolCallFormat;
  readonly tools: readonly ToolDefinition[];
  /** Whether one turn may hold several. */
  readonly allowsMany: boolean;
  /** `required`: the output is calls; `instead`: calls or the answer; `within`: free text that may hold calls. */
  readonly mode: 'required' | 'instead' | 'within';
}

/** What an answer is held to: the fields of `StructuredOutput` that are understood here. */
export interface HeldAnswer {
  readonly json?: unknown;
  readonly jsonObject?: boolean | undefined;
  readonly regex?: string | undefined;
  readonly choice?: readonly string[] | undefined;
  readonly grammar?: string | undefined;
  readonly structuralTag?: unknown;
}

export interface OutlineParts {
  /** How the model reasons; null where it does not. */
  readonly reasoning: ReasoningFormat | null;
  /** The prompt has opened the reasoning. */
  readonly isOpen: boolean;
  readonly answer: HeldAnswer | null;
  readonly calls: HeldCalls | null;
}

/** Tokens of this vocabulary that are tags of some format that is known here. */
export function tagTokens(tokenizer: Pick<Tokenizer, 'tokenId'>): ReadonlyMap<string, number> {
  const tokens = new Map<string, number>();
  const tags = [...toolCallFormats.flatMap((format) => format.tokenTags), ...reasoningFormats.flatMap(tagsOf)];
  for (const tag of tags) {
    const id = tokenizer.tokenId(tag);
    if (id !== undefined) tokens.set(tag, id);
  }
  return tokens;
}

/**
 * @param tokens of `tagTokens`
 * @returns the `outline` of a structured output; null where only the answer is held, from its first character on
 * @throws NOT_SUPPORTED naming what cannot be told apart or held
 */
export function outputOutline({ reasoning, isOpen, answer, calls }: OutlineParts, tokens: ReadonlyMap<string, number>): Syntax | null {
  if (answer === null && calls === null) return null;
  if (reasoning === null && calls === null) return null;
  const write = new SyntaxWriter(tokens);
  if (reasoning?.name === 'harmony') return harmonyOutline(write, isOpen, answer, calls);
  const held = answer === null ? null : answerSyntax(answer);
  const body = calls === null ? (held ?? emptySyntax) : withCalls(write, calls, answer, held);
  return reasoning === null ? body : behindReasoning(write, reasoning, isOpen, body);
}

/** White space between reasoning and answer belongs to neither. */
function behindReasoning(write: SyntaxWriter, { open, close }: ReasoningFormat, isOpen: boolean, body: Syntax): Syntax {
  const gap = either(emptySyntax, write.text('\n'), write.text('\n\n'));
  const thoughts = [write.thoughts(close), write.text(close), gap];
  return isOpen ? sequence(...thoughts, body) : sequence(optional(sequence(write.text(open), ...thoughts)), body);
}

function harmonyOutline(write: SyntaxWriter, isOpen: boolean, answer: HeldAnswer | null, calls: HeldCalls | null): Syntax {
  const free = calls?.mode === 'within' ? write.free() : null;
  const held = answer === null ? free : answerSyntax(answer);
  const called = calls === null ? null : calls.format.callSyntax(write, calls.tools, calls.allowsMany);
  return harmonyTurn(write, { answer: calls?.mode === 'required' ? null : held, calls: called, preambles: calls?.mode === 'within', isOpen });
}

function withCalls(write: SyntaxWriter, { format, tools, allowsMany, mode }: HeldCalls, answer: HeldAnswer | null, held: Syntax | null): Syntax {
  const calls = format.callSyntax(write, tools, allowsMany);
  if (calls === null) throw unsound('tools', `Arguments held to their schemas in the format ${format.name}, for one of these schemas`);
  if (mode === 'required') return calls;
  if (mode === 'within') return textWith(write, format, calls, allowsMany);
  if (held === null) return calls;
  const isJson = answer?.json !== undefined || answer?.jsonObject === true;
  if (!isJson) throw unsound('structured_outputs', 'A structured output other than JSON beside tools that may be called');
  if (format.looksLikeJson === true) throw unsound('tools', `A JSON answer beside calls in the format ${format.name}, which are JSON as well,`);
  return either(held, calls);
}

/** Free text with calls in it; without a tag to know them by, calls or free text that does not begin as they do. */
function textWith(write: SyntaxWriter, { openTags, bareStart }: ToolCallFormat, calls: Syntax, allowsMany: boolean): Syntax {
  const free = write.free(...openTags);
  if (bareStart !== undefined) return either(calls, sequence(pattern(`[^\\s\\${bareStart}]`), free));
  return sequence(allowsMany ? repeat(sequence(free, calls)) : optional(sequence(free, calls)), free);
}

function answerSyntax({ json: schema, jsonObject, regex, choice, grammar, structuralTag }: HeldAnswer): Syntax {
  if (jsonObject === true) return json({ type: 'object' });
  if (regex !== undefined) return { type: 'regex', pattern: regex };
  if (choice !== undefined)
    return { type: 'or', elements: Array.isArray(choice) ? choice.map((value) => ({ type: 'const_string', value })) : choice };
  if (grammar !== undefined) return { type: 'grammar', grammar };
  if (structuralTag !== undefined) {
    const tag: unknown = typeof structuralTag === 'string' ? parsed(structuralTag) : structuralTag;
    if (typeof tag !== 'object' || tag === null) return { type: 'structural_tag' };
    return 'format' in tag && typeof tag.format === 'object' && tag.format !== null ? (tag.format as Syntax) : { ...tag, type: 'structures' };
  }
  return json(typeof schema === 'string' ? parsed(schema) : schema);
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new MillraceError('GRAMMAR_INVALID', { message: 'The structured output is not valid JSON.' });
  }
}

function unsound(param: string, what: string): MillraceError {
  return new MillraceError('NOT_SUPPORTED', {
    message: `${what} is not supported.`,
    hint: 'It is refused rather than ignored, since the output could not be told apart or held to what was asked for.',
    param,
  });
}
