/**
 * A model's output, piece by piece, to content, reasoning and tool calls. The same parser reads streams and whole outputs: however an
 * output is cut, the events joined are the same.
 */
import { randomBytes } from 'node:crypto';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { CallSink, OutputEvent } from './output-events.ts';
import { type Marker, OutputReader, type Parsing } from './output-reader.ts';
import { type ReasoningFormat, tagsOf } from './reasoning.ts';
import type { CallContext, ToolCallFormat, ToolDefinition } from './tool-calls/format.ts';

/** Formats and tokens for a tokenizer: made once, shared by parsers. */
export interface OutputFormats {
  readonly reasoning: ReasoningFormat | null;
  readonly toolCalls: ToolCallFormat | null;
  /** Tags that are one token of the vocabulary. */
  readonly markers: ReadonlyMap<number, Marker>;
}

export interface OutputParserOptions {
  /** The prompt has opened the reasoning. */
  readonly beginsInReasoning?: boolean;
  readonly tools?: readonly ToolDefinition[];
  /** Calls reported at most; later ones are left out. */
  readonly maxCalls?: number;
  /** The output is calls or text, decided at its beginning: tags in the text are text. */
  readonly isEither?: boolean;
  /** For tests: ids of calls. */
  readonly drawId?: () => string;
}

/** A tag's token in a text: it stands before the character at `at`. */
export interface MarkerPosition {
  readonly at: number;
  readonly tokenId: number;
}

export function outputFormats(tokenizer: Tokenizer, reasoning: ReasoningFormat | null, toolCalls: ToolCallFormat | null): OutputFormats {
  const markers = new Map<number, Marker>();
  const tags = [...(toolCalls?.tokenTags ?? []), ...(reasoning === null ? [] : tagsOf(reasoning))];
  for (const spelling of tags) {
    const id = tokenizer.tokenId(spelling);
    if (id !== undefined) markers.set(id, { spelling, isSpecial: tokenizer.specialTokenIds.has(id) });
  }
  return { reasoning, toolCalls, markers };
}

export class OutputParser {
  readonly #formats: OutputFormats;
  readonly #reader: OutputReader;
  readonly #sink: EventSink;
  readonly #parsing: Parsing<void>;
  /** `unknown` until the first text, `none` when it was not reasoning. */
  reasoningState: 'unknown' | 'none' | 'open' | 'closed' = 'unknown';
  /** With `closed`: how much of the output was reasoning, its tags included. */
  reasoningEnd = { numBytes: 0, numMarkers: 0 };

  constructor(formats: OutputFormats, options: OutputParserOptions = {}) {
    this.#formats = formats;
    this.#reader = new OutputReader(new Set([...formats.markers.values()].map(({ spelling }) => spelling)));
    const drawId = options.drawId ?? (() => drawCallId(formats.toolCalls?.idLength));
    this.#sink = new EventSink(drawId, options.maxCalls ?? Number.POSITIVE_INFINITY, formats.toolCalls !== null);
    this.#parsing = this.#parse(options);
    this.#parsing.next();
  }

  /** @param markers tokens of `OutputFormats.markers` in this piece, by ascending place */
  push(text: string, markers: readonly MarkerPosition[] = []): OutputEvent[] {
    let start = 0;
    for (const { at, tokenId } of markers) {
      this.#reader.addText(text.slice(start, at));
      start = at;
      const marker = this.#formats.markers.get(tokenId);
      if (marker !== undefined) this.#reader.addMarker(marker);
    }
    this.#reader.addText(text.slice(start));
    this.#parsing.next();
    return this.#sink.take();
  }

  /** What the end of the output makes clear. */
  end(): OutputEvent[] {
    this.#reader.end();
    this.#parsing.next();
    this.#sink.finish();
    return this.#sink.take();
  }

  *#parse({ beginsInReasoning = false, tools = [], isEither = false }: OutputParserOptions): Parsing<void> {
    const { reasoning, toolCalls } = this.#formats;
    const reader = this.#reader;
    const sink = this.#sink;
    const parseOutput = toolCalls?.parseOutput ?? (toolCalls === null ? reasoning?.parseOutput : undefined);
    if (parseOutput !== undefined) return yield* this.#parseChannels(parseOutput, beginsInReasoning);
    if (reasoning !== null) yield* this.#parseReasoning(reasoning, beginsInReasoning);
    else this.reasoningState = 'none';
    const context: CallContext = { reader, sink, tools: new Map(tools.map((tool) => [tool.name, tool])) };
    if (toolCalls?.parseStart !== undefined) yield* toolCalls.parseStart(context);
    if (isEither && !(yield* this.#beginsWithCall(context))) {
      yield* reader.until([], (text) => sink.content(text));
      return;
    }
    for (;;) {
      const tag = yield* reader.until(toolCalls?.openTags ?? [], (text) => sink.content(text));
      if (tag === null || toolCalls === null) return;
      yield* toolCalls.parse(context, tag);
    }
  }

  /** Reads a call if the answer begins with one; no white space stands before it. */
  *#beginsWithCall(context: CallContext): Parsing<boolean> {
    const { toolCalls } = this.#formats;
    for (const tag of toolCalls?.openTags ?? []) {
      if (!(yield* this.#reader.acceptTag(tag))) continue;
      yield* toolCalls?.parse(context, tag) ?? [];
      return true;
    }
    return false;
  }

  /** All of the output is in messages: the first end of reasoning is what counts as such. */
  *#parseChannels(parse: NonNullable<ToolCallFormat['parseOutput']>, beginsInReasoning: boolean): Parsing<void> {
    const onReasoning = (state: 'open' | 'closed') => {
      if (this.reasoningState === 'closed') return;
      this.reasoningState = state;
      if (state === 'closed') this.reasoningEnd = this.#reader.consumed;
    };
    yield* parse({ reader: this.#reader, sink: this.#sink, onReasoning, beginsInReasoning });
    if (this.reasoningState === 'unknown') this.reasoningState = 'none';
  }

  /** Reasoning stands at the beginning or nowhere: later on its tags are what the answer talks about. */
  *#parseReasoning({ open, close }: ReasoningFormat, isOpen: boolean): Parsing<void> {
    const sink = this.#sink;
    this.#reader.record();
    const begins = (yield* this.#reader.acceptTag(open)) || isOpen;
    const text = this.#reader.recorded();
    if (!begins) {
      this.reasoningState = 'none';
      return sink.content(text);
    }
    this.reasoningState = 'open';
    sink.beginReasoning();
    if ((yield* this.#reader.until([close], (piece) => sink.reasoning(piece))) === null) return;
    sink.endReasoning();
    this.reasoningState = 'closed';
    this.reasoningEnd = this.#reader.consumed;
  }
}

/** Collects events and decides on white space: around calls and reasoning it belongs to the format, not to the text. */
class EventSink implements CallSink {
  readonly #drawId: () => string;
  readonly #maxCalls: number;
  readonly #holdsSpace: boolean;
  #events: OutputEvent[] = [];
  #numCalls = 0;
  /** White space that is text only if text follows. */
  #heldSpace = '';
  #trimsStart = false;
  #isReasoning = false;

  constructor(drawId: () => string, maxCalls: number, holdsSpace: boolean) {
    this.#drawId = drawId;
    this.#maxCalls = maxCalls;
    this.#holdsSpace = holdsSpace;
  }

  take(): OutputEvent[] {
    const events = this.#events;
    this.#events = [];
    return events;
  }

  content(text: string): void {
    this.#write('content', text, this.#holdsSpace);
  }

  reasoning(text: string): void {
    this.#write('reasoning', text, true);
  }

  beginReasoning(): void {
    this.#isReasoning = true;
    this.#trimsStart = true;
  }

  endReasoning(): void {
    this.#isReasoning = false;
    this.#heldSpace = '';
    this.#trimsStart = true;
  }

  start(name: string): void {
    this.#heldSpace = '';
    const index = this.#numCalls++;
    if (index < this.#maxCalls) this.#events.push({ type: 'toolCallStart', index, id: this.#drawId(), name });
  }

  arguments(text: string): void {
    const index = this.#numCalls - 1;
    if (index < this.#maxCalls) this.#events.push({ type: 'toolCallArguments', index, text });
  }

  end(): void {
    const index = this.#numCalls - 1;
    if (index < this.#maxCalls) this.#events.push({ type: 'toolCallEnd', index });
    this.#trimsStart = true;
  }

  /** The output is over: held white space was text. */
  finish(): void {
    if (this.#heldSpace !== '' && !this.#isReasoning) this.#events.push({ type: 'content', text: this.#heldSpace });
    this.#heldSpace = '';
  }

  #write(type: 'content' | 'reasoning', given: string, holdsSpace: boolean): void {
    let text = this.#heldSpace + given;
    this.#heldSpace = '';
    if (this.#trimsStart) {
      text = text.trimStart();
      if (text === '') return;
      this.#trimsStart = false;
    }
    if (holdsSpace) {
      const end = text.trimEnd().length;
      this.#heldSpace = text.slice(end);
      text = text.slice(0, end);
    }
    if (text !== '') this.#events.push({ type, text });
  }
}

const idLetters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789';

/** Letters and digits only; `call_` and 24 of them unless the template wants another length. */
function drawCallId(length?: number): string {
  const letters = Array.from(randomBytes(length ?? 24), (byte) => idLetters[byte % idLetters.length]).join('');
  return length === undefined ? `call_${letters}` : letters;
}
